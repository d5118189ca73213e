//! Manifests that upstreams gave. The content that they name comes later, when a client asks for it, or never.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Manifests, Put, PutOptions};
use crate::{
    oci::{Digest, Manifest, MediaType, Name, Tag},
    records::{
        Actor,
        key::{ManifestKey, Prefix},
    },
    registry::{Error, Result},
};

/// A manifest as an upstream gave it.
#[derive(Clone, Debug)]
pub struct CachedManifest {
    /// Its digest, as the upstream or the client named it.
    pub digest: Digest,
    /// Its media type, as the upstream named it.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
    /// The tag that means it upstream, if the client asked for a tag.
    pub tag: Option<Tag>,
}

impl Manifests {
    /// Stores a manifest that an upstream gave, and makes `tag` mean it, if there is one. The content that the
    /// manifest names may come later, or never. The tag is not immutable.
    ///
    /// # Errors
    /// As [`Manifests::put_cached_under`].
    pub async fn put_cached(&self, name: &Name, put: &CachedManifest, by: &Actor) -> Result<Put> {
        self.put_cached_under(name, put, &|_| false, by).await
    }

    /// Stores a manifest as [`Manifests::put_cached`] does; `immutable` tells whether the tag is immutable. An immutable tag
    /// keeps the first meaning that it got here, whatever the upstream says later.
    ///
    /// It writes pins for all blobs that the manifest lists, and index references for all its children. The version of
    /// the manifest records which of these the repository does not have, so that naming a digest gives no access.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], [`Error::ManifestInvalid`], and [`Error::TagImmutable`] if the immutable tag means
    /// another manifest.
    pub async fn put_cached_under(
        &self,
        name: &Name,
        put: &CachedManifest,
        immutable: &(dyn Fn(&Tag) -> bool + Sync),
        by: &Actor,
    ) -> Result<Put> {
        let digest = Digest::of(put.digest.algorithm(), &put.bytes);
        if digest != put.digest {
            return Err(Error::DigestMismatch { expected: Box::new(put.digest), computed: Box::new(digest) });
        }
        let manifest = Manifest::parse(Some(&put.media_type), &put.bytes)?;
        let (once, free) = put.tag.iter().cloned().partition(|tag| immutable(tag));
        let options = PutOptions { once, free, cached: true, ..PutOptions::default() };
        self.put_unless_refused(name, &manifest, digest, put.bytes.clone(), &options, by).await
    }

    /// Returns the indexes that list a manifest, as their references say. An index may be deleted since.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn indexes_of(&self, name: &Name, digest: &Digest) -> Result<BTreeSet<Digest>> {
        let listed = self.core.store.list_all(&Prefix::IndexReferences(name, digest).to_string()).await?;
        Ok(listed.iter().filter_map(|entry| ManifestKey::index(&entry.key)).collect())
    }
}
