//! The lease: how long things in progress are protected by their age.
//!
//! The lease in force is a record of the store. A process that pushes writes a wish for its own lease, and renews the
//! wish before an attempt if it is older than an eighth of the lease. A scrub keeps to the longest wish that has not
//! run out. A wish runs out nine eighths of its lease after it was written, by the store's clock. So the wish of an
//! attempt holds for a lease after the attempt began, and an attempt takes half a lease at most.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Result;
use crate::{
    records::key::{Key, Prefix, Suffix},
    storage::{self, Clock, Entry, Moment, Store, mutation::wishes},
};

/// The lease that this process wishes, and its wishes in the store.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    clock: Clock,
    state: Mutex<State>,
    /// Locked while a wish is written, so that attempts at the same time write one.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    lease: Duration,
    /// The shortest lease that this process has used, for what it did before the last change.
    least: Duration,
    changed: Option<Moment>,
    /// The wishes of this process, oldest first: key, lease, and a time before the wish was written.
    written: VecDeque<(String, Duration, Moment)>,
}

/// The longest wish that has not run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The lease, in milliseconds.
    pub lease_ms: u64,
    /// The time when the wish runs out if nobody renews it, in milliseconds since 1970 by the store's clock.
    pub until_ms: u64,
}

impl InForce {
    /// Reads the wishes of a store, whose time was `now_ms` before.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(store: &Store, now_ms: u64) -> storage::Result<Option<Self>> {
        let listed = store.list_all(&Prefix::Leases.to_string()).await?;
        Ok(listed
            .iter()
            .filter_map(Self::of)
            .filter(|it| it.until_ms > now_ms)
            .max_by_key(|it| (it.lease_ms, it.until_ms)))
    }

    /// Returns the lease of a wish, and the time when the wish runs out. A wish whose time the store does not tell
    /// never runs out.
    #[must_use]
    pub fn of(wish: &Entry) -> Option<Self> {
        let Key::Lease(lease_ms, _) = Key::parse(&wish.key)? else { return None };
        let holds = lease_ms.saturating_add(lease_ms / 8);
        let until_ms = if wish.modified == 0 { u64::MAX } else { wish.modified.saturating_add(holds) };
        Some(Self { lease_ms, until_ms })
    }
}

impl Lease {
    pub(super) fn new(store: &Store, lease: Duration) -> Self {
        let state = State { lease, least: lease, changed: None, written: VecDeque::new() };
        Self {
            store: store.clone(),
            clock: store.clock().clone(),
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lease that counts for something that this process did at `then`. Before the last change, that is the
    /// shortest lease that the process has used.
    pub(super) fn at(&self, then: Moment) -> Duration {
        let state = self.state();
        match state.changed {
            Some(changed) if !then.is_after(changed) => state.least,
            _ => state.lease,
        }
    }

    /// Returns the lease that this process wishes.
    #[must_use]
    pub fn wished(&self) -> Duration {
        self.state().lease
    }

    /// Returns the time, for something that relies on its own writes from now on: renews the wish for the lease first.
    pub(super) async fn start(&self) -> Result<Moment> {
        self.renew_wish(8).await?;
        Ok(self.clock.now())
    }

    /// Writes a wish for the lease of this process, unless the last wish is younger than the lease divided by `part`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn renew_wish(&self, part: u32) -> Result<()> {
        if !wishes() || self.is_wished(self.wished(), part) {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        let lease = self.wished();
        if self.is_wished(lease, part) {
            return Ok(());
        }
        self.write_wish(lease).await
    }

    /// Changes the lease. It writes the wish for the new lease first. An older wish is left to run out.
    ///
    /// # Errors
    /// Those of the store: then the lease stays as it was.
    pub async fn change(&self, lease: Duration) -> Result<()> {
        let _writing = self.writing.lock().await;
        if lease == self.wished() {
            return Ok(());
        }
        self.write_wish(lease).await?;
        let changed = self.clock.now();
        let mut state = self.state();
        state.least = state.least.min(lease).min(state.lease);
        (state.lease, state.changed) = (lease, Some(changed));
        Ok(())
    }

    /// Returns the lease in force if it is longer than the one that this process wishes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn longer_in_force(&self) -> Result<Option<InForce>> {
        let in_force = InForce::read(&self.store, self.clock.time_ms()).await?;
        Ok(in_force.filter(|it| Duration::from_millis(it.lease_ms) > self.wished()))
    }

    fn is_wished(&self, lease: Duration, part: u32) -> bool {
        let state = self.state();
        let last = state.written.back().filter(|(_, wished, _)| *wished == lease);
        last.is_some_and(|(.., at)| self.clock.since(*at) < lease / part)
    }

    async fn write_wish(&self, lease: Duration) -> Result<()> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let key = Key::Lease(lease_ms, Suffix::random()).to_string();
        let before = self.clock.now();
        self.store.put(&key, Vec::new()).await?;
        let run_out = {
            let mut state = self.state();
            state.written.push_back((key, lease, before));
            let is_over = |(_, lease, at): &(String, Duration, Moment)| self.clock.since(*at) >= *lease / 8 * 9;
            let (over, left): (VecDeque<_>, VecDeque<_>) = state.written.drain(..).partition(is_over);
            state.written = left;
            over
        };
        // wishes that have run out mean nothing; scrub frees those that stay
        for (key, ..) in run_out {
            if let Err(error) = self.store.delete(&key).await {
                tracing::debug!(%error, key, "a wish that has run out is left to scrub");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_holds_for_nine_eighths_of_its_lease() {
        let wish = |lease: u64, modified| Entry { key: Key::Lease(lease, Suffix(0x0)).to_string(), size: 0, modified };
        assert_eq!(InForce::of(&wish(800, 1000)), Some(InForce { lease_ms: 800, until_ms: 1900 }));
        assert_eq!(InForce::of(&wish(800, 0)), Some(InForce { lease_ms: 800, until_ms: u64::MAX }));
        for key in ["leases/x.0", "leases/0800.0", "leases/800", "scrub/800.0"] {
            assert_eq!(InForce::of(&Entry { key: key.to_owned(), size: 0, modified: 1 }), None, "{key}");
        }
    }
}
