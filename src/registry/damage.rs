//! Forgets bytes that were found missing or corrupt.
//!
//! A client heals a blob or a manifest by pushing it again, and it pushes only what a `HEAD` says is not there. So a
//! process that finds bytes missing or corrupt forgets at once all that it remembered of them. It tells other processes
//! by an object under `corrupt/`. They list these objects before they answer from memory, once in
//! [`Registry::report_interval`].

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

use super::{Registry, Result, copies::BlobCopy};
use crate::{
    oci::{Digest, Name},
    records::key::{Key, Prefix, Suffix},
    storage::{Clock, Entry, Moment},
};

/// The number of damage reports that one listing asks for. If there are more, everything is forgotten.
const REPORTS: usize = 1000;
/// The shortest time between two listings of reports, even if `cache_ttl` is shorter.
const LEAST: Duration = Duration::from_secs(1);

/// The memory of blob copies. Its clones share it.
#[derive(Clone)]
pub(super) struct KnownBytes {
    /// Digests of repositories that this process checked lately, with their sizes and the time. They need no new look:
    /// see [`Registry::remember_checked`].
    pub(super) held: Cache<(Name, Digest), (u64, Moment)>,
    /// The blob copies where digests were found. If the segments turn out to be gone, the digest is looked up again.
    pub(super) copies: Cache<Digest, Arc<BlobCopy>>,
    /// The number of times that something was forgotten. The result of a look that began before the last time is not
    /// remembered.
    forgotten: Arc<AtomicU64>,
}

impl KnownBytes {
    /// Creates the memory from two empty caches.
    pub(super) fn new(held: Cache<(Name, Digest), (u64, Moment)>, copies: Cache<Digest, Arc<BlobCopy>>) -> Self {
        Self { held, copies, forgotten: Arc::default() }
    }

    /// Returns a number that changes when something is forgotten. Ask for it before a look at segments.
    pub(super) fn ticket(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Forgets the blob copies of `digest`, and its links in every repository. Returns whether anything was remembered.
    pub(super) fn forget(&self, digest: &Digest) -> bool {
        self.forget_all(&HashSet::from([*digest]))
    }

    fn forget_all(&self, digests: &HashSet<Digest>) -> bool {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        let mut any = false;
        for digest in digests {
            any |= self.copies.remove(digest).is_some();
        }
        for (key, _) in self.held.iter().filter(|(key, _)| digests.contains(&key.1)) {
            any |= self.held.remove(&*key).is_some();
        }
        any
    }
}

/// The damage reports that this process has read.
pub(super) struct DamageReports {
    reports: tokio::sync::Mutex<HashSet<String>>,
    /// The time of the last listing, in milliseconds since boot.
    at: AtomicU64,
}

impl DamageReports {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { reports: tokio::sync::Mutex::default(), at: AtomicU64::new(milliseconds(clock.since_boot())) }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Registry {
    /// Returns how long this process answers from memory before it asks for reports again: `cache_ttl`, and at least a
    /// second.
    fn report_interval(&self) -> Duration {
        self.options.cache_ttl.max(LEAST)
    }

    /// Returns the milliseconds since boot, if it is time to ask again.
    fn reports_are_due(&self) -> Option<u64> {
        let now = milliseconds(self.clock.since_boot());
        let since = Duration::from_millis(now.saturating_sub(self.reports.at.load(Ordering::SeqCst)));
        (since >= self.report_interval()).then_some(now)
    }

    /// Forgets the things that other processes found missing or corrupt. Call it before each answer from memory.
    pub(super) async fn read_damage_reports(&self) -> Result<()> {
        if self.reports_are_due().is_none() {
            return Ok(());
        }
        let mut known = self.reports.reports.lock().await;
        // another request has listed them meanwhile
        let Some(now) = self.reports_are_due() else { return Ok(()) };
        let listed = self.store.list(&Prefix::Corrupt.to_string(), None, REPORTS).await?;
        if listed.len() == REPORTS {
            self.forget_everything();
        } else {
            let news = listed.iter().filter(|entry| !known.contains(&entry.key));
            let reported = |entry: &Entry| match Key::parse(&entry.key)? {
                Key::Corrupt(_, digest, _) => Some(digest),
                _ => None,
            };
            let digests: HashSet<Digest> = news.filter_map(reported).collect();
            if !digests.is_empty() {
                self.forget_damaged(&digests);
            }
        }
        *known = listed.into_iter().map(|entry| entry.key).collect();
        self.reports.at.store(now, Ordering::SeqCst);
        Ok(())
    }

    fn forget_damaged(&self, digests: &HashSet<Digest>) -> bool {
        let mut any = self.known.forget_all(digests);
        for (key, _) in self.versions.iter().filter(|(_, stored)| digests.contains(&stored.digest)) {
            any |= self.versions.remove(&*key).is_some();
        }
        any |= self.standing.forget_if(|stored| digests.contains(&stored.digest));
        any |= self.tags.forget_if(|hit| digests.contains(&hit.manifest.digest));
        any
    }

    fn forget_everything(&self) {
        self.known.forgotten.fetch_add(1, Ordering::SeqCst);
        self.known.held.invalidate_all();
        self.known.copies.invalidate_all();
        self.versions.invalidate_all();
        self.standing.forget_if(|_| true);
        self.tags.forget_if(|_| true);
    }

    /// Forgets a digest of which something was found missing or corrupt. Tells other servers if this one had remembered
    /// it.
    pub(super) async fn found_damaged(&self, digest: &Digest) {
        if self.forget_damaged(&HashSet::from([*digest])) {
            self.try_to_report(digest).await;
        }
    }

    /// Tells other servers of damage. A failure is only logged.
    pub(super) async fn try_to_report(&self, digest: &Digest) {
        if let Err(error) = self.report_damage(digest).await {
            tracing::warn!(%error, %digest, "other servers could not be told that this is damaged");
        }
    }

    /// Tells other servers that an object of a digest was found missing or corrupt.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn report_damage(&self, digest: &Digest) -> Result<()> {
        let key = Key::Corrupt(self.clock.time_ms(), *digest, Suffix::random()).to_string();
        Ok(self.store.put(&key, Vec::new()).await?)
    }
}
