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
    By, Error, Registry, Result, VerifyPulls,
    cache::Ticket,
    places::{Place, TURNS},
};
use crate::{
    oci::{Digest, Name},
    storage::{self, FaultKind, StorageError, layout, layout::Right},
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
pub(super) enum RightHit {
    /// A blob link, by an upload or a mount.
    Grant,
    /// A link of an existing manifest. The ticket goes stale when this process changes that manifest.
    Pin(Digest, Ticket),
}

/// The bytes of a blob. After an error in the stream, the transfer must be broken off, not ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, StorageError>> + Send>>;

impl Registry {
    /// Returns whether the repository has the digest: by a blob link, or by a link of a manifest that exists there.
    pub(super) async fn has(&self, name: &Name, digest: &Digest) -> Result<bool> {
        // not from `held`, which tells only that the bytes are there: another server may have removed the link since
        let key = (name.clone(), *digest);
        match self.rights.get(&key) {
            Some(RightHit::Grant) => return Ok(true),
            Some(RightHit::Pin(manifest, ticket)) if self.standing.ticket(&(name.clone(), manifest)) == ticket => {
                return Ok(true);
            }
            _ => {}
        }
        // boxed, since it is large and most requests are answered from memory
        Box::pin(self.asked_for_links(name, digest, false)).await
    }

    /// Answers as [`Registry::has`], never from memory. A caller that gives a link needs this: no link may outlive a
    /// delete by another server.
    pub(super) async fn has_afresh(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Box::pin(self.asked_for_links(name, digest, true)).await
    }

    async fn asked_for_links(&self, name: &Name, digest: &Digest, afresh: bool) -> Result<bool> {
        let key = (name.clone(), *digest);
        let ticket = self.rights.ticket(&key);
        let mut asked = HashSet::new();
        let mut after = None;
        // blob links come first, and one is enough; pins may be many
        let mut limit = 4;
        loop {
            let listed = self.store.list(&layout::rights(digest, name), after.as_deref(), limit).await?;
            for entry in &listed {
                match layout::right(&entry.key) {
                    Some(Right::Grant) => {
                        self.rights.remember(key, ticket, RightHit::Grant);
                        return Ok(true);
                    }
                    Some(Right::Pin(manifest)) if asked.insert(manifest) => {
                        let of_manifest = self.standing.ticket(&(name.clone(), manifest));
                        let newest = if afresh {
                            self.standing_afresh(name, &manifest).await
                        } else {
                            self.standing(name, &manifest).await
                        };
                        if self.links(name, &manifest, newest, digest).await? {
                            self.rights.remember(key, ticket, RightHit::Pin(manifest, of_manifest));
                            return Ok(true);
                        }
                    }
                    Some(Right::Pin(_) | Right::Left) | None => {}
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
        if !self.has(name, digest).await? {
            return Err(unknown(name, digest));
        }
        let place = self.readable(name, digest).await?;
        Ok(Blob { digest: *digest, size: place.size })
    }

    /// Returns the blob, for a client that may push and relies on the answer for a lease. Marked segments count as
    /// absent, so that the client pushes them again.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository does not have it, or if its bytes cannot be relied on.
    pub async fn blob_to_rely_on(&self, name: &Name, digest: &Digest, by: &By) -> Result<Blob> {
        if let Some(size) = self.held(name, digest).await?
            && self.has(name, digest).await?
        {
            return Ok(Blob { digest: *digest, size });
        }
        if !self.has_afresh(name, digest).await? {
            return Err(unknown(name, digest));
        }
        let size = self.grant_and_look(name, digest, by).await?.ok_or_else(|| unknown(name, digest))?;
        Ok(Blob { digest: *digest, size })
    }

    /// Writes a blob link for `name`. Returns the size of the blob if its bytes can be relied on.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if two attempts took too long.
    async fn grant_and_look(&self, name: &Name, digest: &Digest, by: &By) -> Result<Option<u64>> {
        // a slow attempt is made once more: its blob link may be gone by now
        for _ in 0..2 {
            let (began, ticket) = (self.begin().await?, self.known.ticket());
            self.grant(name, digest, by).await?;
            let Some(place) = self.look(digest).await?.sound else { return Ok(None) };
            if !self.was_slow_by_reads(began).await? {
                self.hold((name.clone(), *digest), place.size, began, ticket);
                return Ok(Some(place.size));
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
        by: &By,
    ) -> Result<Option<Blob>> {
        let found = match from {
            Some(from) => may_pull(from) && self.has_afresh(from, digest).await?,
            None => self.anyone_has(digest, may_pull).await?,
        };
        if !found {
            return Ok(None);
        }
        let size = self.grant_and_look(name, digest, by).await?;
        self.rights.forget(&(name.clone(), *digest));
        Ok(size.map(|size| Blob { digest: *digest, size }))
    }

    async fn anyone_has(&self, digest: &Digest, may_pull: impl Fn(&Name) -> bool) -> Result<bool> {
        /// The number of repositories to look at before an upload is cheaper.
        const MOST: usize = 100;
        let mut after = None;
        for _ in 0..MOST {
            let listed = self.store.list(&layout::holders(digest), after.as_deref(), 1).await?;
            let Some((holder, end)) = listed.first().and_then(|entry| layout::holder(digest, &entry.key)) else {
                return Ok(false);
            };
            if may_pull(&holder) && self.has_afresh(&holder, digest).await? {
                return Ok(true);
            }
            after = Some(end);
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
        let mut place = self.readable(name, &blob.digest).await?;
        let stream = match self.open(&place, range.clone()).await {
            Ok(stream) => stream,
            Err(error) if error.kind == FaultKind::Damaged => {
                // boxed, since it is large and most requests do without
                let (again, stream) = Box::pin(self.read_again(name, &blob.digest, range)).await?;
                place = again;
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
        Ok(if whole && selected { self.verified(stream, place, blob.digest) } else { stream })
    }

    /// Looks again for bytes that a read found gone or too short. Reports damage if they still are: a read may fail
    /// once although the bytes are right.
    async fn read_again(&self, name: &Name, digest: &Digest, range: Range<u64>) -> Result<(Arc<Place>, BlobStream)> {
        self.known.places.invalidate(digest);
        let again = async {
            let place = self.readable(name, digest).await?;
            let stream = self.open(&place, range).await?;
            Ok((place, stream))
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
    async fn readable(&self, name: &Name, digest: &Digest) -> Result<Arc<Place>> {
        if self.known.places.contains_key(digest) {
            self.hear().await?;
        }
        match self.known.places.get(digest) {
            Some(place) => Ok(place),
            // boxed, since it is large and most requests do without
            None => Box::pin(self.find_readable(name, digest)).await,
        }
    }

    async fn find_readable(&self, name: &Name, digest: &Digest) -> Result<Arc<Place>> {
        let ticket = self.known.ticket();
        let (mut places, mut damage) = self.places_of(digest).await?;
        // scrub frees all copies but one, and that one may have come since the listing
        let mut turns = 0;
        let first = loop {
            for place in places.iter().filter(|place| !self.rotten.contains_key(&place.id)) {
                if self.look_at(place).await? != super::places::Bytes::Missing {
                    if self.known.ticket() == ticket {
                        self.known.places.insert(*digest, Arc::clone(place));
                    }
                    return Ok(Arc::clone(place));
                }
            }
            turns += 1;
            let others = if turns < TURNS { self.others_than(digest, &places).await? } else { None };
            let Some(others) = others else {
                self.forget_facts(digest, &places);
                if let Some(damage) = damage {
                    return Err(damage.into());
                }
                break places.into_iter().next().ok_or_else(|| unknown(name, digest))?;
            };
            (places, damage) = others;
        };
        self.found_damaged(digest).await;
        let key = layout::place(digest, &first.id);
        Err(StorageError::damaged("read", &key, "the bytes it names are gone, too short or rotten").into())
    }

    async fn open(&self, place: &Place, range: Range<u64>) -> storage::Result<BlobStream> {
        let mut parts = place.segments.iter().filter_map(|segment| {
            let start = range.start.max(segment.offset);
            let end = range.end.min(segment.offset + segment.size);
            (start < end).then(|| (segment.key(&place.id), start - segment.offset..end - segment.offset))
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
    pub async fn delete_blob(&self, name: &Name, digest: &Digest, by: &By) -> Result<()> {
        self.grants_unless_needed(name, digest).await?;
        let key = (name.clone(), *digest);
        self.known.held.invalidate(&key);
        // the unlink first, so that the bytes always have a reason to stay while a server still relies on them
        let left = layout::left(digest, name, &layout::attempt());
        self.store.put(&left, self.fact(by)).await?;
        // a scrub that links the blob to a manifest has written its pin by now, or sees this unlink
        let grants = self.grants_unless_needed(name, digest).await?;
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
    async fn grants_unless_needed(&self, name: &Name, digest: &Digest) -> Result<Vec<String>> {
        let mut grants = Vec::new();
        let mut manifests = BTreeSet::new();
        for entry in self.store.list_all(&layout::rights(digest, name)).await? {
            match layout::right(&entry.key) {
                Some(Right::Grant) => grants.push(entry.key),
                Some(Right::Pin(manifest)) => {
                    manifests.insert(manifest);
                }
                Some(Right::Left) | None => {}
            }
        }
        let mut needed_by = Vec::new();
        for manifest in manifests {
            if self.is_there(name, &manifest).await? {
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
