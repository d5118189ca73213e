//! Reads manifests and the meanings of tags. The module `put_manifest` stores manifests, and `delete_manifest` deletes
//! them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Error, Registry, Result, attempt::Attempt, cache::Ticket};
use crate::{
    oci::{Digest, Manifest, MediaType, Name, Reference, Tag},
    records::{
        ManifestHeader, ManifestState,
        key::{ManifestKey, Ordinal, Prefix, RepositoryKey, TagVersion, Version},
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
}

/// The meaning of a tag, and a ticket that goes stale when this process changes the manifest.
#[derive(Clone)]
pub(super) struct KnownTag {
    pub(super) manifest: Arc<StoredManifest>,
    ticket: Ticket,
}

/// A manifest that has not been deleted since a given version.
pub(super) struct Standing {
    pub(super) manifest: Arc<StoredManifest>,
    /// The key of the manifest's newest version, if no delete had begun that could end a tag of the given version.
    settled_at: Option<Box<str>>,
}

/// A meaning of a tag that needs no look at the manifest; see [`Registry::settled`].
#[derive(Clone)]
pub(super) struct SettledTag {
    /// The key of the version that was the manifest's newest.
    version: Box<str>,
    ticket: Ticket,
}

impl SettledTag {
    /// Returns the memory that the entry takes under `key`, in bytes, roughly.
    pub(super) fn weight(&self, key: &str) -> usize {
        key.len() + self.version.len() + 200
    }
}

/// The number of versions that a first look at a manifest asks for. A longer history is paged through.
const FIRST_LOOK: usize = 8;

impl Registry {
    /// Returns the manifest that a tag or digest means in a repository now.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is none, and damage.
    pub async fn manifest(&self, name: &Name, reference: &Reference) -> Result<Arc<StoredManifest>> {
        let found = match reference {
            Reference::Digest(digest) => self.standing(name, digest).await?,
            Reference::Tag(tag) => self.tagged(name, tag).await?,
        };
        found.ok_or_else(|| Error::ManifestUnknown { name: name.clone(), reference: reference.clone() })
    }

    /// Returns the manifest that a tag means. `None` if the tag is deleted, or its manifest was deleted after the tag's
    /// version was pushed.
    async fn tagged(&self, name: &Name, tag: &Tag) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), tag.clone());
        if let Some(hit) = self.tags.get(&key) {
            let manifest_key = (name.clone(), hit.manifest.digest);
            if self.standing.ticket(&manifest_key) == hit.ticket {
                return Ok(Some(hit.manifest));
            }
        }
        let of_tag = self.tags.ticket(&key);
        let newest = self.store.list(&Prefix::Tag(name, tag).to_string(), None, 1).await?;
        let Some(entry) = newest.first() else { return Ok(None) };
        let Some((digest, version)) = parse_tag(name, entry)?.target else { return Ok(None) };
        let ticket = self.standing.ticket(&(name.clone(), digest));
        let manifest = if let Some(manifest) = self.settled(&entry.key, ticket).await? {
            manifest
        } else {
            let Some(standing) = self.standing_since(name, &digest, version).await? else { return Ok(None) };
            if let Some(version) = standing.settled_at {
                self.settled_tags.insert(entry.key.clone(), SettledTag { version, ticket });
            }
            standing.manifest
        };
        self.tags.remember(key, of_tag, KnownTag { manifest: Arc::clone(&manifest), ticket });
        Ok(Some(manifest))
    }

    /// Returns the manifest of a tag's version without a look at the manifest, if an earlier look found no pending
    /// delete of it.
    ///
    /// The tag existed at that look. So each delete that begins later sees the tag, and deletes the tag before the
    /// manifest. This version was the tag's newest a moment ago, so no delete had come that far.
    async fn settled(&self, tag_version: &str, ticket: Ticket) -> Result<Option<Arc<StoredManifest>>> {
        match self.settled_tags.get(tag_version) {
            Some(settled) if settled.ticket == ticket => self.known_version(&settled.version).await,
            _ => Ok(None),
        }
    }

    /// Returns the manifest, if its newest version is no tombstone. The answer may come from memory.
    pub(super) async fn standing(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        if let Some(stored) = self.standing.get(&(name.clone(), *digest)) {
            return Ok(Some(stored));
        }
        self.standing_afresh(name, digest).await
    }

    /// Returns the manifest as [`Registry::standing`] does, never from memory.
    pub(super) async fn standing_afresh(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), *digest);
        let ticket = self.standing.ticket(&key);
        let prefix = Prefix::Manifest(name, digest).to_string();
        // scrub may free an outdated version between its listing and its read: then there is a newer one
        for _ in 0..3 {
            let listed = self.store.list(&prefix, None, 1).await?;
            let Some(entry) = listed.first() else { return Ok(None) };
            if !Version::at_end_of(&entry.key).is_some_and(|version| version.there) {
                return Ok(None);
            }
            if let Some(stored) = self.version(digest, &entry.key).await? {
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
        let mut listed = self.store.list(&prefix, None, limit).await?;
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
            listed = self.store.list(&prefix, after.as_deref(), limit).await?;
        }
        let Some(newest) = newest else { return Ok(None) };
        let Some(manifest) = self.version(digest, &newest).await? else {
            // scrub freed the outdated version between its listing and its read: then there is a newer one
            let manifest = self.standing_afresh(name, digest).await?;
            return Ok(manifest.map(|manifest| Standing { manifest, settled_at: None }));
        };
        self.standing.remember(key, ticket, Arc::clone(&manifest));
        let going = match going {
            Some(going) => going,
            None => begun_after(&self.store.list_all(&Prefix::PendingDeletes(name, digest).to_string()).await?, since),
        };
        Ok(Some(Standing { manifest, settled_at: (!going).then(|| newest.into()) }))
    }

    /// Writes a version of a manifest. It becomes the newest if no version was written above the one that the caller
    /// saw.
    pub(super) async fn put_version(
        &self,
        name: &Name,
        manifest: &Manifest,
        stored: StoredManifest,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let header = ManifestHeader {
            media_type: stored.media_type.clone(),
            at: self.clock.time_ms(),
            by: attempt.by.clone(),
            subject: manifest.subject,
            children: manifest.children.iter().map(|child| child.digest).collect(),
            absent: stored.absent.clone(),
        };
        let key = ManifestKey::Version(Version { ordinal: stored.ordinal, there: true }, attempt.suffix)
            .of(name, &stored.digest);
        let forgetting = self.standing.forget_afterwards((name.clone(), stored.digest));
        self.store.put(&key, header.join(&stored.bytes)).await?;
        drop(forgetting);
        self.versions.insert(key, Arc::new(stored));
        Ok(())
    }

    /// Returns the newest version of a manifest, with its key.
    pub(super) async fn newest_version(&self, name: &Name, digest: &Digest) -> Result<Option<(String, Version)>> {
        Ok(crate::records::newest_version(&self.store, name, digest)
            .await?
            .map(|(entry, version)| (entry.key, version)))
    }

    /// Returns whether the newest version of a manifest is no tombstone. It may be damaged.
    pub(super) async fn manifest_stands(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(ManifestState::of(&self.store, name, digest).await? == ManifestState::Stands)
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
        Self { digest, media_type, bytes, etag: format!("\"{digest}\"").into(), ordinal, absent }
    }
}

/// Returns whether one of the listed pending deletes ends in a version above `since`.
fn begun_after(listed: &[Entry], since: Ordinal) -> bool {
    listed.iter().filter_map(|entry| ManifestKey::pending_delete(&entry.key)).any(|ordinal| ordinal > since)
}

pub(super) fn parse_tag(name: &Name, entry: &Entry) -> Result<TagVersion> {
    RepositoryKey::tag_version(name, &entry.key)
        .map(|(_, version)| version)
        .ok_or_else(|| StorageError::damaged("list", &entry.key, "its name is not one of the layout").into())
}
