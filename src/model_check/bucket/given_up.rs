//! Writes that a process gives up, and that land later.

use std::ops::Bound;

use super::{Answer, Bucket, LEASE, Objects, Op};
use crate::storage::layout;

/// A write that was given up.
#[derive(Clone, Debug)]
pub(in crate::model_check) struct Late {
    pub(in crate::model_check) op: Op,
    /// The time at which the process asked for it.
    pub(in crate::model_check) asked: u64,
}

impl Late {
    /// Returns whether the write may land now. It may within half a lease; later, only a claim may, or a version that
    /// is no newer than an existing version of its thing. A writer that waits longer does not rely on the state that it
    /// saw before.
    pub(in crate::model_check) fn may_land(&self, objects: &Objects, now: u64) -> bool {
        let Op::Put { key, .. } = &self.op else { return false };
        let soon = now.saturating_sub(self.asked) < u64::try_from(LEASE.as_millis() / 2).unwrap_or_default();
        let (prefix, _) = key.rsplit_once('/').unwrap_or_default();
        let newest = || {
            let mut versions = objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            versions.find(|(other, _)| other.starts_with(prefix)).and_then(|(other, _)| layout::version(other))
        };
        let outdated = || {
            let own = layout::version(key);
            own.is_some_and(|own| newest().is_some_and(|newest| newest.ordinal >= own.ordinal))
        };
        soon || key.contains("-claims/") || outdated()
    }
}

impl Bucket {
    /// Lets a process give up on the `nth` of its waiting operations, which is a write. Returns the operation.
    pub(in crate::model_check) fn give_up(&self, process: usize, nth: usize) -> Op {
        let op = self.waiting(process).swap_remove(nth);
        self.inner().late.push(Late { op: op.clone(), asked: self.clock.peek_ms() });
        self.tell(process, nth, Answer::GivenUp);
        op
    }

    /// Counts the writes that were given up and have not landed.
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
