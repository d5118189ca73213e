//! Writes and deletes that a process gives up, and that land later.

use std::ops::Bound;

use super::{Answer, Bucket, LEASE, Objects, Op};
use crate::records::key::Version;

/// The number of operations that may be given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::model_check) struct GiveUps {
    pub(in crate::model_check) writes: usize,
    pub(in crate::model_check) deletes: usize,
}

impl GiveUps {
    pub(in crate::model_check) const NONE: Self = Self { writes: 0, deletes: 0 };

    /// Returns whether a process may give up this operation.
    pub(in crate::model_check) fn allows(self, op: &Op) -> bool {
        match op {
            Op::Put { .. } => self.writes > 0,
            Op::Delete(_) => self.deletes > 0,
            _ => false,
        }
    }

    /// Counts an operation that was given up.
    pub(in crate::model_check) fn count(&mut self, op: &Op) {
        let left = if matches!(op, Op::Delete(_)) { &mut self.deletes } else { &mut self.writes };
        *left -= 1;
    }
}

/// A write or delete that was given up.
#[derive(Clone, Debug)]
pub(in crate::model_check) struct Late {
    pub(in crate::model_check) op: Op,
    /// The time at which the process asked for a write. Nothing depends on that time for a delete.
    pub(in crate::model_check) asked: u64,
}

impl Late {
    pub(in crate::model_check) fn new(op: Op, now: u64) -> Self {
        let asked = if matches!(op, Op::Delete(_)) { 0 } else { now };
        Self { op, asked }
    }

    /// Returns whether the operation may land now. A delete may as long as there is something to delete.
    ///
    /// A write may within half a lease. Later, only a claim may, or a version that is no newer than an existing version
    /// of its thing. A writer that waits longer does not rely on the state that it saw before.
    pub(in crate::model_check) fn may_land(&self, objects: &Objects, now: u64) -> bool {
        let key = match &self.op {
            Op::Delete(key) => return objects.contains_key(key),
            Op::Put { key, .. } => key,
            _ => return false,
        };
        let soon = now.saturating_sub(self.asked) < u64::try_from(LEASE.as_millis() / 2).unwrap_or_default();
        let (prefix, _) = key.rsplit_once('/').unwrap_or_default();
        let newest = || {
            let mut versions = objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            versions.find(|(other, _)| other.starts_with(prefix)).and_then(|(other, _)| Version::at_end_of(other))
        };
        let outdated = || {
            let own = Version::at_end_of(key);
            own.is_some_and(|own| newest().is_some_and(|newest| newest.ordinal >= own.ordinal))
        };
        soon || key.contains("-claims/") || outdated()
    }
}

impl Bucket {
    /// Lets a process give up on the `nth` of its waiting operations, a write or a delete. Returns the operation.
    pub(in crate::model_check) fn give_up(&self, process: usize, nth: usize) -> Op {
        let op = self.waiting(process).swap_remove(nth);
        self.inner().late.push(Late::new(op.clone(), self.clock.peek_ms()));
        self.tell(process, nth, Answer::GivenUp);
        op
    }

    /// Returns the number of operations that were given up and have not landed.
    pub(in crate::model_check) fn late(&self) -> usize {
        self.inner().late.len()
    }

    /// Returns whether the `nth` of them may land now.
    pub(in crate::model_check) fn may_land(&self, nth: usize) -> bool {
        let inner = self.inner();
        inner.late.get(nth).is_some_and(|late| late.may_land(&inner.map.objects, self.clock.peek_ms()))
    }

    /// Lets the `nth` of them land. Returns the operation.
    pub(in crate::model_check) fn land(&self, nth: usize) -> Op {
        let mut inner = self.inner();
        let late = inner.late.remove(nth);
        late.op.apply(&mut inner.map, self.clock.peek_ms());
        late.op
    }
}
