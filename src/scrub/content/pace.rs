//! How scrub steps aside while others want the machine.
//!
//! It runs in spare time anyway, but what it reads goes through the same memory and caches, and the kernel finishes a read
//! that it has begun. So it measures what it is denied: hashing waits for nothing but a core, and when that takes longer than
//! the work in it, somebody else wants the core. Then it rests for several times as long as it worked.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::priority::thread_time;

/// The share of time without a core from which on others count as busy.
const BUSY: f64 = 0.05;
/// How much the latest piece of work counts beside those before it.
const LATEST: f64 = 0.2;
/// How many times as long as it worked it then rests.
const REST: u32 = 19;
/// Rests are at least this long: timers are not finer than a millisecond.
const LEAST: Duration = Duration::from_millis(4);

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    wall: Duration,
    core: Duration,
}

/// Does something that waits for nothing but a core.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (began, had) = (Instant::now(), thread_time());
    let result = work();
    let took = Took { wall: began.elapsed(), core: thread_time().saturating_sub(had) };
    (result, took)
}

/// Whether others are busy, by what pieces of work took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    denied: f64,
    owed: Duration,
}

impl Pace {
    /// Takes a piece of work into account; how long to rest now.
    fn rest(&mut self, took: Took) -> Option<Duration> {
        let wall = took.wall.as_secs_f64().max(f64::EPSILON);
        let denied = took.wall.saturating_sub(took.core).as_secs_f64() / wall;
        self.denied = (1.0 - LATEST) * self.denied + LATEST * denied;
        if self.denied < BUSY {
            self.owed = Duration::ZERO;
            return None;
        }
        self.owed += took.core * REST;
        (self.owed >= LEAST).then(|| std::mem::take(&mut self.owed))
    }

    /// Takes a piece of work into account, and rests where others are busy.
    pub(super) async fn keep(&mut self, took: Took) {
        if let Some(rest) = self.rest(took) {
            sleep(rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_rests_while_others_are_busy_and_not_otherwise() {
        let mut pace = Pace::default();
        let (alone, beside) = (Took { wall: MS, core: MS }, Took { wall: 2 * MS, core: MS });
        assert!((0..100).all(|_| pace.rest(alone).is_none()));
        let rested: Duration = (0..100).filter_map(|_| pace.rest(beside)).sum();
        assert!((1850 * MS..=1900 * MS).contains(&rested), "{rested:?}");
        let until_quiet = (0..100).filter_map(|_| pace.rest(alone)).count();
        assert!((1..30).contains(&until_quiet), "{until_quiet}");
        assert!(pace.rest(alone).is_none());
    }
}
