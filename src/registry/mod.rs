//! The registry itself: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Store`].
//!
//! It knows no HTTP: domain values come in and go out. All it keeps in memory are answers of the store that cannot
//! change, answers that may be a little old ([`Options::cache_ttl`]), and what this process itself has just written;
//! nothing here would need to be known to another server on the same store.
//!
//! Who needs a thing writes its reference first and looks afterwards; scrub looks, marks, looks again and frees.
//! `ARCHITECTURE.md` has the protocol.

mod blobs;
mod cache;
mod catalog;
mod claims;
mod damage;
mod delete_manifest;
mod error;
pub mod facts;
mod history;
mod lease;
mod links;
mod manifests;
mod places;
mod pulls;
mod put_manifest;
mod receive;
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
    blobs::RightHit,
    cache::Recent,
    damage::{Heard, KnownBytes},
    facts::Stamp,
    lease::Lease,
    manifests::{SettledTag, TagHit},
    places::Place,
    pulls::Gathered,
    session::Session,
};
pub use self::{
    blobs::{Blob, BlobStream},
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
pub use crate::storage::Clock;
use crate::{
    action::UploadId,
    oci::{Descriptor, Digest, Name, Tag},
    storage::{Moment, Store, layout},
    telemetry::Metrics,
};

/// Storage operations of one request that run at a time.
const AT_A_TIME: usize = 16;

/// How the registry behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lease that this process wishes: how long what is under way is protected from scrub (`scrub.upload_expiry`).
    pub lease: Duration,
    /// How long an answer of the store may be given again while another server may have changed it.
    pub cache_ttl: Duration,
    /// Most bytes of a blob.
    pub max_blob_size: u64,
    /// Whether a manifest may name blobs and manifests that the repository does not have.
    pub allow_missing_references: bool,
    /// How many pulls of a blob are hashed on their way.
    pub verify_pulls: VerifyPulls,
}

/// How many pulls of whole blobs are hashed on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyPulls {
    /// None; clients hash too.
    None,
    /// One in so many; 1 is all of them. Never 0.
    OneIn(u64),
}

/// Who does something, and in which request: recorded in the facts that are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct By {
    /// The identity's name.
    pub identity: String,
    /// The request's id.
    pub request: String,
}

impl By {
    const SCRUB: &str = "scrub";

    /// A run of scrub.
    #[must_use]
    pub fn scrub(run: &str) -> Self {
        Self { identity: Self::SCRUB.to_owned(), request: run.to_owned() }
    }

    fn is_scrub(&self) -> bool {
        self.identity == Self::SCRUB
    }
}

/// The bytes of a request, as they come.
pub type Body = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BodyError>> + Send>>;

/// A body that did not come to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// A page of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

/// Most entries of one page of a list, whatever is asked for.
pub const MAX_PAGE: usize = 10_000;

/// The registry over one store.
pub struct Registry {
    store: Store,
    options: Options,
    lease: Lease,
    clock: Clock,
    metrics: Metrics,
    /// The memory of where bytes are, and of the repositories that were told so.
    known: KnownBytes,
    /// The reports of other processes.
    heard: Heard,
    /// Facts about where bytes are, by key; such a fact never changes.
    place_facts: Cache<String, Arc<Place>>,
    /// That a repository has a digest.
    rights: Recent<(Name, Digest), RightHit>,
    /// Versions of manifests by key; they never change.
    versions: Cache<String, Arc<StoredManifest>>,
    /// The newest version of a manifest that stands.
    standing: Recent<(Name, Digest), Arc<StoredManifest>>,
    /// What a tag means.
    tags: Recent<(Name, Tag), TagHit>,
    /// Versions of tags, by key, that mean a manifest which no delete can take away without a newer version of the tag.
    settled_tags: Cache<String, SettledTag>,
    /// Descriptors of referrers by key; they never change.
    descriptors: Cache<String, Arc<Descriptor>>,
    /// Repositories whose place in the catalog this process has seen or written under half a lease ago.
    catalogued: Cache<Name, Moment>,
    /// States of uploads as this process wrote them.
    sessions: Cache<UploadId, Arc<Session>>,
    /// Bytes that a pull found rotten, until the note beside them is written.
    rotten: Cache<UploadId, ()>,
    pulls: std::sync::atomic::AtomicU64,
    /// Pulls of manifests that are not written down yet.
    gathered: Gathered,
}

