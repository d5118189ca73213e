//! The registry itself: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Store`].
//!
//! The registry knows no HTTP: it takes and returns domain values. In memory it keeps answers of the store that cannot
//! change, answers that may be a little old ([`Options::cache_ttl`]), and its own recent writes. No other server on the
//! same store needs to know this memory.
//!
//! A pusher writes its reference first and looks for the bytes afterwards. Scrub looks, marks, looks again and frees.
//! `ARCHITECTURE.md` has the protocol.

mod attempt;
mod blobs;
mod cache;
mod catalog;
mod claims;
mod conditional;
mod copies;
mod damage;
mod delete_manifest;
mod error;
mod history;
mod lease;
mod links;
mod manifests;
mod pulls;
mod put_manifest;
mod receive;
mod references;
mod referrers;
mod restore;
mod session;
mod tags;
mod uploads;
mod verified;
mod versions;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use moka::sync::Cache;

use self::{
    attempt::Attempt,
    blobs::LinkHit,
    cache::Recent,
    copies::BlobCopy,
    damage::{DamageReports, KnownBytes},
    lease::Lease,
    manifests::{KnownTag, SettledTag},
    pulls::Gathered,
    session::Session,
};
pub use self::{
    blobs::{Blob, BlobStream},
    conditional::{Condition, Meanings},
    delete_manifest::SeenManifest,
    error::{Error, Result},
    lease::InForce,
    manifests::StoredManifest,
    put_manifest::{Put, PutManifest},
    receive::{Chunk, Progress},
    referrers::Referrers,
    restore::{Lost, Restoration, Restored},
    session::UploadStatus,
    tags::{LookAtTag, Protection, TagDelete},
};
use crate::{
    action::UploadId,
    oci::{Descriptor, Digest, Name, Tag},
    records::{Provenance, json},
    storage::{Moment, Store},
    telemetry::Metrics,
};
pub use crate::{records::Actor, storage::Clock};

/// The number of storage operations of one request that run at a time.
const AT_A_TIME: usize = 16;

/// The settings of the registry.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lease that this process wishes: the time for which scrub spares things in progress (`scrub.upload_expiry`).
    pub lease: Duration,
    /// The time for which an answer of the store may be repeated although another server may have changed it.
    pub cache_ttl: Duration,
    /// The largest size of a blob, in bytes.
    pub max_blob_size: u64,
    /// Allows a manifest to name blobs and manifests that the repository does not have.
    pub allow_missing_references: bool,
    /// The share of the pulls of blobs that are hashed on their way out.
    pub verify_pulls: VerifyPulls,
}

/// The share of the pulls of whole blobs that are hashed on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyPulls {
    /// No pull; clients hash too.
    None,
    /// One pull in this many; 1 is every pull. Never 0.
    OneIn(u64),
}

/// The bytes of a request, as they come.
pub type Body = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BodyError>> + Send>>;

/// A body that did not arrive completely.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// Set if more entries follow.
    pub more: bool,
}

/// The largest number of entries on one page of a list, whatever the client asks for.
pub const MAX_PAGE: usize = 10_000;

/// The registry over one store.
pub struct Registry {
    store: Store,
    options: Options,
    lease: Lease,
    clock: Clock,
    metrics: Metrics,
    /// The memory of blob copies, and of the repositories that have a link to them.
    known: KnownBytes,
    /// The damage reports of other processes.
    reports: DamageReports,
    /// Blob copies by key. They never change.
    copy_records: Cache<String, Arc<BlobCopy>>,
    /// Blobs of repositories, with the link that gives each.
    rights: Recent<(Name, Digest), LinkHit>,
    /// Versions of manifests by key. They never change.
    versions: Cache<String, Arc<StoredManifest>>,
    /// The newest versions of manifests that exist.
    standing: Recent<(Name, Digest), Arc<StoredManifest>>,
    /// The meanings of tags.
    tags: Recent<(Name, Tag), KnownTag>,
    /// Versions of tags, by key, whose manifest no delete can remove without a newer version of the tag.
    settled_tags: Cache<String, SettledTag>,
    /// Descriptors of referrers by key. They never change.
    descriptors: Cache<String, Arc<Descriptor>>,
    /// Repositories whose key in the catalog this process has seen or written within half a lease.
    catalogued: Cache<Name, Moment>,
    /// States of uploads that this process wrote or read.
    sessions: Cache<UploadId, Arc<Session>>,
    /// Segments that a pull found corrupt, until their corruption note is written.
    corrupt: Cache<UploadId, ()>,
    pulls: std::sync::atomic::AtomicU64,
    /// Pulls of manifests that are not recorded yet.
    gathered: Gathered,
}

