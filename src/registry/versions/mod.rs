//! The versions of manifests: read from memory, or from the store with a check of the digest.

mod life;

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Result,
    cache::{Kept, Recent, Ticket},
    core::{Attempt, Core},
    damage::Damage,
};
use crate::{
    memory::Part,
    oci::{Digest, Manifest, MediaType, Name},
    records::{
        ManifestHeader, ManifestState,
        key::{ManifestKey, Ordinal, Prefix, Suffix, Version},
    },
    storage::{Entry, StorageError},
};

/// A version of a manifest, with its bytes exactly as they were pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as pushed.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
    /// The digest as an entity tag for headers, in quotes.
    pub etag: Box<str>,
    pub(super) ordinal: Ordinal,
    /// The digests that it names and does not link its repository to: see [`ManifestHeader::absent`].
    pub(super) absent: Vec<Digest>,
    /// Set if an upstream gave it.
    pub(super) cached: bool,
    /// Set if no version before it links anything: see [`ManifestHeader::anew`].
    pub(super) anew: bool,
}

/// A manifest that has not been deleted since a given version.
pub(super) struct Standing {
    pub(super) manifest: Arc<StoredManifest>,
    /// The key of the manifest's newest version, if no delete had begun that could end a tag of the given version.
    pub(super) settled_at: Option<Box<str>>,
}

/// The number of versions that a first look at a manifest asks for. A longer history is paged through.
const FIRST_LOOK: usize = 8;

/// The versions of manifests.
pub struct Versions {
    core: Arc<Core>,
    damage: Arc<Damage>,
    /// Versions by key. They never change.
    by_key: Part<String, Arc<StoredManifest>>,
    /// The newest versions of manifests that exist.
    standing: Arc<Recent<(Name, Digest), Arc<StoredManifest>>>,
}

impl Versions {
    pub(super) fn new(core: &Arc<Core>, damage: &Arc<Damage>) -> Self {
        let by_key = core.part(|key: &String, stored: &Arc<StoredManifest>| key.len() + stored.weight());
        let (ttl, clock) = (core.options.cache_ttl, core.clock.clone());
        let part = core.part(|(name, _): &(Name, Digest), stored: &Kept<Arc<StoredManifest>>| {
            name.as_str().len() + stored.value.weight() + 150
        });
        let standing = Arc::new(Recent::new(part, ttl, clock));
        let (versions, newest) = (by_key.clone(), Arc::clone(&standing));
        damage.forgets(move |lost| {
            let lost = |stored: &Arc<StoredManifest>| lost.has(&stored.digest);
            versions.remove_if(|_, stored| lost(stored)) | newest.forget_if(lost)
        });
        Self { core: Arc::clone(core), damage: Arc::clone(damage), by_key, standing }
    }

    /// Returns a ticket that goes stale when this process changes a manifest.
    pub(super) fn ticket(&self, name: &Name, digest: &Digest) -> Ticket {
        self.standing.ticket(&(name.clone(), *digest))
    }

    /// Returns a version from memory, unless another process found it damaged.
    pub(super) async fn known(&self, key: &str) -> Result<Option<Arc<StoredManifest>>> {
        if !self.by_key.contains_key(key) {
            return Ok(None);
        }
        self.damage.read_reports().await?;
        Ok(self.by_key.get(key))
    }

    /// Returns the version of a manifest under a key, or `None` if it is gone.
    ///
    /// # Errors
    /// Damage, if the bytes are not `digest`. Then this process forgets the digest.
    pub(super) async fn read(&self, digest: &Digest, key: &str) -> Result<Option<Arc<StoredManifest>>> {
        if let Some(stored) = self.known(key).await? {
            return Ok(Some(stored));
        }
        let ticket = self.damage.ticket();
        let damaged = |what: String| StorageError::damaged("get", key, what);
        let check = |content| ManifestHeader::checked(digest, &content);
        let Some(read) = Box::pin(self.core.store.get_checked(key, check)).await? else { return Ok(None) };
        let (header, bytes) = match read {
            Ok(read) => read,
            Err(what) => {
                tracing::error!(%digest, key, what, "a stored manifest is damaged; push it again");
                self.damage.found(digest).await;
                return Err(damaged(what).into());
            }
        };
        let ordinal =
            Version::at_end_of(key).ok_or_else(|| damaged("its name is not one of the layout".into()))?.ordinal;
        let stored = Arc::new(StoredManifest::under(header, *digest, bytes, ordinal));
        if self.damage.ticket() == ticket {
            self.by_key.insert(key.to_owned(), Arc::clone(&stored));
        }
        Ok(Some(stored))
    }

    /// Returns the manifest, if its newest version is no tombstone. The answer may come from memory.
    pub(super) async fn standing(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        if let Some(stored) = self.standing.get(&(name.clone(), *digest)) {
            return Ok(Some(stored));
        }
        self.standing_afresh(name, digest).await
    }

