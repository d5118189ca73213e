//! Writes that a process gave up, and that may land later.

use std::ops::Bound;

use super::{
    actor::LEASE,
    bucket::{Objects, Op},
};
use crate::storage::layout;

/// A write that was given up.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) op: Op,
    /// When it was asked for.
    pub(super) asked: u64,
}

impl Late {
    /// Returns whether the write may land now: within half a lease; and at any time after that where a version of its thing is there that is as new, or
    /// where it is a claim. A writer that waits longer does not go on by what it saw before.
    pub(super) fn may_land(&self, objects: &Objects, now: u64) -> bool {
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
