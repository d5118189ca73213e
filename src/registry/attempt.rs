//! One attempt of a request or of scrub to write: its author, the suffix of its keys, and the time at which it began.

use std::time::Duration;

use super::{Error, Registry, Result};
use crate::{
    records::{Actor, key::Suffix},
    storage::{
        Moment,
        mutation::{Mutation, mutated},
    },
};

/// One attempt to write something. It relies on what it wrote and saw for half a lease after it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// The author of its records.
    pub(super) by: &'a Actor,
    /// The end of its keys, which keeps them apart from those of every other attempt.
    pub(super) suffix: Suffix,
    began: Moment,
}

impl Registry {
    /// Begins an attempt that relies on its own writes: renews the wish for the lease first.
    pub(super) async fn begin<'a>(&self, by: &'a Actor) -> Result<Attempt<'a>> {
        Ok(Attempt { by, suffix: Suffix::random(), began: self.start().await? })
    }

    /// Returns the lease that counts for an attempt.
    pub(super) fn lease_of(&self, attempt: &Attempt<'_>) -> Duration {
        self.lease.at(attempt.began)
    }

    /// Returns whether an attempt took too long to rely on what it saw: half a lease or more.
    pub(super) fn was_slow(&self, attempt: &Attempt<'_>) -> bool {
        self.clock.since(attempt.began) >= self.lease_of(attempt) / 2
    }

    /// Returns whether an attempt took less than a quarter of a lease.
    pub(super) fn was_quick(&self, attempt: &Attempt<'_>) -> bool {
        self.clock.since(attempt.began) < self.lease_of(attempt) / 4
    }

    /// Checks as [`Registry::was_slow`], for an attempt that ends in reads. The reads of a directory tell nothing of
    /// its clock, so this asks the store for the time.
    pub(super) async fn was_slow_by_reads(&self, attempt: &Attempt<'_>) -> Result<bool> {
        self.store.hear_time().await?;
        Ok(self.was_slow(attempt))
    }

    /// Checks that an attempt is not too slow.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if content that the attempt relied on may be gone.
    pub(super) fn in_time(&self, attempt: &Attempt<'_>) -> Result<()> {
        let slow = self.was_slow(attempt) && !mutated(Mutation::SlowPushDoesNotLookAgain);
        if slow { Err(Error::TooSlow) } else { Ok(()) }
    }

    /// Checks that the claim of an attempt is in order.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the attempt took half a lease or more.
    pub(super) fn claimed_in_time(&self, attempt: &Attempt<'_>) -> Result<()> {
        if mutated(Mutation::ClaimAfterAnOldLook) { Ok(()) } else { self.in_time(attempt) }
    }
}
