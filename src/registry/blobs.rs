//! Blobs: links, reads, mounts and deletes.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    pin::Pin,
    sync::Arc,
    sync::atomic::Ordering,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{
    Error, Registry, Result, VerifyPulls,
    cache::Ticket,
    copies::{BlobCopy, TURNS},
};
use crate::{
    oci::{Digest, Name},
    records::{
        Actor,
        key::{BlobKey, BlobLink, Key, Prefix, Suffix},
    },
    storage::{self, FaultKind, StorageError},
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
pub(super) enum LinkHit {
    /// A blob link, by an upload or a mount.
    Link,
    /// A link of an existing manifest. The ticket goes stale when this process changes that manifest.
    Pin(Digest, Ticket),
}

/// The bytes of a blob. After an error in the stream, the transfer must be broken off, not ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, StorageError>> + Send>>;

impl Registry {
    /// Returns whether the repository has the digest: by a blob link, or by a link of a manifest that exists there.
    pub(super) async fn repository_has_blob(&self, name: &Name, digest: &Digest) -> Result<bool> {
        // not from `held`, which tells only that the bytes are there: another server may have removed the link since
        let key = (name.clone(), *digest);
        match self.rights.get(&key) {
            Some(LinkHit::Link) => return Ok(true),
            Some(LinkHit::Pin(manifest, ticket)) if self.standing.ticket(&(name.clone(), manifest)) == ticket => {
                return Ok(true);
            }
            _ => {}
        }
        // boxed, since it is large and most requests are answered from memory
        Box::pin(self.ask_for_links(name, digest, false)).await
    }

    /// Answers as [`Registry::repository_has_blob`], never from memory. A caller that gives a link needs this: no link may outlive a
    /// delete by another server.
    pub(super) async fn repository_has_blob_afresh(&self, name: &Name, digest: &Digest) -> Result<bool> {
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
            let listed = self.store.list(&Prefix::Links(digest, name).to_string(), after.as_deref(), limit).await?;
            for entry in &listed {
                match BlobLink::at_end_of(&entry.key) {
                    Some(BlobLink::Link) => {
                        self.rights.remember(key, ticket, LinkHit::Link);
                        return Ok(true);
                    }
                    Some(BlobLink::Pin(manifest)) if asked.insert(manifest) => {
                        let of_manifest = self.standing.ticket(&(name.clone(), manifest));
                        let newest = if afresh {
                            self.standing_afresh(name, &manifest).await
                        } else {
                            self.standing(name, &manifest).await
                        };
                        if self.manifest_links_blob(name, &manifest, newest, digest).await? {
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
    pub async fn blob(&self, name: &Name, digest: &Digest) -> Result<Blob> {
        if !self.repository_has_blob(name, digest).await? {
            return Err(unknown(name, digest));
        }
        let copy = self.readable(name, digest).await?;
        Ok(Blob { digest: *digest, size: copy.size })
    }

    /// Returns the blob, for a client that may push and relies on the answer for a lease. Marked segments count as
    /// absent, so that the client pushes them again.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository does not have it, or if its bytes cannot be relied on.
    pub async fn blob_to_rely_on(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<Blob> {
        if let Some(size) = self.checked_size(name, digest).await?
            && self.repository_has_blob(name, digest).await?
        {
            return Ok(Blob { digest: *digest, size });
        }
        if !self.repository_has_blob_afresh(name, digest).await? {
            return Err(unknown(name, digest));
        }
        let size = self.link_and_look(name, digest, by).await?.ok_or_else(|| unknown(name, digest))?;
        Ok(Blob { digest: *digest, size })
    }

    /// Writes a blob link for `name`. Returns the size of the blob if its bytes can be relied on.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if two attempts took too long.
    async fn link_and_look(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<Option<u64>> {
        // a slow attempt is made once more: its blob link may be gone by now
        for _ in 0..2 {
            let (attempt, ticket) = (self.begin(by).await?, self.known.ticket());
            let reference = self.write_link(name, digest, &attempt).await?;
            let Some(copy) = self.verify(reference).await? else { return Ok(None) };
            if !self.was_slow_by_reads(&attempt).await? {
                self.remember_checked((name.clone(), *digest), copy.size(), &attempt, ticket);
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
            let listed = self.store.list(&Prefix::AllLinks(digest).to_string(), after.as_deref(), 1).await?;
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

    /// Returns a stream of a blob's bytes: of `range`, or all. The first segment is open already, so most errors come
    /// before the stream.
    ///
    /// # Errors
    /// Damage, if the bytes are gone or too short.
    pub async fn read_blob(&self, name: &Name, blob: &Blob, range: Option<Range<u64>>) -> Result<BlobStream> {
        let whole = range.is_none();
        let range = range.unwrap_or(0..blob.size);
        // a remembered blob copy whose segments are gone is looked up again before any error
        let mut copy = self.readable(name, &blob.digest).await?;
        let stream = match self.open(&copy, range.clone()).await {
            Ok(stream) => stream,
            Err(error) if error.kind == FaultKind::Damaged => {
                // boxed, since it is large and most requests do without
                let (again, stream) = Box::pin(self.read_again(name, &blob.digest, range)).await?;
                copy = again;
                stream
            }
            Err(error) => return Err(error.into()),
        };
        let selected = match self.options.verify_pulls {
            VerifyPulls::None => false,
            VerifyPulls::OneIn(n) => self.pulls.fetch_add(1, Ordering::Relaxed).is_multiple_of(n.max(1)),
        };
        let (known, digest) = (self.known.clone(), blob.digest);
        let stream: BlobStream = Box::pin(stream.inspect_err(move |error| {
            // the next pull looks for a whole copy instead of failing at the same byte, and a push may heal the blob
            if error.kind == FaultKind::Damaged {
                known.forget(&digest);
            }
        }));
        Ok(if whole && selected { self.verified(stream, copy, blob.digest) } else { stream })
    }

    /// Looks again for bytes that a read found gone or too short. Reports damage if they still are: a read may fail
    /// once although the bytes are right.
    async fn read_again(&self, name: &Name, digest: &Digest, range: Range<u64>) -> Result<(Arc<BlobCopy>, BlobStream)> {
        self.known.copies.invalidate(digest);
        let again = async {
            let copy = self.readable(name, digest).await?;
            let stream = self.open(&copy, range).await?;
            Ok((copy, stream))
        };
        let again = again.await;
        if again.as_ref().is_err_and(Error::is_damage) {
            // all memory of the digest may be gone already, and then `found_damaged` reports nothing
            self.found_damaged(digest).await;
            self.try_to_report(digest).await;
        }
        again
    }

    /// Returns a blob copy whose segments can be read.
    async fn readable(&self, name: &Name, digest: &Digest) -> Result<Arc<BlobCopy>> {
        if self.known.copies.contains_key(digest) {
            self.read_damage_reports().await?;
        }
        match self.known.copies.get(digest) {
            Some(copy) => Ok(copy),
            // boxed, since it is large and most requests do without
            None => Box::pin(self.find_readable(name, digest)).await,
        }
    }

    async fn find_readable(&self, name: &Name, digest: &Digest) -> Result<Arc<BlobCopy>> {
        let ticket = self.known.ticket();
        let (mut copies, mut damage) = self.blob_copies(digest).await?;
        // scrub frees all copies but one, and that one may have come since the listing
        let mut turns = 0;
        let first = loop {
            for copy in copies.iter().filter(|copy| !self.corrupt.contains_key(&copy.id)) {
                if self.inspect(copy).await? != super::copies::Bytes::Missing {
                    if self.known.ticket() == ticket {
                        self.known.copies.insert(*digest, Arc::clone(copy));
                    }
                    return Ok(Arc::clone(copy));
                }
            }
            turns += 1;
            let others = if turns < TURNS { self.relist_if_changed(digest, &copies).await? } else { None };
            let Some(others) = others else {
                self.forget_copies(digest, &copies);
                if let Some(damage) = damage {
                    return Err(damage.into());
                }
                break copies.into_iter().next().ok_or_else(|| unknown(name, digest))?;
            };
            (copies, damage) = others;
        };
        self.found_damaged(digest).await;
        let key = BlobKey::Copy(first.id.clone()).of(digest);
        Err(StorageError::damaged("read", &key, "the bytes it names are gone, too short or corrupt").into())
    }

    async fn open(&self, copy: &BlobCopy, range: Range<u64>) -> storage::Result<BlobStream> {
        let mut parts = copy.segments.iter().filter_map(|segment| {
            let start = range.start.max(segment.offset);
            let end = range.end.min(segment.offset + segment.size);
            (start < end).then(|| (segment.key(&copy.id), start - segment.offset..end - segment.offset))
        });
        let Some((key, first)) = parts.next() else { return Ok(Box::pin(stream::empty())) };
        let first = self.store.read(&key, first).await?;
        let rest: Vec<_> = parts.collect();
        if rest.is_empty() {
            return Ok(Box::pin(first));
        }
        let store = self.store.clone();
        let rest = stream::iter(rest).then(move |(key, range)| {
            let store = store.clone();
            async move { store.read(&key, range).await }
        });
        Ok(Box::pin(first.chain(rest.try_flatten())))
    }

    /// Deletes a blob from a repository: writes an unlink and deletes the blob links.
    ///
    /// # Errors
    /// [`Error::Needed`] if a manifest that exists there needs the blob. [`Error::BlobUnknown`] if the repository has
    /// no blob link.
    pub async fn delete_blob(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<()> {
        self.links_unless_needed(name, digest).await?;
        let key = (name.clone(), *digest);
        self.known.held.invalidate(&key);
        // the unlink first, so that the bytes always have a reason to stay while a server still relies on them
        let left = BlobLink::Unlinked.of(digest, name, Suffix::random());
        self.store.put(&left, self.provenance(by)).await?;
        // a scrub that links the blob to a manifest has written its pin by now, or sees this unlink
        let grants = self.links_unless_needed(name, digest).await?;
        let _forgetting = self.rights.forget_afterwards(key.clone());
        for grant in grants {
            self.store.delete(&grant).await?;
        }
        self.known.held.invalidate(&key);
        Ok(())
    }

    /// Returns the keys of a repository's links of a blob.
    ///
    /// # Errors
    /// [`Error::Needed`] if a manifest needs the blob. [`Error::BlobUnknown`] if there is no blob link.
    async fn links_unless_needed(&self, name: &Name, digest: &Digest) -> Result<Vec<String>> {
        let mut grants = Vec::new();
        let mut manifests = BTreeSet::new();
        for entry in self.store.list_all(&Prefix::Links(digest, name).to_string()).await? {
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
            if self.manifest_stands(name, &manifest).await? {
                needed_by.push(manifest);
                if needed_by.len() == NAMED {
                    break;
                }
            }
        }
        if !needed_by.is_empty() {
            return Err(Error::Needed { digest: *digest, needed_by });
        }
        if grants.is_empty() { Err(unknown(name, digest)) } else { Ok(grants) }
    }
}

/// The largest number of manifests that a refused delete names. Thousands may need the blob.
const NAMED: usize = 5;

pub(super) fn unknown(name: &Name, digest: &Digest) -> Error {
    Error::BlobUnknown { name: name.clone(), digest: *digest }
}
