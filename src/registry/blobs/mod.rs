//! Blobs: links, reads, mounts and deletes.

mod pins;
mod read;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, atomic::AtomicU64},
};

pub(super) use self::pins::Linked;
use super::{
    Error, Result,
    cache::{Kept, Recent, Ticket},
    copies::{BlobCopy, Copies},
    core::{Attempt, Core},
    damage::Damage,
    versions::Versions,
};
use crate::{
    oci::{Digest, Name},
    records::{
        Actor,
        key::{BlobLink, Key, Prefix, Suffix},
    },
};

/// A blob that a repository has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The link that gave a repository a digest at the last look.
#[derive(Clone, Copy)]
enum LinkHit {
    /// A blob link, by an upload or a mount.
    Link,
    /// A link of an existing manifest. The ticket goes stale when this process changes that manifest.
    Pin(Digest, Ticket),
}

/// The blobs of repositories.
pub struct Blobs {
    core: Arc<Core>,
    damage: Arc<Damage>,
    versions: Arc<Versions>,
    copies: Arc<Copies>,
    /// Blobs of repositories, with the link that gives each.
    rights: Recent<(Name, Digest), LinkHit>,
    /// The number of pulls of whole blobs.
    pulls: AtomicU64,
}

impl Blobs {
    pub(super) fn new(core: &Arc<Core>, damage: &Arc<Damage>, versions: &Arc<Versions>, copies: &Arc<Copies>) -> Self {
        Self {
            core: Arc::clone(core),
            damage: Arc::clone(damage),
            versions: Arc::clone(versions),
            copies: Arc::clone(copies),
            rights: Recent::new(
                core.part(|(name, _): &(Name, Digest), _: &Kept<LinkHit>| name.as_str().len() + 300),
                core.options.cache_ttl,
                core.clock.clone(),
            ),
            pulls: 0.into(),
        }
    }

    /// Returns whether the repository has the digest: by a blob link, or by a link of a manifest that exists there.
    pub(super) async fn repository_has_blob(&self, name: &Name, digest: &Digest) -> Result<bool> {
        // not from `Copies::checked_size`, which tells only that the bytes are there: another server may have removed the link since
        let key = (name.clone(), *digest);
        match self.rights.get(&key) {
            Some(LinkHit::Link) => return Ok(true),
            Some(LinkHit::Pin(manifest, ticket)) if self.versions.ticket(name, &manifest) == ticket => {
                return Ok(true);
            }
            _ => {}
        }
        // boxed, since it is large and most requests are answered from memory
        Box::pin(self.ask_for_links(name, digest, false)).await
    }

