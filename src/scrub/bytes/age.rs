//! What is old by the store's own clock.

use super::super::{Result, run::Run};
use crate::storage::{
    Entry,
    mutation::{mutated, read_before},
};

/// One reading of the store's clock, and what is old by it. It is read before a pass looks at anything.
#[derive(Clone, Copy, Debug)]
pub(in crate::scrub) struct Ages {
    /// Milliseconds since 1970.
    pub(in crate::scrub) now: u64,
    lease: u64,
    garbage: u64,
    trash: u64,
}

impl Ages {
    pub(in crate::scrub) async fn read(run: &Run<'_>) -> Result<Self> {
        let now = run.store.now().await?;
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Self::new(now, run.lease_ms(), millis(run.config.scrub.grace), millis(run.config.scrub.trash)))
    }

    fn new(now: u64, lease: u64, grace: u64, trash: u64) -> Self {
        Self { now, lease, garbage: lease.max(grace), trash: lease.max(trash) }
    }

    /// Nobody who is at work can have written it.
    pub(in crate::scrub) fn old(&self, entry: &Entry) -> bool {
        self.for_at_least(entry, self.lease)
    }

    /// As garbage it may go.
    pub(in crate::scrub) fn stale(&self, entry: &Entry) -> bool {
        self.for_at_least(entry, self.garbage)
    }

    /// As what a user deleted it may go.
    pub(in crate::scrub) fn past_trash(&self, entry: &Entry) -> bool {
        self.for_at_least(entry, self.trash)
    }

    /// When that was what is old by now: milliseconds since 1970.
    pub(in crate::scrub) fn old_before(&self) -> u64 {
        self.now.saturating_sub(self.lease)
    }

    fn for_at_least(&self, entry: &Entry, age: u64) -> bool {
        // a backend that does not say when gives no licence to remove
        let known = entry.modified > 0;
        known && (read_before(self.now).saturating_sub(entry.modified) >= age || mutated("no lease"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// At 10,000, with a lease of 100, a grace of 200 and a trash of 300.
    pub(in crate::scrub::bytes) const AGES: Ages = Ages { now: 10_000, lease: 100, garbage: 200, trash: 300 };

    pub(in crate::scrub::bytes) fn entry(key: &str, size: u64, age: u64) -> Entry {
        Entry { key: key.to_owned(), size, modified: AGES.now - age }
    }

    #[test]
    fn the_lease_holds_whatever_grace_and_trash_are() {
        let ages = Ages::new(10_000, 100, 0, 0);
        let at = |age| entry("a", 0, age);
        assert!(!ages.old(&at(99)) && !ages.stale(&at(99)) && !ages.past_trash(&at(99)));
        assert!(ages.old(&at(100)) && ages.stale(&at(100)) && ages.past_trash(&at(100)));
        assert!(AGES.old(&at(100)) && !AGES.stale(&at(199)) && AGES.stale(&at(200)) && !AGES.past_trash(&at(299)));
        assert_eq!(ages.old_before(), 9_900);
    }

    #[test]
    fn what_is_of_no_known_age_or_newer_than_now_is_young() {
        let unknown = Entry { key: "a".into(), size: 0, modified: 0 };
        let future = Entry { key: "a".into(), size: 0, modified: 20_000 };
        assert!(!AGES.old(&unknown) && !AGES.old(&future));
    }
}
