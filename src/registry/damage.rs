//! Forgets bytes that were found missing or corrupt.
//!
//! A client heals a blob or a manifest by pushing it again, and it pushes only what a `HEAD` says is not there. So a
//! process that finds bytes missing or corrupt forgets at once all that it remembered of them. It tells other processes
//! by an object under `corrupt/`. They list these objects before they answer from memory, once in
//! [`Damage::report_interval`].

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Result, core::Core};
use crate::{
    oci::Digest,
    records::key::{Key, Prefix, Suffix},
    storage::Entry,
};

/// The number of damage reports that one listing asks for. If there are more, everything is forgotten.
const REPORTS: usize = 1000;
/// The shortest time between two listings of reports, even if `cache_ttl` is shorter.
const LEAST: Duration = Duration::from_secs(1);

/// The digests of which something was found missing or corrupt. `None` stands for all digests.
#[derive(Clone, Copy)]
pub(super) struct Lost<'a>(pub(super) Option<&'a HashSet<Digest>>);

impl Lost<'_> {
    pub(super) fn has(self, digest: &Digest) -> bool {
        self.0.is_none_or(|digests| digests.contains(digest))
    }
}

/// Forgets lost digests in one memory. Returns whether any was remembered there.
type Forget = Box<dyn Fn(Lost<'_>) -> bool + Send + Sync>;

/// The damage reports of other processes, and the memories that must forget what is damaged.
pub struct Damage {
    core: Arc<Core>,
    memories: RwLock<Vec<Forget>>,
    /// The number of times that something was forgotten. The result of a look that began before the last time is not
    /// remembered.
    forgotten: AtomicU64,
    /// The reports that this process has read.
    reports: tokio::sync::Mutex<HashSet<String>>,
    /// The time of the last listing, in milliseconds since boot.
    at: AtomicU64,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Damage {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            memories: RwLock::default(),
            forgotten: AtomicU64::new(0),
            reports: tokio::sync::Mutex::default(),
            at: AtomicU64::new(milliseconds(core.clock.since_boot())),
        }
    }

    /// Adds a memory to those that must forget what is damaged.
    pub(super) fn forgets(&self, forget: impl Fn(Lost<'_>) -> bool + Send + Sync + 'static) {
        self.memories.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(forget));
    }

    /// Returns a number that changes when something is forgotten. Ask for it before a look at segments.
    pub(super) fn ticket(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Forgets all that this process remembers of `digest`. Returns whether it remembered anything.
    pub(super) fn forget(&self, digest: &Digest) -> bool {
        self.forget_lost(Lost(Some(&HashSet::from([*digest]))))
    }

    fn forget_lost(&self, lost: Lost<'_>) -> bool {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        memories.iter().fold(false, |any, forget| forget(lost) | any)
    }

    /// Returns how long this process answers from memory before it asks for reports again: `cache_ttl`, and at least a
    /// second.
    fn report_interval(&self) -> Duration {
        self.core.options.cache_ttl.max(LEAST)
    }

    /// Returns the milliseconds since boot, if it is time to ask again.
    fn reports_are_due(&self) -> Option<u64> {
        let now = milliseconds(self.core.clock.since_boot());
        let since = Duration::from_millis(now.saturating_sub(self.at.load(Ordering::SeqCst)));
        (since >= self.report_interval()).then_some(now)
    }

    /// Forgets the things that other processes found missing or corrupt. Call it before each answer from memory.
    pub(super) async fn read_reports(&self) -> Result<()> {
        if self.reports_are_due().is_none() {
            return Ok(());
        }
        let mut known = self.reports.lock().await;
        // another request has listed them meanwhile
        let Some(now) = self.reports_are_due() else { return Ok(()) };
        let listed = self.core.store.list(&Prefix::Corrupt.to_string(), None, REPORTS).await?;
        if listed.len() == REPORTS {
            self.forget_lost(Lost(None));
        } else {
            let news = listed.iter().filter(|entry| !known.contains(&entry.key));
            let reported = |entry: &Entry| match Key::parse(&entry.key)? {
                Key::Corrupt(_, digest, _) => Some(digest),
                _ => None,
            };
            let digests: HashSet<Digest> = news.filter_map(reported).collect();
            if !digests.is_empty() {
                self.forget_lost(Lost(Some(&digests)));
            }
        }
        *known = listed.into_iter().map(|entry| entry.key).collect();
        self.at.store(now, Ordering::SeqCst);
        Ok(())
    }

    /// Forgets a digest of which something was found missing or corrupt. Tells other servers if this one had remembered
    /// it.
    pub(super) async fn found(&self, digest: &Digest) {
        if self.forget(digest) {
            self.try_to_report(digest).await;
        }
    }

    /// Tells other servers of damage. A failure is only logged.
    pub(super) async fn try_to_report(&self, digest: &Digest) {
        if let Err(error) = self.report(digest).await {
            tracing::warn!(%error, %digest, "other servers could not be told that this is damaged");
        }
    }

    /// Tells other servers that an object of a digest was found missing or corrupt.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn report(&self, digest: &Digest) -> Result<()> {
        let key = Key::Corrupt(self.core.clock.time_ms(), *digest, Suffix::random()).to_string();
        Ok(self.core.store.put(&key, Vec::new()).await?)
    }
}
