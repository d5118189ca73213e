//! The registry itself: blobs, uploads, manifests, tags, referrers and the catalog, over a [`Store`].
//!
//! The registry knows no HTTP: it takes and returns domain values. In memory it keeps answers of the store that cannot
//! change, answers that may be a little old ([`Options::cache_ttl`]), and its own recent writes. No other server on the
//! same store needs to know this memory.
//!
//! A pusher writes its reference first and looks for the bytes afterwards. Scrub looks, marks, looks again and frees.
//! `ARCHITECTURE.md` has the protocol.

mod blobs;
mod cache;
mod catalog;
mod claims;
mod copies;
mod core;
mod damage;
mod downloads;
mod error;
mod first_seen;
mod lease;
mod manifests;
mod pulls;
mod references;
mod referrers;
mod restore;
mod tags;
mod uploads;
mod versions;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

use self::core::Core;
pub use self::{
    blobs::{Blob, Blobs},
    catalog::Catalog,
    copies::{BlobStream, Copies},
    damage::Damage,
    downloads::{Downloads, Turn},
    error::{Error, Result},
    first_seen::FirstSeen,
    lease::{InForce, Lease},
    manifests::{CachedManifest, Manifests, Put, PutManifest, SeenManifest},
    pulls::Pulls,
    referrers::{ReferrerPage, Referrers},
    restore::{Lost, Restoration, Restored},
    tags::{Condition, LookAtTag, Meanings, Protection, TagDelete, Tags},
    uploads::{Chunk, Progress, UploadEnd, UploadStatus, UploadView, Uploads},
    versions::{StoredManifest, Versions},
};
use crate::{memory::Memory, storage::Store, telemetry::Metrics};
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

/// The registry over one store. Each part owns its memory, and uses only parts above it in this list.
pub struct Registry {
    core: Arc<Core>,
    /// Damage reports, and the memories that must forget what is damaged.
    pub damage: Arc<Damage>,
    /// The versions of manifests.
    pub versions: Arc<Versions>,
    /// The blob copies of the store.
    pub copies: Arc<Copies>,
    /// The list of repositories.
    pub catalog: Arc<Catalog>,
    /// The lists of referrers.
    pub referrers: Arc<Referrers>,
    /// The record of pulls.
    pub pulls: Pulls,
    /// The blobs of repositories.
    pub blobs: Arc<Blobs>,
    /// The uploads in progress.
    pub uploads: Uploads,
    /// The downloads of blobs from upstreams.
    pub downloads: Downloads,
    /// The times at which manifests of caches were first seen.
    pub first_seen: FirstSeen,
    /// The tags of repositories.
    pub tags: Arc<Tags>,
    /// The manifests of repositories.
    pub manifests: Manifests,
}

impl Registry {
    /// Creates a registry over `store`.
    #[must_use]
    pub fn new(store: Store, options: Options, metrics: Metrics) -> Self {
        let core = Arc::new(Core::new(store, options));
        let damage = Arc::new(Damage::new(&core));
        let versions = Arc::new(Versions::new(&core, &damage));
        let copies = Arc::new(Copies::new(&core, &damage));
        let catalog = Arc::new(Catalog::new(&core));
        let referrers = Arc::new(Referrers::new(&core));
        let blobs = Arc::new(Blobs::new(&core, &damage, &versions, &copies));
        let tags = Arc::new(Tags::new(&core, &damage, &versions, &catalog));
        Self {
            pulls: Pulls::new(&core),
            uploads: Uploads::new(&core, &copies, &blobs, metrics),
            downloads: Downloads::new(&core),
            first_seen: FirstSeen::new(&core),
            manifests: Manifests::new(&core, &versions, &blobs, &tags, &referrers, &catalog),
            core,
            damage,
            versions,
            copies,
            catalog,
            referrers,
            blobs,
            tags,
        }
    }

    /// Returns the lease of this process.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.core.lease
    }

    /// Returns the memory that bounds what is remembered.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        self.core.store.memory()
    }

    /// Returns the clock of the store.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Checks that the store answers now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ready(&self) -> Result<()> {
        Ok(self.core.store.ready().await?)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.core.options).finish_non_exhaustive()
    }
}

/// Runs futures, up to [`AT_A_TIME`] at once. Returns their outcomes in order, or the first error.
async fn several<T>(work: Vec<impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    stream::iter(work).buffered(AT_A_TIME).try_collect().await
}
