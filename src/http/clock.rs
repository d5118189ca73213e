//! How long a request may take to begin its answer: counted from the end of its body.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A request's clock; it stands still while a body moves.
#[derive(Clone)]
pub(super) struct Clock {
    began: Instant,
    limit: Duration,
    /// Milliseconds after `began` from which time counts; `STOPPED` while it does not.
    from: Arc<AtomicU64>,
}

const STOPPED: u64 = u64::MAX;

impl Clock {
    pub(super) fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, from: Arc::new(AtomicU64::new(0)) }
    }

    /// When the request came.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn stop(&self) {
        self.from.store(STOPPED, Ordering::Relaxed);
    }

    /// Counts from now on.
    pub(super) fn start(&self) {
        self.from.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(STOPPED - 1), Ordering::Relaxed);
    }

    /// The outcome of `work`, or nothing where it took too long.
    pub(super) async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut wait = self.limit;
        loop {
            // what is ready at once costs no timer
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