/// Bytes of manifests, and so about of memory, that are remembered.
const MANIFEST_CACHE: u64 = 32 * 1024 * 1024;
/// About as many bytes of memory for descriptors of referrers, each of which may be as large as a manifest.
const DESCRIPTOR_CACHE: u64 = 16 * 1024 * 1024;
/// As many for tags: some 30,000 of them.
const SETTLED_CACHE: u64 = 16 * 1024 * 1024;
/// Twice as much for where bytes are, which grows with the chunks of an upload.
const PLACE_CACHE: u64 = 32 * 1024 * 1024;
/// As much for uploads under way.
const SESSION_CACHE: u64 = 32 * 1024 * 1024;
/// The time for which a place is read without another look at its bytes, while nobody reports them damaged.
const PLACE_TTL: Duration = Duration::from_mins(1);

fn weigh(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Registry {
    /// A registry over `store`.
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
                    .weigher(|_, place: &Arc<Place>| weigh(place.weight()))
                    .time_to_live(PLACE_TTL)
                    .build(),
            ),
            heard: Heard::new(&clock),
            place_facts: Cache::builder()
                .max_capacity(PLACE_CACHE)
                .weigher(|key: &String, place: &Arc<Place>| weigh(key.len() + place.weight()))
                .build(),
            rights: Recent::new(100_000, ttl, clock.clone(), |_| 1),
            versions: Cache::builder()
                .max_capacity(MANIFEST_CACHE)
                .weigher(|key: &String, stored: &Arc<StoredManifest>| weigh(key.len() + stored.bytes.len() + 200))
                .build(),
            standing: Recent::new(MANIFEST_CACHE, ttl, clock.clone(), |stored: &Arc<StoredManifest>| {
                weigh(stored.bytes.len() + 400)
            }),
            tags: Recent::new(MANIFEST_CACHE, ttl, clock.clone(), |hit: &TagHit| weigh(hit.manifest.bytes.len() + 400)),
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
            rotten: Cache::builder().max_capacity(100_000).time_to_live(PLACE_TTL).build(),
            clock,
            pulls: 0.into(),
            gathered: Gathered::new(),
            lease: Lease::new(options.lease),
            options,
        }
    }

    /// Whether the store answers just now.
    pub async fn ready(&self) -> Result<()> {
        Ok(self.store.ready().await?)
    }

    /// Remembers that a repository's grant, written after `began`, and the bytes were seen. It is remembered for a quarter
    /// of a lease, after at most a quarter, and an attempt that relies on it takes at most half of one: so no attempt
    /// outlasts the grant.
    fn hold(&self, key: (Name, Digest), size: u64, began: Moment, ticket: u64) {
        if self.clock.since(began) < self.lease.at(began) / 4 && self.known.ticket() == ticket {
            self.known.held.insert(key, (size, self.clock.now()));
        }
    }

    /// The size of a digest that this process made sure of for a repository under a quarter of a lease ago.
    async fn held(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let key = (name.clone(), *digest);
        if !self.known.held.contains_key(&key) {
            return Ok(None);
        }
        self.hear().await?;
        let Some((size, since)) = self.known.held.get(&key) else { return Ok(None) };
        Ok((self.clock.since(since) < self.lease.at(since) / 4).then_some(size))
    }

    /// Whether an attempt that began then took too long to rely on what it saw.
    fn was_slow(&self, began: Moment) -> bool {
        self.clock.since(began) >= self.lease.at(began) / 2
    }

    /// Checks as [`Registry::was_slow`], for an attempt that ends in reads. Those of a directory tell nothing of its clock.
    async fn was_slow_by_reads(&self, began: Moment) -> Result<bool> {
        self.store.hear_time().await?;
        Ok(self.was_slow(began))
    }

    /// The body of a fact that says no more than who made it, and when.
    fn fact(&self, by: &By) -> Vec<u8> {
        json(&Stamp { at: self.clock.time_ms(), by: by.clone() })
    }

    /// Writes the fact that `name` was told that it has `digest`.
    async fn grant(&self, name: &Name, digest: &Digest, by: &By) -> Result<()> {
        Ok(self.store.put(&layout::grant(digest, name, &layout::attempt()), self.fact(by)).await?)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Does several things, some at a time; their outcomes in order, or the first error.
async fn several<T>(work: Vec<impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    stream::iter(work).buffered(AT_A_TIME).try_collect().await
}

/// JSON text of a value of our own, which cannot fail to be written: its keys are strings and its numbers finite.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("facts are plain values: {error}"))
}