    /// Returns the manifest as [`Versions::standing`] does, never from memory.
    pub(super) async fn standing_afresh(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), *digest);
        let ticket = self.standing.ticket(&key);
        let prefix = Prefix::Manifest(name, digest).to_string();
        // scrub may free an outdated version between its listing and its read: then there is a newer one
        for _ in 0..3 {
            let listed = self.core.store.list(&prefix, None, 1).await?;
            let Some(entry) = listed.first() else { return Ok(None) };
            if !Version::at_end_of(&entry.key).is_some_and(|version| version.there) {
                return Ok(None);
            }
            if let Some(stored) = self.read(digest, &entry.key).await? {
                self.standing.remember(key, ticket, Arc::clone(&stored));
                return Ok(Some(stored));
            }
        }
        Err(StorageError::damaged("get", &prefix, "its newest version is listed and cannot be read").into())
    }

    /// Returns the manifest, if it exists and has not been deleted since version `since`, which a tag names.
    pub(super) async fn standing_since(
        &self,
        name: &Name,
        digest: &Digest,
        since: Ordinal,
    ) -> Result<Option<Standing>> {
        let key = (name.clone(), *digest);
        let ticket = self.standing.ticket(&key);
        let prefix = Prefix::Manifest(name, digest).to_string();
        let mut newest: Option<String> = None;
        let mut after: Option<String> = None;
        let mut limit = FIRST_LOOK;
        let mut listed = self.core.store.list(&prefix, None, limit).await?;
        // a short listing has all keys under the prefix, so it also tells whether a delete has begun
        let going = (listed.len() < limit).then(|| begun_after(&listed, since));
        loop {
            let last = listed.len() < limit;
            for Entry { key, .. } in listed {
                match Version::at_end_of(&key) {
                    Some(version) if version.ordinal > since && !version.there => return Ok(None),
                    Some(version) if version.there => {
                        newest.get_or_insert_with(|| key.clone());
                        if version.ordinal <= since {
                            after = None;
                            break;
                        }
                        after = Some(key);
                    }
                    _ => {
                        after = None;
                        break;
                    }
                }
            }
            if last || after.is_none() {
                break;
            }
            limit = 1000;
            listed = self.core.store.list(&prefix, after.as_deref(), limit).await?;
        }
        let Some(newest) = newest else { return Ok(None) };
        let Some(manifest) = self.read(digest, &newest).await? else {
            // scrub freed the outdated version between its listing and its read: then there is a newer one
            let manifest = self.standing_afresh(name, digest).await?;
            return Ok(manifest.map(|manifest| Standing { manifest, settled_at: None }));
        };
        self.standing.remember(key, ticket, Arc::clone(&manifest));
        let going = match going {
            Some(going) => going,
            None => {
                begun_after(&self.core.store.list_all(&Prefix::PendingDeletes(name, digest).to_string()).await?, since)
            }
        };
        Ok(Some(Standing { manifest, settled_at: (!going).then(|| newest.into()) }))
    }

    /// Writes a version of a manifest. It becomes the newest if no version was written above the one that the caller
    /// saw.
    pub(super) async fn put(
        &self,
        name: &Name,
        manifest: &Manifest,
        stored: StoredManifest,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let header = ManifestHeader {
            media_type: stored.media_type.clone(),
            at: self.core.clock.time_ms(),
            by: attempt.by.clone(),
            subject: manifest.subject,
            children: manifest.children.iter().map(|child| child.digest).collect(),
            absent: stored.absent.clone(),
            cached: stored.cached,
            anew: stored.anew,
        };
        let version = Version { ordinal: stored.ordinal, there: true };
        let key = self.write(name, &stored.digest, version, attempt.suffix, header.join(&stored.bytes)).await?;
        self.by_key.insert(key, Arc::new(stored));
        Ok(())
    }

    /// Returns the newest version of a manifest, with its key.
    pub(super) async fn newest(&self, name: &Name, digest: &Digest) -> Result<Option<(String, Version)>> {
        Ok(crate::records::newest_version(&self.core.store, name, digest)
            .await?
            .map(|(entry, version)| (entry.key, version)))
    }

    /// Returns whether the newest version of a manifest is no tombstone. It may be damaged.
    pub(super) async fn stands(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(ManifestState::of(&self.core.store, name, digest).await? == ManifestState::Stands)
    }

    /// Writes a version record, and forgets which version was the newest. Returns the key of the record.
    pub(super) async fn write(
        &self,
        name: &Name,
        digest: &Digest,
        version: Version,
        suffix: Suffix,
        content: Vec<u8>,
    ) -> Result<String> {
        let key = ManifestKey::Version(version, suffix).of(name, digest);
        let _forgetting = self.standing.forget_afterwards((name.clone(), *digest));
        self.core.store.put(&key, content).await?;
        Ok(key)
    }
}

impl StoredManifest {
    pub(super) fn new(
        digest: Digest,
        media_type: MediaType,
        bytes: Bytes,
        ordinal: Ordinal,
        absent: Vec<Digest>,
    ) -> Self {
        let etag = format!("\"{digest}\"").into();
        Self { digest, media_type, bytes, etag, ordinal, absent, cached: false, anew: false }
    }

    /// Returns the version that has this header.
    pub(super) fn under(header: ManifestHeader, digest: Digest, bytes: Bytes, ordinal: Ordinal) -> Self {
        let ManifestHeader { media_type, absent, cached, anew, .. } = header;
        Self { cached, anew, ..Self::new(digest, media_type, bytes, ordinal, absent) }
    }

    /// Returns the bytes that it takes in memory.
    fn weight(&self) -> usize {
        self.bytes.len() + self.absent.len() * size_of::<Digest>() + 300
    }
}

/// Returns whether one of the listed pending deletes ends in a version above `since`.
fn begun_after(listed: &[Entry], since: Ordinal) -> bool {
    listed.iter().filter_map(|entry| ManifestKey::pending_delete(&entry.key)).any(|ordinal| ordinal > since)
}
