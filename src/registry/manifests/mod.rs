//! The manifests of repositories.

mod cached;
mod delete;
mod put;

use std::sync::Arc;

pub(super) use self::put::PutOptions;
pub use self::{
    cached::CachedManifest,
    delete::SeenManifest,
    put::{Put, PutManifest},
};
use super::{
    Error, Result, blobs::Blobs, catalog::Catalog, core::Core, referrers::Referrers, tags::Tags,
    versions::StoredManifest, versions::Versions,
};
use crate::oci::{Name, Reference};

/// The manifests of repositories.
pub struct Manifests {
    core: Arc<Core>,
    versions: Arc<Versions>,
    blobs: Arc<Blobs>,
    tags: Arc<Tags>,
    referrers: Arc<Referrers>,
    catalog: Arc<Catalog>,
}

impl Manifests {
    pub(super) fn new(
        core: &Arc<Core>,
        versions: &Arc<Versions>,
        blobs: &Arc<Blobs>,
        tags: &Arc<Tags>,
        referrers: &Arc<Referrers>,
        catalog: &Arc<Catalog>,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            versions: Arc::clone(versions),
            blobs: Arc::clone(blobs),
            tags: Arc::clone(tags),
            referrers: Arc::clone(referrers),
            catalog: Arc::clone(catalog),
        }
    }

    /// Returns the manifest that a tag or digest means in a repository now.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is none, and damage.
    pub async fn get(&self, name: &Name, reference: &Reference) -> Result<Arc<StoredManifest>> {
        let found = match reference {
            Reference::Digest(digest) => self.versions.standing(name, digest).await?,
            Reference::Tag(tag) => self.tags.manifest(name, tag).await?,
        };
        found.ok_or_else(|| Error::manifest_unknown(name, reference.clone()))
    }
}
