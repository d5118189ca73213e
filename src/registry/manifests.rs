//! Manifests as they stand. Putting them is in `put_manifest`, deleting them in `delete_manifest`.

use std::sync::Arc;

use bytes::Bytes;

use super::{By, Error, Registry, Result, cache::Ticket, facts::ManifestHeader};
use crate::{
    oci::{Digest, Manifest, MediaType, Name, Reference, Tag},
    storage::{Entry, StorageError, layout, layout::Ordinal},
};

/// A version of a manifest, with its bytes exactly as they were pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its type, as it was pushed.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
    /// The digest as headers carry it, quoted as an entity tag is.
    pub etag: Box<str>,
    pub(super) ordinal: Ordinal,
    /// What it names and does not link its repository to: see [`ManifestHeader::absent`].
    pub(super) absent: Vec<Digest>,
}

/// What a tag was found to mean, and the ticket that goes stale when this process changes that manifest.
#[derive(Clone)]
pub(super) struct TagHit {
    pub(super) manifest: Arc<StoredManifest>,
    ticket: Ticket,
}

/// A manifest that stands, and has since the version that was asked about.
pub(super) struct Standing {
    pub(super) manifest: Arc<StoredManifest>,
    /// The key of its newest version, where no delete had begun that could end a tag of that version.
    settled_at: Option<Box<str>>,
}

/// See [`Registry::settled`].
#[derive(Clone)]
pub(super) struct SettledTag {
    /// The key of the manifest's version that was the newest.
    version: Box<str>,
    ticket: Ticket,
}

impl SettledTag {
    /// About how many bytes of memory it takes under such a key.
    pub(super) fn weight(&self, key: &str) -> usize {
        key.len() + self.version.len() + 200
    }
}

/// Versions that a first look at a manifest asks for; a longer history is paged through.
const FIRST_LOOK: usize = 8;

impl Registry {
    /// The manifest that a tag or digest means in a repository now.
    pub async fn manifest(&self, name: &Name, reference: &Reference) -> Result<Arc<StoredManifest>> {
        let found = match reference {
            Reference::Digest(digest) => self.standing(name, digest).await?,
            Reference::Tag(tag) => self.tagged(name, tag).await?,
        };
        found.ok_or_else(|| Error::ManifestUnknown { name: name.clone(), reference: reference.clone() })
    }

