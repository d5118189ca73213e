//! How old things are, by the store's clock.

use std::time::Duration;

use super::{Result, run::Run};
use crate::{
    config::Scrub,
    storage::{
        Entry,
        mutation::{mutated, read_before},
    },
};

/// A moment of the store's clock, from before what is judged by it was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    now: u64,
    lease: u64,
    grace: u64,
    trash: u64,
    untagged: u64,
}

impl Ages {
    /// Asks the store for its time: before anything is looked at that is judged by it.
    pub(super) async fn now(run: &Run<'_>) -> Result<Self> {
        let (now, lease) = run.time_and_lease().await?;
        Ok(Self::by(now, lease, &run.config.scrub))
    }

    /// Returns ages by the store's time as far as it is known, and the lease of a wish. For callers that only look, which
    /// must not write the object that [`Ages::now`] reads the time from.
    pub(super) fn as_known(now: u64, lease: u64, scrub: &Scrub) -> Self {
        Self::by(now, lease.max(milliseconds(scrub.upload_expiry)), scrub)
    }

    fn by(now: u64, lease: u64, scrub: &Scrub) -> Self {
        let others = [scrub.grace, scrub.trash, scrub.untagged_grace].map(milliseconds);
        Self::new(now, lease, others)
    }

    /// The lease holds, whatever the others are.
    fn new(now: u64, lease: u64, others: [u64; 3]) -> Self {
        let [grace, trash, untagged] = others.map(|age| age.max(lease));
        Self { now, lease, grace, trash, untagged }
    }

    /// Returns the lease in milliseconds.
    pub(super) const fn lease(self) -> u64 {
        self.lease
    }

    /// Milliseconds since 1970.
    pub(super) const fn at(self) -> u64 {
        self.now
    }

    /// When that was what is old by now: milliseconds since 1970.
    pub(super) const fn old_before(self) -> u64 {
        self.now.saturating_sub(self.lease)
    }

    /// In milliseconds. What the store does not say is young.
    pub(super) fn of(self, entry: &Entry) -> u64 {
        match entry.modified {
            0 => 0,
            _ if mutated("no lease") => u64::MAX,
            modified => read_before(self.now).saturating_sub(modified),
        }
    }

    /// Nobody is at work on it any more.
    pub(super) fn is_old(self, entry: &Entry) -> bool {
        self.of(entry) >= self.lease
    }

    /// Returns the time from which on an object counts as old that was written at `modified`. Returns nothing if the store
    /// does not tell that time.
    pub(super) const fn old_from(self, modified: u64) -> Option<u64> {
        if modified == 0 { None } else { Some(modified.saturating_add(self.lease)) }
    }

    /// As garbage it may be freed.
    pub(super) fn is_past_grace(self, entry: &Entry) -> bool {
        self.of(entry) >= self.grace
    }

    /// What was deleted then is not brought back any more.
    pub(super) fn is_past_trash(self, entry: &Entry) -> bool {
        self.of(entry) >= self.trash
    }

    /// What has no tag since then has had time to get one.
    pub(super) fn is_past_untagged(self, entry: &Entry) -> bool {
        self.of(entry) >= self.untagged
    }

    /// As much, since a time in milliseconds since 1970.
    pub(super) fn is_past_untagged_since(self, at: u64) -> bool {
        at > 0 && self.now.saturating_sub(at) >= self.untagged
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// At 10,000, with a lease of 100, a grace of 200, a trash of 300 and a grace of the untagged of 400.
    pub(in crate::scrub) const AGES: Ages = Ages { now: 10_000, lease: 100, grace: 200, trash: 300, untagged: 400 };

    pub(in crate::scrub) fn entry(key: &str, size: u64, age: u64) -> Entry {
        Entry { key: key.to_owned(), size, modified: AGES.now - age }
    }

    #[test]
    fn the_lease_holds_whatever_the_others_are() {
        let ages = Ages::new(10_000, 100, [0, 0, 0]);
        let all = |ages: Ages, age| {
            let entry = entry("a", 0, age);
            [
                ages.is_old(&entry),
                ages.is_past_grace(&entry),
                ages.is_past_trash(&entry),
                ages.is_past_untagged(&entry),
                ages.is_past_untagged_since(entry.modified),
            ]
        };
        assert_eq!((all(ages, 99), all(ages, 100)), ([false; 5], [true; 5]));
        assert_eq!(all(AGES, 100), [true, false, false, false, false]);
        assert_eq!(all(AGES, 200), [true, true, false, false, false]);
        assert_eq!(all(AGES, 300), [true, true, true, false, false]);
        assert_eq!(all(AGES, 400), [true; 5]);
        assert_eq!(ages.old_before(), 9_900);
    }

    #[test]
    fn what_is_of_no_known_age_or_newer_than_now_is_young() {
        let unknown = Entry { key: "a".into(), size: 0, modified: 0 };
        let future = Entry { key: "a".into(), size: 0, modified: 20_000 };
        assert!(!AGES.is_old(&unknown) && !AGES.is_old(&future));
    }
}
