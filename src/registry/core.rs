//! The base of every part of the registry: the store, its clock, the lease and the settings; and attempts to write.

use std::{hash::Hash, time::Duration};

use super::{Error, Options, Result, lease::Lease};
use crate::{
    memory::Part,
    records::{Actor, Provenance, json, key::Suffix},
    storage::{
        Clock, Moment, Store,
        mutation::{Mutation, mutated},
    },
};

/// The store and the settings, which all parts share.
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) lease: Lease,
    pub(super) options: Options,
}

impl Core {
    /// Creates a part of the memory. `weigh` counts the bytes of a key and its value.
    pub(super) fn part<K, V>(&self, weigh: fn(&K, &V) -> usize) -> Part<K, V>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        Part::new(self.store.memory(), weigh)
    }

    pub(super) fn new(store: Store, options: Options) -> Self {
        Self { clock: store.clock().clone(), lease: Lease::new(&store, options.lease), store, options }
    }

    /// Begins an attempt that relies on its own writes: renews the wish for the lease first.
    pub(super) async fn begin<'a>(&'a self, by: &'a Actor) -> Result<Attempt<'a>> {
        Ok(Attempt { core: self, by, suffix: Suffix::random(), began: self.lease.start().await? })
    }

    /// Returns the content of a record that holds only its author and its time.
    pub(super) fn provenance(&self, by: &Actor) -> Vec<u8> {
        json(&Provenance { at: self.clock.time_ms(), by: by.clone() })
    }
}

/// One attempt of a request or of scrub to write something. It relies on what it wrote and saw for half a lease after it
/// began.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) core: &'a Core,
    /// The author of its records.
    pub(super) by: &'a Actor,
    /// The end of its keys, which keeps them apart from those of every other attempt.
    pub(super) suffix: Suffix,
    began: Moment,
}

impl Attempt<'_> {
    /// Returns the content of a record that holds only this attempt's author and the time.
    pub(super) fn provenance(&self) -> Vec<u8> {
        self.core.provenance(self.by)
    }

    /// Returns the lease that counts for the attempt.
    pub(super) fn lease(&self) -> Duration {
        self.core.lease.at(self.began)
    }

    /// Returns whether the attempt took too long to rely on what it saw: half a lease or more.
    pub(super) fn was_slow(&self) -> bool {
        self.core.clock.since(self.began) >= self.lease() / 2
    }

    /// Returns whether the attempt took less than a quarter of a lease.
    pub(super) fn was_quick(&self) -> bool {
        self.core.clock.since(self.began) < self.lease() / 4
    }

    /// Checks as [`Attempt::was_slow`], for an attempt that ends in reads. The reads of a directory tell nothing of its
    /// clock, so this asks the store for the time.
    pub(super) async fn was_slow_by_reads(&self) -> Result<bool> {
        self.core.store.hear_time().await?;
        Ok(self.was_slow())
    }

    /// Checks that the attempt is not too slow.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if content that the attempt relied on may be gone.
    pub(super) fn in_time(&self) -> Result<()> {
        let slow = self.was_slow() && !mutated(Mutation::SlowPushDoesNotLookAgain);
        if slow { Err(Error::TooSlow) } else { Ok(()) }
    }

    /// Checks that the claim of the attempt is in order.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the attempt took half a lease or more.
    pub(super) fn claimed_in_time(&self) -> Result<()> {
        if mutated(Mutation::ClaimAfterAnOldLook) { Ok(()) } else { self.in_time() }
    }
}
