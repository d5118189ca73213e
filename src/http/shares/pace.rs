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
        self.window().waits(Instant::now());
    }

    /// Notes that the client took or sent bytes. The server does not wait for the client any more.
    pub(in crate::http) fn moved(&self, bytes: u64) {
        self.window().moved(bytes, Instant::now());
    }

    /// Notes that the client took or sent bytes, and that the server waits for more.
    pub(in crate::http) fn moved_and_waits(&self, bytes: u64) {
        let now = Instant::now();
        let mut window = self.window();
        window.moved(bytes, now);
        window.waits(now);
    }

    /// Returns the time of the present wait for the client.
    pub(in crate::http) fn silent(&self) -> Duration {
        self.window().silent(Instant::now())
    }

    /// Returns the bytes a second, for comparing clients. A client that has just begun has the benefit of the doubt.
    pub(super) fn speed(&self) -> f64 {
        self.window().speed(Instant::now())
    }

    /// Makes the client slow: it moved nothing in the window before.
    #[cfg(test)]
    pub(super) fn slow_down(&self) {
        self.window().before = Some(0.0);
    }

    /// Returns true if the client moved fewer bytes a second than `least`, over the last window.
    pub(super) fn is_below(&self, least: u64) -> bool {
        self.window().is_below(least, Instant::now())
    }
}

impl Window {
    fn waits(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn moved(&mut self, bytes: u64, now: Instant) {
        let waited = self.waited(now);
        let moved = self.moved + bytes;
        *self = if waited < WINDOW {
            Self { moved, waited, since: None, before: self.before }
        } else {
            Self { before: Some(rate(moved, waited)), ..Self::default() }
        };
    }

    fn silent(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn waited(&self, now: Instant) -> Duration {
        self.waited + self.silent(now)
    }

    fn speed(&self, now: Instant) -> f64 {
        let before = self.before.unwrap_or(UNKNOWN);
        (rate(self.moved, Duration::from_secs(1)) + before) / (self.waited(now).as_secs_f64() + 1.0)
    }

    fn is_below(&self, least: u64, now: Instant) -> bool {
        let waited = self.waited(now);
        let rate_of_last = if waited < WINDOW { self.before } else { Some(rate(self.moved, waited)) };
        rate_of_last.is_some_and(|bytes| bytes < rate(least, Duration::from_secs(1)))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a pace need not be exact")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// A window, and the time of its clock.
    struct Moving(Window, Instant);

    impl Moving {
        fn new() -> Self {
            Self(Window::default(), Instant::now())
        }

        /// Waits for the client, which then moves bytes.
        fn wait(&mut self, seconds: u64, bytes: u64) {
            self.0.waits(self.1);
            self.1 += Duration::from_secs(seconds);
            self.0.moved(bytes, self.1);
        }

        fn is_below(&self) -> bool {
            self.0.is_below(KIB, self.1)
        }
    }

    #[test]
    fn a_client_is_slow_only_after_thirty_seconds_of_waiting() {
        let mut client = Moving::new();
        client.wait(29, 0);
        assert!(!client.is_below(), "29 s are no whole window");
        client.0.waits(client.1);
        client.1 += Duration::from_secs(1);
        assert!(client.is_below(), "a wait that lasts counts");
    }

    #[test]
    fn the_rate_itself_is_quick_enough() {
        for (bytes, is_below) in [(30 * KIB - 1, true), (30 * KIB, false)] {
            let mut client = Moving::new();
            client.wait(30, bytes);
            assert_eq!(client.is_below(), is_below, "{bytes} bytes in 30 s");
        }
    }

    #[test]
    fn the_time_of_the_store_does_not_count() {
        let mut client = Moving::new();
        client.wait(15, 0);
        client.1 += Duration::from_hours(1);
        client.wait(14, 0);
        assert!(!client.is_below());
        assert_eq!(client.0.silent(client.1), Duration::ZERO);
        client.wait(1, 0);
        assert!(client.is_below());
    }

    #[test]
    fn a_client_is_judged_by_its_last_whole_window() {
        let mut client = Moving::new();
        client.wait(30, 0);
        client.wait(29, 30 * KIB);
        assert!(client.is_below(), "the second window is not over");
        client.wait(1, 0);
        assert!(!client.is_below());
        client.wait(29, 0);
        assert!(!client.is_below(), "the third window is not over");
        client.wait(1, 0);
        assert!(client.is_below());
    }
}
