//! The meanings of tags.

use std::sync::Arc;

use super::Tags;
use crate::{
    oci::{Digest, Name, Tag},
    records::key::{Prefix, RepositoryKey, TagVersion},
    registry::{Error, Result, cache::Ticket, versions::StoredManifest},
    storage::{Entry, StorageError},
};

/// The meaning of a tag, and a ticket that goes stale when this process changes the manifest.
#[derive(Clone)]
pub(super) struct KnownTag {
    pub(super) manifest: Arc<StoredManifest>,
    ticket: Ticket,
}

/// A meaning of a tag that needs no look at the manifest; see [`Tags::settled`].
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

impl Tags {
    /// Returns the manifest that a tag means. `None` if the tag is deleted, or its manifest was deleted after the tag's
    /// version was pushed.
    pub(in crate::registry) async fn manifest(&self, name: &Name, tag: &Tag) -> Result<Option<Arc<StoredManifest>>> {
        let key = (name.clone(), tag.clone());
        if let Some(hit) = self.meanings.get(&key)
            && self.versions.ticket(name, &hit.manifest.digest) == hit.ticket
        {
            return Ok(Some(hit.manifest));
        }
        let of_tag = self.meanings.ticket(&key);
        let newest = self.core.store.list(&Prefix::Tag(name, tag).to_string(), None, 1).await?;
        let Some(entry) = newest.first() else { return Ok(None) };
        let Some((digest, version)) = parse_tag(name, entry)?.target else { return Ok(None) };
        let ticket = self.versions.ticket(name, &digest);
        let manifest = if let Some(manifest) = self.settled(&entry.key, ticket).await? {
            manifest
        } else {
            let Some(standing) = self.versions.standing_since(name, &digest, version).await? else { return Ok(None) };
            if let Some(version) = standing.settled_at {
                self.settled.insert(entry.key.clone(), SettledTag { version, ticket });
            }
            standing.manifest
        };
        self.meanings.remember(key, of_tag, KnownTag { manifest: Arc::clone(&manifest), ticket });
        Ok(Some(manifest))
    }

    /// Returns the manifest of a tag's version without a look at the manifest, if an earlier look found no pending
    /// delete of it.
    ///
    /// The tag existed at that look. So each delete that begins later sees the tag, and deletes the tag before the
    /// manifest. This version was the tag's newest a moment ago, so no delete had come that far.
    async fn settled(&self, tag_version: &str, ticket: Ticket) -> Result<Option<Arc<StoredManifest>>> {
        match self.settled.get(tag_version) {
            Some(settled) if settled.ticket == ticket => self.versions.known(&settled.version).await,
            _ => Ok(None),
        }
    }

    /// Checks that an immutable tag means no other manifest than `digest`.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] if it does.
    pub(in crate::registry) async fn refuse_other_meaning(
        &self,
        name: &Name,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<()> {
        match self.meant_digest(name, tag).await?.filter(|meant| meant != digest) {
            Some(digest) => Err(Error::tag_immutable(name, tag, digest)),
            None => Ok(()),
        }
    }

    /// Returns the digest that a tag means, never from memory.
    pub(in crate::registry) async fn meant_digest(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let newest = self.newest_meaning(name, tag).await?;
        self.meant(name, newest).await
    }

    /// Returns the digest that a tag's newest version means, if the manifest was not deleted since. A damaged manifest
    /// counts.
    pub(in crate::registry) async fn meant(&self, name: &Name, newest: Option<TagVersion>) -> Result<Option<Digest>> {
        let Some((digest, version)) = newest.and_then(|newest| newest.target) else { return Ok(None) };
        match self.versions.standing_since(name, &digest, version).await {
            Ok(standing) => Ok(standing.map(|_| digest)),
            // the tag still means the damaged manifest: the same image can be pushed again, and no other
            Err(error) if error.is_damage() => Ok(Some(digest)),
            Err(error) => Err(error),
        }
    }

    pub(in crate::registry) async fn newest_meaning(&self, name: &Name, tag: &Tag) -> Result<Option<TagVersion>> {
        let newest = self.core.store.list(&Prefix::Tag(name, tag).to_string(), None, 1).await?;
        newest.first().map(|entry| parse_tag(name, entry)).transpose()
    }
}

fn parse_tag(name: &Name, entry: &Entry) -> Result<TagVersion> {
    RepositoryKey::tag_version(name, &entry.key)
        .map(|(_, version)| version)
        .ok_or_else(|| StorageError::damaged("list", &entry.key, "its name is not one of the layout").into())
}
