//! Decides about a manifest from its state.

use super::super::Reason;
use crate::config::Untagged;

/// The state of a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its newest version.
    pub(super) newest: Newest,
    /// True if a tag means it.
    pub(super) tagged: bool,
    /// The state of the indexes whose index references need it.
    pub(super) parents: ReferenceState,
    /// The state of its subject.
    pub(super) subject: ReferenceState,
}

/// The newest version of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newest {
    /// There is no version.
    Nothing,
    /// A tombstone. Past the trash time, the manifest cannot be restored.
    Gone {
        /// True if the trash time is over.
        past_trash: bool,
    },
    /// The manifest exists.
    There {
        /// True if the version is older than a lease.
        old: bool,
        /// True if the manifest has had time to get a tag.
        past_untagged: bool,
    },
}

/// The state of the manifests that may keep another manifest: its indexes, or its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum ReferenceState {
    /// There are none, or none of them ever existed.
    Never,
    /// One exists, or a push may be about to write it.
    Stands,
    /// None exists, and at least one was deleted.
    Gone,
}

/// The decision about a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// Scrub removes it by the delete sequence.
    Goes(Reason),
    /// It was deleted, and can be restored.
    Gone,
    /// Scrub may free its remains.
    Dead,
}

impl Seen {
    /// Returns the decision about the manifest.
    pub(super) fn fate(self, untagged: Untagged) -> Fate {
        let (old, past_untagged) = match self.newest {
            Newest::Nothing | Newest::Gone { past_trash: true } => return Fate::Dead,
            Newest::Gone { past_trash: false } => return Fate::Gone,
            Newest::There { old, past_untagged } => (old, past_untagged),
        };
        // a push may be about to write the tag, index or subject that keeps a young manifest
        if self.tagged || !old || self.parents == ReferenceState::Stands || self.subject == ReferenceState::Stands {
            return Fate::Stays;
        }
        if self.parents == ReferenceState::Gone {
            return Fate::Goes(Reason::WithIndex);
        }
        if self.subject == ReferenceState::Gone {
            return Fate::Goes(Reason::WithSubject);
        }
        if untagged == Untagged::Delete && past_untagged { Fate::Goes(Reason::Untagged) } else { Fate::Stays }
    }

    /// Returns whether scrub can decide about the manifest without its deleted indexes. If so, the index references of
    /// a deleted index have no reader.
    pub(super) fn stands_by_itself(self) -> bool {
        !matches!(self.newest, Newest::There { .. })
            || self.tagged
            || self.parents == ReferenceState::Stands
            || self.subject == ReferenceState::Stands
    }
}

/// Returns how many of the oldest versions scrub may free: of an existing manifest, of a referrer, or below the newest
/// tombstone. `old` tells of each version, newest first, whether it is older than a lease.
pub(super) fn superseded(old: &[bool]) -> usize {
    match old.split_first() {
        Some((true, older)) => older.iter().rev().take_while(|old| **old).count(),
        _ => 0,
    }
}

/// Returns the places of the records that scrub may free among several records of one need, each with its time and
/// whether it is old. Young records stay. The newest old record stays if the thing that has the need exists.
pub(super) fn spare(facts: &[(u64, bool)], stands: bool) -> Vec<usize> {
    let newest = facts.iter().enumerate().filter(|(_, (_, old))| *old).max_by_key(|(_, (written, _))| *written);
    let keep = newest.map(|(at, _)| at).filter(|_| stands);
    (0..facts.len()).filter(|at| facts[*at].1 && Some(*at) != keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Newest = Newest::There { old: false, past_untagged: false };
    const OLD: Newest = Newest::There { old: true, past_untagged: false };
    const OLDER: Newest = Newest::There { old: true, past_untagged: true };

    #[test]
    fn what_becomes_of_a_manifest() {
        use ReferenceState::{Gone, Never, Stands};
        let goes = Fate::Goes;
        for (newest, tagged, parents, subject, kept, deleted) in [
            (Newest::Nothing, false, Never, Never, Fate::Dead, Fate::Dead),
            (Newest::Gone { past_trash: false }, false, Never, Never, Fate::Gone, Fate::Gone),
            (Newest::Gone { past_trash: true }, true, Stands, Stands, Fate::Dead, Fate::Dead),
            // a tag keeps it, whatever else was deleted
            (OLDER, true, Never, Never, Fate::Stays, Fate::Stays),
            (OLDER, true, Gone, Gone, Fate::Stays, Fate::Stays),
            // an index or a subject keeps it
            (OLDER, false, Stands, Never, Fate::Stays, Fate::Stays),
            (OLDER, false, Never, Stands, Fate::Stays, Fate::Stays),
            (OLDER, false, Gone, Stands, Fate::Stays, Fate::Stays),
            (OLDER, false, Stands, Gone, Fate::Stays, Fate::Stays),
            // scrub removes it with them
            (OLD, false, Gone, Never, goes(Reason::WithIndex), goes(Reason::WithIndex)),
            (OLD, false, Never, Gone, goes(Reason::WithSubject), goes(Reason::WithSubject)),
            (OLD, false, Gone, Gone, goes(Reason::WithIndex), goes(Reason::WithIndex)),
            // nothing ever needed it
            (OLDER, false, Never, Never, Fate::Stays, goes(Reason::Untagged)),
            (OLD, false, Never, Never, Fate::Stays, Fate::Stays),
            // its push may be at work
            (YOUNG, false, Gone, Gone, Fate::Stays, Fate::Stays),
            (YOUNG, false, Never, Never, Fate::Stays, Fate::Stays),
        ] {
            let seen = Seen { newest, tagged, parents, subject };
            assert_eq!((seen.fate(Untagged::Keep), seen.fate(Untagged::Delete)), (kept, deleted), "{seen:?}");
        }
    }

    #[test]
    fn versions_are_freed_below_an_old_one_only_oldest_first_and_never_a_young_one() {
        for (old, freed) in [
            (&[][..], 0),
            (&[true], 0),
            (&[true, true], 1),
            (&[true, true, true], 2),
            (&[false, true, true], 0),
            (&[true, false, true], 1),
            (&[true, true, false], 0),
        ] {
            assert_eq!(superseded(old), freed, "{old:?}");
        }
    }

    #[test]
    fn of_several_facts_the_newest_old_one_stays_while_it_has_a_reader() {
        let facts = [(10, true), (30, false), (20, true), (5, true)];
        assert_eq!(spare(&facts, true), [0, 3]);
        assert_eq!(spare(&facts, false), [0, 2, 3]);
        assert_eq!(spare(&[(1, false)], false), Vec::<usize>::new());
        assert_eq!(spare(&[(1, true)], true), Vec::<usize>::new());
    }
}
