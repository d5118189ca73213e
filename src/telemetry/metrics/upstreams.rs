//! Counts the questions to upstreams, by the upstream's host. Hosts come from the configuration, so they are few.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{by_label::ByLabel, histogram::Histogram};

/// The counts of all upstreams.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<BTreeMap<Arc<str>, Arc<Counts>>>);

/// The counts of one upstream.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By outcome.
    pub(super) questions: ByLabel<AtomicU64>,
    pub(super) duration: Histogram,
    pub(super) bytes: AtomicU64,
    /// The requests that are left, plus one; 0 if the upstream does not say it.
    pub(super) remaining: AtomicU64,
    /// 1 while the upstream rests after failures.
    pub(super) resting: AtomicU64,
}

impl Upstreams {
    pub(super) fn of(&self, host: &str) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = all.get(host) {
            return Arc::clone(counts);
        }
        Arc::clone(all.entry(host.into()).or_default())
    }

    pub(super) fn sorted(&self) -> Vec<(Arc<str>, Arc<Counts>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(host, counts)| (Arc::clone(host), Arc::clone(counts))).collect()
    }
}

impl Counts {
    pub(super) fn asked(&self, outcome: &'static str, duration: Option<Duration>) {
        self.questions.with(outcome, |count| count.fetch_add(1, Ordering::Relaxed));
        if let Some(duration) = duration {
            self.duration.observe(duration);
        }
    }
}

/// Counts the bytes of blobs that one upstream sends. It is found once for each stream, since pieces are many.
#[derive(Clone, Debug)]
pub struct UpstreamBytes(pub(super) Arc<Counts>);

impl UpstreamBytes {
    /// Counts bytes.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