/// Memory for manifests, in bytes of their content.
const MANIFEST_CACHE: u64 = 32 * 1024 * 1024;
/// Memory for descriptors of referrers, in bytes. A descriptor may be as large as a manifest.
const DESCRIPTOR_CACHE: u64 = 16 * 1024 * 1024;
/// Memory for settled tags, in bytes: some 30,000 tags.
const SETTLED_CACHE: u64 = 16 * 1024 * 1024;
/// Memory for blob copies, in bytes. A copy grows with the chunks of its upload.
const PLACE_CACHE: u64 = 32 * 1024 * 1024;
/// Memory for uploads in progress, in bytes.
const SESSION_CACHE: u64 = 32 * 1024 * 1024;
/// The time for which a blob copy is read without another look at its segments, if nobody reports damage.
const PLACE_TTL: Duration = Duration::from_mins(1);

fn weigh(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Registry {
    /// Creates a registry over `store`.
    #[must_use]
    pub fn new(store: Store, options: Options, metrics: Metrics) -> Self {
        let ttl = options.cache_ttl;
        let half = options.lease / 2;
        let clock = store.clock().clone();
        Self {
            store,
            metrics,
            known: KnownBytes::new(
                Cache::builder().max_capacity(100_000).time_to_live(options.lease / 4).build(),
                Cache::builder()
                    .max_capacity(PLACE_CACHE)
                    .weigher(|_, copy: &Arc<BlobCopy>| weigh(copy.weight()))
                    .time_to_live(PLACE_TTL)
                    .build(),
            ),
            reports: DamageReports::new(&clock),
            copy_records: Cache::builder()
                .max_capacity(PLACE_CACHE)
                .weigher(|key: &String, copy: &Arc<BlobCopy>| weigh(key.len() + copy.weight()))
                .build(),
            rights: Recent::new(100_000, ttl, clock.clone(), |_| 1),
            versions: Cache::builder()
                .max_capacity(MANIFEST_CACHE)
                .weigher(|key: &String, stored: &Arc<StoredManifest>| weigh(key.len() + stored.bytes.len() + 200))
                .build(),
            standing: Recent::new(MANIFEST_CACHE, ttl, clock.clone(), |stored: &Arc<StoredManifest>| {
                weigh(stored.bytes.len() + 400)
            }),
            tags: Recent::new(MANIFEST_CACHE, ttl, clock.clone(), |hit: &KnownTag| {
                weigh(hit.manifest.bytes.len() + 400)
            }),
            settled_tags: Cache::builder()
                .max_capacity(SETTLED_CACHE)
                .weigher(|key: &String, tag: &SettledTag| weigh(tag.weight(key)))
                .build(),
            descriptors: Cache::builder()
                .max_capacity(DESCRIPTOR_CACHE)
                .weigher(|key: &String, descriptor: &Arc<Descriptor>| weigh(key.len() + referrers::weight(descriptor)))
                .build(),
            catalogued: Cache::builder().max_capacity(100_000).time_to_live(half).build(),
            sessions: Cache::builder()
                .max_capacity(SESSION_CACHE)
                .weigher(|_, session: &Arc<Session>| weigh(session.weight()))
                .time_to_live(half)
                .build(),
            corrupt: Cache::builder().max_capacity(100_000).time_to_live(PLACE_TTL).build(),
            clock,
            pulls: 0.into(),
            gathered: Gathered::new(),
            lease: Lease::new(options.lease),
            options,
        }
    }

    /// Checks that the store answers now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ready(&self) -> Result<()> {
        Ok(self.store.ready().await?)
    }

    /// Remembers that a repository has a blob link that an attempt wrote, and that the bytes were there. A look that took
    /// over a quarter of a lease is not remembered.
    ///
    /// The memory lasts a quarter of a lease, and an attempt that relies on it takes at most half a lease. So no
    /// attempt outlasts the blob link.
    fn remember_checked(&self, key: (Name, Digest), size: u64, attempt: &Attempt<'_>, ticket: u64) {
        if self.was_quick(attempt) && self.known.ticket() == ticket {
            self.known.held.insert(key, (size, self.clock.now()));
        }
    }

    /// Returns the size of a digest, if this process checked it for the repository less than a quarter of a lease ago.
    async fn checked_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let key = (name.clone(), *digest);
        if !self.known.held.contains_key(&key) {
            return Ok(None);
        }
        self.read_damage_reports().await?;
        let Some((size, since)) = self.known.held.get(&key) else { return Ok(None) };
        Ok((self.clock.since(since) < self.lease.at(since) / 4).then_some(size))
    }

    /// Returns the content of a record that holds only its author and its time.
    fn provenance(&self, by: &Actor) -> Vec<u8> {
        json(&Provenance { at: self.clock.time_ms(), by: by.clone() })
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Runs futures, up to [`AT_A_TIME`] at once. Returns their outcomes in order, or the first error.
async fn several<T>(work: Vec<impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    stream::iter(work).buffered(AT_A_TIME).try_collect().await
}