    /// Returns whether the repository has the digest, never from memory. A caller that gives a link needs this: no link may
    /// outlive a delete by another server.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn repository_has_blob_afresh(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Box::pin(self.ask_for_links(name, digest, true)).await
    }

    async fn ask_for_links(&self, name: &Name, digest: &Digest, afresh: bool) -> Result<bool> {
        let key = (name.clone(), *digest);
        let ticket = self.rights.ticket(&key);
        let mut asked = HashSet::new();
        let mut after = None;
        // blob links come first, and one is enough; pins may be many
        let mut limit = 4;
        loop {
            let listed =
                self.core.store.list(&Prefix::Links(digest, name).to_string(), after.as_deref(), limit).await?;
            for entry in &listed {
                match BlobLink::at_end_of(&entry.key) {
                    Some(BlobLink::Link) => {
                        self.rights.remember(key, ticket, LinkHit::Link);
                        return Ok(true);
                    }
                    Some(BlobLink::Pin(manifest)) if asked.insert(manifest) => {
                        let of_manifest = self.versions.ticket(name, &manifest);
                        let newest = if afresh {
                            self.versions.standing_afresh(name, &manifest).await
                        } else {
                            self.versions.standing(name, &manifest).await
                        };
                        if self.versions.links_blob(name, &manifest, newest, digest).await? {
                            self.rights.remember(key, ticket, LinkHit::Pin(manifest, of_manifest));
                            return Ok(true);
                        }
                    }
                    Some(BlobLink::Pin(_) | BlobLink::Unlinked) | None => {}
                }
            }
            if listed.len() < limit {
                return Ok(false);
            }
            after = listed.into_iter().next_back().map(|entry| entry.key);
            limit = 1000;
        }
    }

    /// Returns the blob, for a client that only reads. It writes nothing.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository does not have it, and damage.
    pub async fn get(&self, name: &Name, digest: &Digest) -> Result<Blob> {
        if !self.repository_has_blob(name, digest).await? {
            return Err(Error::blob_unknown(name, digest));
        }
        let copy = self.copies.readable(name, digest).await?;
        Ok(Blob { digest: *digest, size: copy.size })
    }

    /// Returns the blob, for a client that may push and relies on the answer for a lease. Marked segments count as
    /// absent, so that the client pushes them again.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository does not have it, or if its bytes cannot be relied on.
    pub async fn get_to_rely_on(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<Blob> {
        if let Some(size) = self.copies.checked_size(name, digest).await?
            && self.repository_has_blob(name, digest).await?
        {
            return Ok(Blob { digest: *digest, size });
        }
        if !self.repository_has_blob_afresh(name, digest).await? {
            return Err(Error::blob_unknown(name, digest));
        }
        let size = self.link_and_look(name, digest, by).await?.ok_or_else(|| Error::blob_unknown(name, digest))?;
        Ok(Blob { digest: *digest, size })
    }

    /// Writes a blob link for `name`. Returns the size of the blob if its bytes can be relied on.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if two attempts took too long.
    async fn link_and_look(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<Option<u64>> {
        // a slow attempt is made once more: its blob link may be gone by now
        for _ in 0..2 {
            let (attempt, ticket) = (self.core.begin(by).await?, self.damage.ticket());
            let reference = attempt.write_link(name, digest).await?;
            let Some(copy) = self.copies.verify(reference).await? else { return Ok(None) };
            if !attempt.was_slow_by_reads().await? {
                self.copies.remember_checked((name.clone(), *digest), copy.size(), &attempt, ticket);
                return Ok(Some(copy.size()));
            }
        }
        Err(Error::TooSlow)
    }

    /// Gives `name` a blob of another repository: of `from`, or of any repository that `may_pull` accepts. Returns
    /// `None` if no such blob can be relied on; the client then uploads it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mount(
        &self,
        name: &Name,
        digest: &Digest,
        from: Option<&Name>,
        may_pull: impl Fn(&Name) -> bool,
        by: &Actor,
    ) -> Result<Option<Blob>> {
        let found = match from {
            Some(from) => may_pull(from) && self.repository_has_blob_afresh(from, digest).await?,
            None => self.anyone_has(digest, may_pull).await?,
        };
        if !found {
            return Ok(None);
        }
        let size = self.link_and_look(name, digest, by).await?;
        self.rights.forget(&(name.clone(), *digest));
        Ok(size.map(|size| Blob { digest: *digest, size }))
    }

    async fn anyone_has(&self, digest: &Digest, may_pull: impl Fn(&Name) -> bool) -> Result<bool> {
        /// The number of repositories to look at before an upload is cheaper.
        const MOST: usize = 100;
        let mut after = None;
        for _ in 0..MOST {
            let listed = self.core.store.list(&Prefix::AllLinks(digest).to_string(), after.as_deref(), 1).await?;
            let Some((holder, _)) = listed.first().and_then(|entry| Key::link(&entry.key)) else {
                return Ok(false);
            };
            if may_pull(&holder) && self.repository_has_blob_afresh(&holder, digest).await? {
                return Ok(true);
            }
            after = Some(Prefix::Links(digest, &holder).end());
        }
        Ok(false)
    }

    /// Deletes a blob from a repository: writes an unlink and deletes the blob links.
    ///
    /// # Errors
    /// [`Error::Needed`] if a manifest that exists there needs the blob. [`Error::BlobUnknown`] if the repository has
    /// no blob link.
    pub async fn delete(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<()> {
        self.links_unless_needed(name, digest).await?;
        let key = (name.clone(), *digest);
        self.copies.forget_checked(&key);
        // the unlink first, so that the bytes always have a reason to stay while a server still relies on them
        let left = BlobLink::Unlinked.of(digest, name, Suffix::random());
        self.core.store.put(&left, self.core.provenance(by)).await?;
        // a scrub that links the blob to a manifest has written its pin by now, or sees this unlink
        let grants = self.links_unless_needed(name, digest).await?;
        let _forgetting = self.rights.forget_afterwards(key.clone());
        for grant in grants {
            self.core.store.delete(&grant).await?;
        }
        self.copies.forget_checked(&key);
        Ok(())
    }

    /// Returns the keys of a repository's links of a blob.
    ///
    /// # Errors
    /// [`Error::Needed`] if a manifest needs the blob. [`Error::BlobUnknown`] if there is no blob link.
    async fn links_unless_needed(&self, name: &Name, digest: &Digest) -> Result<Vec<String>> {
        let mut grants = Vec::new();
        let mut manifests = BTreeSet::new();
        for entry in self.core.store.list_all(&Prefix::Links(digest, name).to_string()).await? {
            match BlobLink::at_end_of(&entry.key) {
                Some(BlobLink::Link) => grants.push(entry.key),
                Some(BlobLink::Pin(manifest)) => {
                    manifests.insert(manifest);
                }
                Some(BlobLink::Unlinked) | None => {}
            }
        }
        let mut needed_by = Vec::new();
        for manifest in manifests {
            if self.versions.stands(name, &manifest).await? {
                needed_by.push(manifest);
                if needed_by.len() == NAMED {
                    break;
                }
            }
        }
        // a manifest that was cached without the blob needs it only once it has come
        let here = !grants.is_empty() || self.repository_has_blob_afresh(name, digest).await?;
        if here && !needed_by.is_empty() {
            return Err(Error::Needed { digest: *digest, needed_by });
        }
        if grants.is_empty() { Err(Error::blob_unknown(name, digest)) } else { Ok(grants) }
    }

    /// Returns whether the repository has a blob without manifest `except`: by an upload, a mount, or another manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn has_without(&self, name: &Name, blob: &Digest, except: &Digest) -> Result<bool> {
        let mut asked = HashSet::from([*except]);
        for entry in self.core.store.list_all(&Prefix::Links(blob, name).to_string()).await? {
            match BlobLink::at_end_of(&entry.key) {
                Some(BlobLink::Link) => return Ok(true),
                Some(BlobLink::Pin(manifest)) if asked.insert(manifest) => {
                    let newest = self.versions.standing(name, &manifest).await;
                    if self.versions.links_blob(name, &manifest, newest, blob).await? {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Links a deleted blob to its repository again. Returns false if the repository has the blob.
    ///
    /// # Errors
    /// [`Error::GoneForGood`] if the repository never had the blob, or the bytes are gone.
    pub(super) async fn restore(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<bool> {
        if self.repository_has_blob(name, digest).await? {
            return Ok(false);
        }
        if !self.had(name, digest).await? {
            return Err(Error::gone(name, digest.to_string(), "there is no trace of it in this repository"));
        }
        // a slow attempt is made once more: its blob link may be gone by now
        for _ in 0..2 {
            let attempt = self.core.begin(by).await?;
            let reference = attempt.write_link(name, digest).await?;
            self.rights.forget(&(name.clone(), *digest));
            if self.copies.ensure_sound_copy(reference, by).await?.is_none() {
                return Err(Error::gone(
                    name,
                    format!("blob {digest}"),
                    "its bytes are not there any more; push it again",
                ));
            }
            if !attempt.was_slow_by_reads().await? {
                return Ok(true);
            }
        }
        Err(Error::TooSlow)
    }

    /// Returns whether a record tells that the repository had a blob once. The pin of a manifest that was cached without
    /// the blob tells nothing.
    async fn had(&self, name: &Name, digest: &Digest) -> Result<bool> {
        for entry in self.core.store.list_all(&Prefix::Links(digest, name).to_string()).await? {
            match BlobLink::at_end_of(&entry.key) {
                Some(BlobLink::Link | BlobLink::Unlinked) => return Ok(true),
                Some(BlobLink::Pin(manifest)) => {
                    let absent = self.versions.last_life(name, &manifest).await?.absent();
                    if absent.is_some_and(|absent| !absent.contains(digest)) {
                        return Ok(true);
                    }
                }
                None => {}
            }
        }
        Ok(false)
    }

    /// Remembers a blob that an attempt has uploaded and linked.
    pub(super) fn uploaded(&self, name: &Name, digest: &Digest, copy: BlobCopy, attempt: &Attempt<'_>) -> Blob {
        let key = (name.clone(), *digest);
        // the blob link is this process's own, and as fresh as an answer of the store
        self.rights.forget(&key);
        self.rights.remember(key.clone(), self.rights.ticket(&key), LinkHit::Link);
        self.copies.remember_checked(key, copy.size, attempt, self.damage.ticket());
        let blob = Blob { digest: *digest, size: copy.size };
        self.copies.remember_found(digest, copy);
        blob
    }
}

/// The largest number of manifests that a refused delete names. Thousands may need the blob.
const NAMED: usize = 5;
