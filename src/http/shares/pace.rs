//! Measures how quickly a client takes or sends bytes. The time in which the server waits for the store does not count.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The time of waiting over which a pace is measured.
const WINDOW: Duration = Duration::from_secs(30);
/// The pace that a client has before it is known, in bytes a second.
const UNKNOWN: f64 = 65_536.0;

/// The pace of one client on one transfer or connection.
#[derive(Debug, Default)]
pub(in crate::http) struct Pace(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    moved: u64,
    /// The time in which the server waited for the client.
    waited: Duration,
    /// The begin of the present wait for the client.
    since: Option<Instant>,
    /// The bytes a second of the window before.
    before: Option<f64>,
}

impl Pace {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the server waits for the client from now on.
    pub(in crate::http) fn waits(&self) {
        self.window().since.get_or_insert_with(Instant::now);
    }

    /// Notes that the client took or sent bytes. The server does not wait for the client any more.
    pub(in crate::http) fn moved(&self, bytes: u64) {
        let mut window = self.window();
        let waited = window.waited();
        window.moved += bytes;
        *window = if waited < WINDOW {
            Window { moved: window.moved, waited, since: None, before: window.before }
        } else {
            Window { before: Some(rate(window.moved, waited)), ..Window::default() }
        };
    }

    /// Returns the time of the present wait for the client.
    pub(in crate::http) fn silent(&self) -> Duration {
        self.window().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Returns the bytes a second, for comparing clients. A client that has just begun has the benefit of the doubt.
    pub(super) fn speed(&self) -> f64 {
        let window = self.window();
        let before = window.before.unwrap_or(UNKNOWN);
        (rate(window.moved, Duration::from_secs(1)) + before) / (window.waited().as_secs_f64() + 1.0)
    }

    /// Returns true if the client moved fewer bytes a second than `least`, over the last window.
    pub(super) fn is_below(&self, least: u64) -> bool {
        let window = self.window();
        let waited = window.waited();
        let rate_of_last = if waited < WINDOW { window.before } else { Some(rate(window.moved, waited)) };
        rate_of_last.is_some_and(|bytes| bytes < rate(least, Duration::from_secs(1)))
    }
}

impl Window {
    fn waited(&self) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a pace need not be exact")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64()
}
