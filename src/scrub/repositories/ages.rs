//! How old things are, by the store's clock.

use std::time::Duration;

use super::super::{Result, run::Run};
use crate::storage::{
    Entry,
    mutation::{mutated, read_before},
};

/// A moment of the store's clock, from before what is judged by it was looked at.
#[derive(Clone, Copy, Debug)]
pub(in crate::scrub) struct Ages {
    now: u64,
    lease: u64,
    grace: u64,
    trash: u64,
    untagged: u64,
}

impl Ages {
    pub(in crate::scrub) async fn now(run: &Run<'_>) -> Result<Self> {
        let scrub = &run.config.scrub;
        let at_least_lease = |duration: Duration| milliseconds(duration).max(run.lease_ms());
        Ok(Self {
            now: run.store.now().await?,
            lease: run.lease_ms(),
            grace: at_least_lease(scrub.grace),
            trash: at_least_lease(scrub.trash),
            untagged: at_least_lease(scrub.untagged_grace),
        })
    }

    /// For who only looks: nothing is old.
    pub(in crate::scrub) const fn unknown() -> Self {
        Self { now: 0, lease: u64::MAX, grace: u64::MAX, trash: u64::MAX, untagged: u64::MAX }
    }

    /// Milliseconds since 1970.
    pub(in crate::scrub) const fn at(self) -> u64 {
        self.now
    }

    /// In milliseconds. What the store does not say is young.
    pub(in crate::scrub) fn of(self, entry: &Entry) -> u64 {
        match entry.modified {
            0 => 0,
            _ if mutated("no lease") => u64::MAX,
            modified => read_before(self.now).saturating_sub(modified),
        }
    }

    /// Nobody is at work on it any more.
    pub(in crate::scrub) fn is_old(self, entry: &Entry) -> bool {
        self.of(entry) >= self.lease
    }

    /// As garbage it may be freed.
    pub(in crate::scrub) fn is_past_grace(self, entry: &Entry) -> bool {
        self.of(entry) >= self.grace
    }

    /// What was deleted then is not brought back any more.
    pub(in crate::scrub) fn is_past_trash(self, entry: &Entry) -> bool {
        self.of(entry) >= self.trash || mutated("gone freed at once")
    }

    /// What has no tag since then has had time to get one.
    pub(in crate::scrub) fn is_past_untagged(self, entry: &Entry) -> bool {
        self.of(entry) >= self.untagged
    }

    /// As much, since a time in milliseconds since 1970.
    pub(in crate::scrub) fn is_past_untagged_since(self, at: u64) -> bool {
        self.now.saturating_sub(at) >= self.untagged
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
