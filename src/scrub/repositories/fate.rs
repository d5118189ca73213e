//! What becomes of a manifest, decided from what was seen of it.

use super::super::Reason;
use crate::config::Untagged;

/// What was seen of a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its newest version.
    pub(super) newest: Newest,
    /// Whether a tag means it.
    pub(super) tagged: bool,
    /// The indexes that say that they need it.
    pub(super) parents: Upheld,
    /// The manifest that it refers to.
    pub(super) subject: Upheld,
}

/// The newest version of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newest {
    /// It has none.
    Nothing,
    /// It is gone; past the trash it cannot be brought back.
    Gone {
        /// Whether it is past the trash.
        past_trash: bool,
    },
    /// It is there.
    There {
        /// Whether it is older than a lease.
        old: bool,
        /// Whether it has had time to get a tag.
        past_untagged: bool,
    },
}

/// What those say that may uphold a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Upheld {
    /// There are none, or none of them ever stood.
    Never,
    /// One stands, or may be about to.
    Stands,
    /// None stands, and at least one is gone.
    Gone,
}

/// What becomes of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// It goes, as by a delete.
    Goes(Reason),
    /// It is gone, and can be brought back.
    Gone,
    /// What is left of it can be freed.
    Dead,
}

impl Seen {
    /// What becomes of it.
    pub(super) fn fate(self, untagged: Untagged) -> Fate {
        let (old, past_untagged) = match self.newest {
            Newest::Nothing | Newest::Gone { past_trash: true } => return Fate::Dead,
            Newest::Gone { past_trash: false } => return Fate::Gone,
            Newest::There { old, past_untagged } => (old, past_untagged),
        };
        // what is young may be about to get what upholds it
        if self.tagged || !old || self.parents == Upheld::Stands || self.subject == Upheld::Stands {
            return Fate::Stays;
        }
        if self.parents == Upheld::Gone {
            return Fate::Goes(Reason::WithIndex);
        }
        if self.subject == Upheld::Gone {
            return Fate::Goes(Reason::WithSubject);
        }
        if untagged == Untagged::Delete && past_untagged { Fate::Goes(Reason::Untagged) } else { Fate::Stays }
    }

    /// Whether it has a reason to stay that is not its index: then what says that a gone index needs it has no reader.
    pub(super) fn stands_by_itself(self) -> bool {
        !matches!(self.newest, Newest::There { .. })
            || self.tagged
            || self.parents == Upheld::Stands
            || self.subject == Upheld::Stands
    }
}

/// How many of the versions of a standing manifest or of a referrer, or of those below a gone one's last word, can be freed:
/// so many of the oldest. `old` says of each, newest first, whether it is older than a lease.
pub(super) fn superseded(old: &[bool]) -> usize {
    match old.split_first() {
        Some((true, older)) => older.iter().rev().take_while(|old| **old).count(),
        _ => 0,
    }
}

/// Of several facts by which one thing needs another, those that can be freed, by their places: the newest one that is old
/// enough to stand stays, if the one who needs it does, and young ones do.
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
        use Upheld::{Gone, Never, Stands};
        let goes = Fate::Goes;
        for (newest, tagged, parents, subject, kept, deleted) in [
            (Newest::Nothing, false, Never, Never, Fate::Dead, Fate::Dead),
            (Newest::Gone { past_trash: false }, false, Never, Never, Fate::Gone, Fate::Gone),
            (Newest::Gone { past_trash: true }, true, Stands, Stands, Fate::Dead, Fate::Dead),
            // a tag upholds it, whatever else is gone
            (OLDER, true, Never, Never, Fate::Stays, Fate::Stays),
            (OLDER, true, Gone, Gone, Fate::Stays, Fate::Stays),
            // an index or a subject does
            (OLDER, false, Stands, Never, Fate::Stays, Fate::Stays),
            (OLDER, false, Never, Stands, Fate::Stays, Fate::Stays),
            (OLDER, false, Gone, Stands, Fate::Stays, Fate::Stays),
            (OLDER, false, Stands, Gone, Fate::Stays, Fate::Stays),
            // it goes with them
            (OLD, false, Gone, Never, goes(Reason::WithIndex), goes(Reason::WithIndex)),
            (OLD, false, Never, Gone, goes(Reason::WithSubject), goes(Reason::WithSubject)),
            (OLD, false, Gone, Gone, goes(Reason::WithIndex), goes(Reason::WithIndex)),
            // nothing ever needed it
            (OLDER, false, Never, Never, Fate::Stays, goes(Reason::Untagged)),
            (OLD, false, Never, Never, Fate::Stays, Fate::Stays),
            // who pushed it may be at work
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