    /// What a tag means: nothing where it is gone, or its manifest was deleted after it was pushed.
    async fn tagged(&self, name: &Name, tag: &Tag) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), tag.clone());
        if let Some(hit) = self.tags.get(&key) {
            let manifest_key = (name.clone(), hit.manifest.digest);
            if self.standing.ticket(&manifest_key) == hit.ticket {
                return Ok(Some(hit.manifest));
            }
        }
        let of_tag = self.tags.ticket(&key);
        let newest = self.store.list(&layout::tag(name, tag), None, 1).await?;
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
        self.tags.remember(key, of_tag, TagHit { manifest: Arc::clone(&manifest), ticket });
        Ok(Some(manifest))
    }

    /// What a tag's version means, without a look at the manifest, where such a look has once found no delete of it that had
    /// begun. The tag was there by then, so each delete that begins later sees it, and says it gone before the manifest is;
    /// and while this version was the tag's newest, a moment ago, that had not come to pass.
    async fn settled(&self, tag_version: &str, ticket: Ticket) -> Result<Option<Arc<StoredManifest>>> {
        match self.settled_tags.get(tag_version) {
            Some(settled) if settled.ticket == ticket => self.known_version(&settled.version).await,
            _ => Ok(None),
        }
    }

    /// The manifest, if it stands: its newest version is a put.
    pub(super) async fn standing(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        if let Some(stored) = self.standing.get(&(name.clone(), *digest)) {
            return Ok(Some(stored));
        }
        self.standing_afresh(name, digest).await
    }

    /// As [`Registry::standing`], never from memory.
    pub(super) async fn standing_afresh(&self, name: &Name, digest: &Digest) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), *digest);
        let ticket = self.standing.ticket(&key);
        let prefix = layout::manifest(name, digest);
        // a version may be freed as superseded between being listed and being read: then there is a newer one
        for _ in 0..3 {
            let listed = self.store.list(&prefix, None, 1).await?;
            let Some(entry) = listed.first() else { return Ok(None) };
            if !layout::version(&entry.key).is_some_and(|version| version.there) {
                return Ok(None);
            }
            if let Some(stored) = self.version(digest, &entry.key).await? {
                self.standing.remember(key, ticket, Arc::clone(&stored));
                return Ok(Some(stored));
            }
        }
        Err(StorageError::damaged("get", &prefix, "its newest version is listed and cannot be read").into())
    }

    /// The manifest, if it stands and has not been deleted since version `since`, which a tag names.
    pub(super) async fn standing_since(
        &self,
        name: &Name,
        digest: &Digest,
        since: Ordinal,
    ) -> Result<Option<Standing>> {
        let key = (name.clone(), *digest);
        let ticket = self.standing.ticket(&key);
        let prefix = layout::manifest(name, digest);
        let mut newest: Option<String> = None;
        let mut after: Option<String> = None;
        let mut limit = FIRST_LOOK;
        let mut listed = self.store.list(&prefix, None, limit).await?;
        // all there is under the prefix may be here: then it says as well whether a delete has begun
        let going = (listed.len() < limit).then(|| begun_after(&listed, since));
        loop {
            let last = listed.len() < limit;
            for Entry { key, .. } in listed {
                match layout::version(&key) {
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
            // freed as superseded between being listed and being read: then there is a newer one
            let manifest = self.standing_afresh(name, digest).await?;
            return Ok(manifest.map(|manifest| Standing { manifest, settled_at: None }));
        };
        self.standing.remember(key, ticket, Arc::clone(&manifest));
        let going = match going {
            Some(going) => going,
            None => begun_after(&self.store.list_all(&layout::goings(name, digest)).await?, since),
        };
        Ok(Some(Standing { manifest, settled_at: (!going).then(|| newest.into()) }))
    }

    /// Writes a version of a manifest; it is the newest one if nothing newer than what the caller saw was written.
    pub(super) async fn put_version(
        &self,
        name: &Name,
        manifest: &Manifest,
        stored: StoredManifest,
        attempt: &str,
        by: &By,
    ) -> Result<()> {
        let header = ManifestHeader {
            media_type: stored.media_type.clone(),
            at: self.clock.time_ms(),
            by: by.clone(),
            subject: manifest.subject,
            children: manifest.children.iter().map(|child| child.digest).collect(),
            absent: stored.absent.clone(),
        };
        let key = layout::manifest_version(name, &stored.digest, stored.ordinal, true, attempt);
        let forgetting = self.standing.forget_afterwards((name.clone(), stored.digest));
        self.store.put(&key, header.join(&stored.bytes)).await?;
        drop(forgetting);
        self.versions.insert(key, Arc::new(stored));
        Ok(())
    }

    /// The newest version of a manifest: its key and what it says.
    pub(super) async fn newest_version(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<(String, layout::Version)>> {
        let listed = self.store.list(&layout::manifest(name, digest), None, 1).await?;
        let newest = listed.into_iter().next();
        Ok(newest.and_then(|entry| layout::version(&entry.key).map(|version| (entry.key, version))))
    }

    /// Whether the newest version of a manifest says that it is there, be that damaged or not.
    pub(super) async fn is_there(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(self.newest_version(name, digest).await?.is_some_and(|(_, version)| version.there))
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

/// Whether one of these facts says that a delete has begun which ends in a version above `since`.
fn begun_after(listed: &[Entry], since: Ordinal) -> bool {
    listed.iter().filter_map(|entry| layout::going_version(&entry.key)).any(|ordinal| ordinal > since)
}

pub(super) fn parse_tag(name: &Name, entry: &Entry) -> Result<layout::TagVersion> {
    layout::parse_tag_version(name, &entry.key)
        .map(|(_, version)| version)
        .ok_or_else(|| StorageError::damaged("list", &entry.key, "its name is not one of the layout").into())
}
