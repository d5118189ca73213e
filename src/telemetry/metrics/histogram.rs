//! Counts durations in a histogram.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in seconds, each inclusive: from a small read that is cached to a large push.
const BOUNDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Durations counted in buckets, by atomics alone: threads that observe at once do not wait for each other.
#[derive(Debug)]
pub(super) struct Histogram {
    /// A count for each of [`BOUNDS`], and one for longer durations.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds; enough for 584 years of requests.
    sum: AtomicU64,
}

/// Holds the values of a histogram at one moment.
pub(super) struct Observed {
    /// Seconds.
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bound and number of observations, not cumulative; the last bound is infinity.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns the present values. The count is the sum of the read buckets, so the two always agree. The sum of
    /// durations may include later observations.
    pub(super) fn observed(&self) -> Observed {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        Observed { sum, count, buckets }
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }
}
