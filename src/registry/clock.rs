//! The clock that leases are measured by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The clock of this process: monotonic for what is measured, and the time of day for what is written down.
///
/// One that is set by hand is for tests: it stands still until it is advanced.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<ByHand>>);

#[derive(Debug)]
struct ByHand {
    began: Instant,
    passed_ms: AtomicU64,
    /// How often it was looked at.
    #[cfg(test)]
    looks: AtomicU64,
}

impl ByHand {
    fn passed(&self) -> u64 {
        #[cfg(test)]
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.passed_ms.load(Ordering::SeqCst)
    }
}

/// The time of day at which a clock that is set by hand begins: milliseconds since 1970.
const BEGINNING_MS: u64 = 1_800_000_000_000;

impl Clock {
    /// A clock that stands still.
    #[must_use]
    pub fn by_hand() -> Self {
        Self(Some(Arc::new(ByHand {
            began: Instant::now(),
            passed_ms: AtomicU64::new(0),
            #[cfg(test)]
            looks: AtomicU64::new(0),
        })))
    }

    /// Lets time pass on a clock that is set by hand; another one passes by itself.
    pub fn advance(&self, time: Duration) {
        if let Some(by_hand) = &self.0 {
            by_hand.passed_ms.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Now, for what is measured.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(by_hand) => by_hand.began + Duration::from_millis(by_hand.passed()),
        }
    }

    /// How long ago `then` was.
    #[must_use]
    pub fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }

    /// Milliseconds since 1970, for what is written down.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            Some(by_hand) => BEGINNING_MS + by_hand.passed(),
        }
    }

    /// Sets a clock that is set by hand to so many milliseconds since 1970, be it back.
    #[cfg(test)]
    pub(crate) fn set_ms(&self, now: u64) {
        if let Some(by_hand) = &self.0 {
            by_hand.passed_ms.store(now - BEGINNING_MS, Ordering::SeqCst);
        }
    }

    /// How often a clock that is set by hand has been looked at.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.0.as_ref().map_or(0, |by_hand| by_hand.looks.load(Ordering::SeqCst))
    }
}
