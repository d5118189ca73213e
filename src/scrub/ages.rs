//! Ages of objects, by the store's clock.

use std::time::Duration;

use crate::{
    config::Scrub,
    storage::{
        Entry,
        mutation::{Mutation, mutated, read_before},
    },
};

/// A moment of the store's clock, read before the look at anything that is judged by it, with the limits of ages.
#[derive(Clone, Copy, Debug)]
pub(super) struct AgeThresholds {
    now: u64,
    lease: u64,
    grace: u64,
    trash: u64,
    untagged: u64,
}

impl AgeThresholds {
    /// Returns the thresholds at a time of the store, by a lease in milliseconds. It raises each threshold to the lease:
    /// nothing younger than the lease is judged.
    pub(super) fn new(now: u64, lease: u64, scrub: &Scrub) -> Self {
        Self::of_milliseconds(now, lease, [scrub.grace, scrub.trash, scrub.untagged_grace].map(milliseconds))
    }

    /// Returns ages by the last known time of the store, with a wished lease, in milliseconds. For read-only callers,
    /// which must not write the object that the store tells its time by.
    pub(super) fn as_known(now: u64, lease: u64, scrub: &Scrub) -> Self {
        Self::new(now, lease.max(milliseconds(scrub.upload_expiry)), scrub)
    }

    fn of_milliseconds(now: u64, lease: u64, others: [u64; 3]) -> Self {
        let [grace, trash, untagged] = others.map(|age| age.max(lease));
        Self { now, lease, grace, trash, untagged }
    }

    /// Returns the lease in milliseconds.
    pub(super) const fn lease(self) -> u64 {
        self.lease
    }

    /// Returns the moment, in milliseconds since 1970.
    pub(super) const fn at(self) -> u64 {
        self.now
    }

    /// Returns the time in milliseconds since 1970 before which an object has to be written to count as old.
    pub(super) const fn old_before(self) -> u64 {
        self.now.saturating_sub(self.lease)
    }

    /// Returns the age of an object in milliseconds. An object whose time the store does not tell has the age 0.
    pub(super) fn of(self, entry: &Entry) -> u64 {
        match entry.modified {
            0 => 0,
            _ if mutated(Mutation::NoLease) => u64::MAX,
            modified => read_before(self.now).saturating_sub(modified),
        }
    }

    /// Returns whether an object is older than the lease, so that no writer is at work on it any more.
    pub(super) fn is_old(self, entry: &Entry) -> bool {
        self.of(entry) >= self.lease
    }

    /// Returns the time from which on an object counts as old that was written at `modified`. Returns nothing if the
    /// store does not tell that time.
    pub(super) const fn old_from(self, modified: u64) -> Option<u64> {
        if modified == 0 { None } else { Some(modified.saturating_add(self.lease)) }
    }

    /// Returns whether an object has the age at which scrub may free it as garbage.
    pub(super) fn is_past_grace(self, entry: &Entry) -> bool {
        self.of(entry) >= self.grace
    }

    /// Returns whether the trash time of a tombstone or unlink is over. After that, no restore of the deleted thing is
    /// possible.
    pub(super) fn is_past_trash(self, entry: &Entry) -> bool {
        self.of(entry) >= self.trash
    }

    /// Returns whether an untagged manifest with this entry has had the time in which it could get a tag.
    pub(super) fn is_past_untagged(self, entry: &Entry) -> bool {
        self.of(entry) >= self.untagged
    }

    /// Returns whether a manifest that lost its tag at this time, in milliseconds since 1970, has had the time in which
    /// it could get another. Returns false for 0.
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

    /// Ages at 10,000, with a lease of 100, a grace of 200, a trash of 300 and a grace of the untagged of 400.
    pub(in crate::scrub) const AGES: AgeThresholds =
        AgeThresholds { now: 10_000, lease: 100, grace: 200, trash: 300, untagged: 400 };

    pub(in crate::scrub) fn entry(key: &str, size: u64, age: u64) -> Entry {
        Entry { key: key.to_owned(), size, modified: AGES.now - age }
    }

    #[test]
    fn the_lease_holds_whatever_the_others_are() {
        let ages = AgeThresholds::of_milliseconds(10_000, 100, [0, 0, 0]);
        let all = |ages: AgeThresholds, age| {
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
