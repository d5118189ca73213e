//! Records the last pulls of manifests: gathers them in memory, so that no pull waits, and writes them twice a minute.
//!
//! The pulls of one server from one repository become one object. So servers on one store need not know of each other.
//! A crash loses the pulls that are not written yet.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher as _,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use futures::{
    StreamExt as _,
    future::{Either, select},
    stream,
};
use tokio::sync::Notify;

use super::{AT_A_TIME, Result, core::Core};
use crate::{
    oci::{Digest, Name, Reference, Tag},
    records::{
        Pull, PullsSince, json,
        key::{Key, RepositoryKey, Suffix},
    },
    storage::StorageError,
};

/// The time between two writes.
const EVERY: Duration = Duration::from_secs(30);
/// The number of entries at which they are written without a wait.
const MANY: usize = 50_000;
/// The largest number of entries in memory, for the time when the store does not take them.
const MOST: usize = 100_000;
/// The number of shards, a power of two. Pulls of different things seldom meet in one.
const SHARDS: usize = 64;

type Shard = HashMap<(Name, Option<Tag>, Digest), u64, RandomState>;

/// Pulls that are not recorded yet.
struct Gathered {
    /// The last pull of each entry, in milliseconds since 1970.
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// The number of entries, with those that are being written.
    number: AtomicUsize,
    many: Notify,
    /// Set once the store has the time from which on pulls are recorded.
    begun: AtomicBool,
    /// Set if entries were lost since the last time that all could be written.
    lost: AtomicBool,
}

impl Gathered {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            number: AtomicUsize::new(0),
            many: Notify::new(),
            begun: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    fn shard(&self, key: &(Name, Option<Tag>, Digest)) -> MutexGuard<'_, Shard> {
        // the remainder is below SHARDS
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: (Name, Option<Tag>, Digest), at: u64) {
        let mut shard = self.shard(&key);
        if let Some(last) = shard.get_mut(&key) {
            *last = at.max(*last);
            return;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        if number > MOST {
            self.number.fetch_sub(1, Ordering::Relaxed);
            self.lost.store(true, Ordering::Relaxed);
            return;
        }
        shard.insert(key, at);
        if number == MANY {
            self.many.notify_one();
        }
    }

    /// Takes all entries, by repository. They still count until [`Gathered::done`] or [`Gathered::put_back`].
    fn take(&self) -> BTreeMap<Name, Vec<Pull>> {
        let mut taken: BTreeMap<Name, Vec<Pull>> = BTreeMap::new();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for ((name, tag, digest), at) in shard {
                taken.entry(name).or_default().push(Pull { tag, digest, at });
            }
        }
        taken
    }

    fn done(&self, number: usize) {
        self.number.fetch_sub(number, Ordering::Relaxed);
    }

    fn put_back(&self, name: &Name, pulls: Vec<Pull>) {
        self.done(pulls.len());
        for Pull { tag, digest, at } in pulls {
            self.add((name.clone(), tag, digest), at);
        }
    }
}

/// The record of the last pulls of manifests.
pub struct Pulls {
    core: Arc<Core>,
    gathered: Gathered,
}

impl Pulls {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), gathered: Gathered::new() }
    }

    /// Notes a pull: a client was told the manifest that `reference` means, or that its copy is still current.
    pub fn note(&self, name: &Name, reference: &Reference, digest: &Digest) {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        self.gathered.add((name.clone(), tag, *digest), self.core.clock.time_ms());
    }

    /// Records the pulls since the last call. Pulls that cannot be written are kept for the next call.
    ///
    /// # Errors
    /// The first error of the store.
    pub async fn record(&self) -> Result<()> {
        if !self.gathered.begun.load(Ordering::Relaxed) {
            let since = PullsSince { at: self.core.clock.time_ms() };
            self.core.store.create_new(&Key::PullsSince.to_string(), json(&since)).await?;
            self.gathered.begun.store(true, Ordering::Relaxed);
        }
        let until = self.core.clock.time_ms();
        let work: Vec<_> = self.gathered.take().into_iter().map(|it| self.record_of(it.0, it.1, until)).collect();
        let failed: Vec<StorageError> = stream::iter(work)
            .buffer_unordered(AT_A_TIME)
            .filter_map(|outcome| async { outcome.err() })
            .collect()
            .await;
        if let Some(error) = failed.into_iter().next() {
            Err(error.into())
        } else {
            if self.gathered.lost.swap(false, Ordering::Relaxed) {
                tracing::warn!("some pulls were not recorded: the store did not take them for too long");
            }
            Ok(())
        }
    }

    async fn record_of(&self, name: Name, pulls: Vec<Pull>, until: u64) -> std::result::Result<(), StorageError> {
        let key = RepositoryKey::Pulls(until, Suffix::random()).of(&name);
        let outcome = self.core.store.put(&key, json(&pulls)).await;
        match &outcome {
            Ok(()) => self.gathered.done(pulls.len()),
            Err(_) => self.gathered.put_back(&name, pulls),
        }
        outcome
    }

    /// Records pulls twice a minute, and whenever they are many, until `stop`. Call [`Pulls::record`] once
    /// more after the last request has been answered.
    pub async fn keep_recording(&self, stop: impl Future) {
        let mut stop = pin!(stop);
        loop {
            if let Err(error) = self.record().await {
                tracing::warn!(%error, "pulls could not be recorded; they are kept for the next attempt");
            }
            let due = pin!(tokio::time::timeout(EVERY, self.gathered.many.notified()));
            if let Either::Right(_) = select(due, stop.as_mut()).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn what_cannot_be_written_is_kept_and_memory_has_an_end() {
        let gathered = Gathered::new();
        let name: Name = "a".parse().unwrap();
        let digest = |n: usize| Digest::of(Algorithm::Sha256, n.to_string().as_bytes());
        for n in 0..MOST + 10 {
            gathered.add((name.clone(), None, digest(n)), 1);
        }
        gathered.add((name.clone(), None, digest(0)), 5);
        let taken = gathered.take().remove(&name).unwrap();
        assert_eq!(taken.len(), MOST);
        assert!(gathered.lost.load(Ordering::Relaxed));
        gathered.add((name.clone(), None, digest(0)), 9);
        assert!(gathered.take().is_empty(), "what is being written takes its room until it is");
        gathered.put_back(&name, taken);
        gathered.add((name.clone(), None, digest(0)), 3);
        let taken = gathered.take().remove(&name).unwrap();
        let first = taken.iter().find(|pull| pull.digest == digest(0)).unwrap();
        assert_eq!((taken.len(), first.at), (MOST, 5));
        gathered.done(taken.len());
        assert_eq!(gathered.number.load(Ordering::Relaxed), 0);
    }
}
