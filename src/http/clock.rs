//! Limits the time from the end of a request's body to the begin of its answer.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A request's clock. It stands still while a body moves.
#[derive(Clone)]
pub(super) struct Clock {
    began: Instant,
    limit: Duration,
    /// The milliseconds after `began` from which time counts; `STOPPED` while the clock stands still.
    from: Arc<AtomicU64>,
}

const STOPPED: u64 = u64::MAX;

impl Clock {
    /// Starts a clock with a time limit.
    pub(super) fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, from: Arc::new(AtomicU64::new(0)) }
    }

    /// Returns the time at which the request arrived.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Stops the clock.
    pub(super) fn stop(&self) {
        self.from.store(STOPPED, Ordering::Relaxed);
    }

    /// Starts the clock anew.
    pub(super) fn start(&self) {
        self.from.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(STOPPED - 1), Ordering::Relaxed);
    }

    /// Returns the outcome of `work`, or `None` if it took too long.
    pub(super) async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut wait = self.limit;
        loop {
            // work that is ready at once costs no timer
            if let Ok(done) = tokio::time::timeout(wait, work.as_mut()).await {
                return Some(done);
            }
            wait = match self.from.load(Ordering::Relaxed) {
                STOPPED => self.limit,
                from => {
                    let until = Duration::from_millis(from) + self.limit;
                    match until.checked_sub(self.began.elapsed()) {
                        Some(left) if !left.is_zero() => left,
                        _ => return None,
                    }
                }
            };
        }
    }
}
