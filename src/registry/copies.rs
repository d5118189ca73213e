//! Finds the blob copies of a digest, and tells whether their segments can be relied on.

use std::sync::Arc;

use futures::StreamExt;

use super::{Error, Registry, Result, references::Referenced};
use crate::{
    action::UploadId,
    oci::{Digest, Hasher, Name},
    records::{
        Actor, CopyRecord, SeenSegments, Segment, json,
        key::{BlobKey, DataKey, Key, Prefix, Suffix, UploadKey},
    },
    storage::{
        Entry, FaultKind, StorageError,
        mutation::{Mutation, mutated},
    },
};

/// A blob copy: segments that are a digest.
#[derive(Clone, Debug)]
pub(super) struct BlobCopy {
    pub(super) id: UploadId,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

impl BlobCopy {
    /// Returns the memory that the blob copy takes, in bytes, roughly.
    pub(super) fn weight(&self) -> usize {
        200 + self.segments.len() * Segment::WEIGHT
    }
}

/// A blob copy that can be relied on: a look that came after the reference found all segments, without a mark.
#[derive(Clone, Debug)]
pub(super) struct VerifiedCopy(Arc<BlobCopy>);

impl VerifiedCopy {
    /// Returns the length of the blob in bytes.
    pub(super) fn size(&self) -> u64 {
        self.0.size
    }
}

/// The result of a look at a digest's blob copies.
#[derive(Debug, Default)]
struct Look {
    sound: Option<VerifiedCopy>,
    /// Copies that are complete but marked: they can be read, not relied on.
    marked: Vec<Arc<BlobCopy>>,
}

/// The number of times that the blob copies of a digest may change during a look.
pub(super) const TURNS: usize = 8;

/// The blob copies of a digest, smallest id first, and the damage of one record that cannot be read, if there is one. A
/// damaged record names no copy, and the other copies count without it.
pub(super) type BlobCopies = (Vec<Arc<BlobCopy>>, Option<StorageError>);

impl Registry {
    /// Returns the blob copies of a digest.
    ///
    /// Scrub may free a record between its listing and its read, while a newer copy comes. Then the copies are listed
    /// again.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(super) async fn blob_copies(&self, digest: &Digest) -> Result<BlobCopies> {
        for _ in 0..TURNS {
            if let Some(copies) = self.try_blob_copies(digest).await? {
                return Ok(copies);
            }
        }
        Err(Error::TooSlow)
    }

    /// Returns the blob copies of a digest, or `None` if a listed record is gone when it is read.
    async fn try_blob_copies(&self, digest: &Digest) -> Result<Option<BlobCopies>> {
        let (mut copies, mut damage) = (Vec::new(), None);
        let read_fact = |content: bytes::Bytes| {
            serde_json::from_slice::<CopyRecord>(&content).map_err(|error| (content.len() as u64, error))
        };
        for Entry { key, size, .. } in self.store.list_all(&Prefix::Copies(digest).to_string()).await? {
            if let Some(copy) = self.copy_records.get(&key) {
                copies.push(copy);
            } else if let Some(read) = Box::pin(self.store.get_checked(&key, read_fact)).await? {
                let fact = match read {
                    Ok(fact) => fact,
                    // a read that fell short says nothing about the object
                    Err((length, error)) if length != size => {
                        return Err(StorageError::damaged("get", &key, error.to_string()).into());
                    }
                    Err((_, error)) => {
                        damage = Some(StorageError::damaged("get", &key, error.to_string()));
                        continue;
                    }
                };
                let id = Key::copy(&key)
                    .map(|(_, id)| id)
                    .ok_or_else(|| StorageError::damaged("list", &key, "its name is not one of the layout"))?;
                let copy = Arc::new(BlobCopy { id, size: fact.size, segments: fact.segments });
                self.copy_records.insert(key, Arc::clone(&copy));
                copies.push(copy);
            } else {
                return Ok(None);
            }
        }
        Ok(Some((copies, damage)))
    }

    /// Writes the blob copy `copy` of `digest`.
    pub(super) async fn put_blob_copy(&self, digest: &Digest, copy: &BlobCopy, by: &Actor) -> Result<()> {
        let fact =
            CopyRecord { size: copy.size, segments: copy.segments.clone(), at: self.clock.time_ms(), by: by.clone() };
        Ok(self.store.put(&BlobKey::Copy(copy.id.clone()).of(digest), json(&fact)).await?)
    }

    /// Returns a blob copy that can be relied on, if there is one.
    ///
    /// # Errors
    /// As [`Registry::ensure_sound_copy`].
    pub(super) async fn verify(&self, reference: Referenced<'_>) -> Result<Option<VerifiedCopy>> {
        Ok(self.look(reference).await?.sound)
    }

    /// Looks for a blob copy of a digest that can be relied on: records, then marks, then segments.
    ///
    /// Scrub frees all copies but one, and that one may have come after the listing. So a look that finds no copy lists
    /// again, until two listings agree.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    async fn look(&self, reference: Referenced<'_>) -> Result<Look> {
        let digest = reference.digest();
        let ticket = self.known.ticket();
        let too_early = if mutated(Mutation::MarksBeforeFacts) {
            Some(self.store.list_all(&Prefix::AllData.to_string()).await?)
        } else {
            None
        };
        // damaged records count as absent, so that the client pushes the blob again
        let (mut copies, _) = self.blob_copies(digest).await?;
        for _ in 0..TURNS {
            let look = self.look_among(digest, &copies, too_early.as_deref(), ticket).await?;
            if look.sound.is_some() || !look.marked.is_empty() {
                return Ok(look);
            }
            let Some((others, _)) = self.relist_if_changed(digest, &copies).await? else {
                self.forget_copies(digest, &copies);
                self.found_damaged(digest).await;
                return Ok(look);
            };
            copies = others;
        }
        Err(Error::TooSlow)
    }

    /// Returns the blob copies of a digest as they are now. `None` if they are the same as `before`, or if `before` is
    /// empty.
    pub(super) async fn relist_if_changed(
        &self,
        digest: &Digest,
        before: &[Arc<BlobCopy>],
    ) -> Result<Option<BlobCopies>> {
        if before.is_empty() || mutated(Mutation::PlacesNotListedAgain) {
            return Ok(None);
        }
        let now = self.blob_copies(digest).await?;
        let same = now.0.iter().map(|copy| &copy.id).eq(before.iter().map(|copy| &copy.id));
        Ok((!same).then_some(now))
    }

    /// Forgets blob copies whose segments were not found: this process may have read their records wrong.
    pub(super) fn forget_copies(&self, digest: &Digest, copies: &[Arc<BlobCopy>]) {
        for copy in copies {
            self.copy_records.invalidate(&BlobKey::Copy(copy.id.clone()).of(digest));
        }
    }

    async fn look_among(
        &self,
        digest: &Digest,
        copies: &[Arc<BlobCopy>],
        too_early: Option<&[Entry]>,
        ticket: u64,
    ) -> Result<Look> {
        let mut look = Look::default();
        for copy in copies {
            if self.corrupt.contains_key(&copy.id) {
                continue;
            }
            let is_its_mark = |entry: &Entry| Prefix::Data(&copy.id).has(&entry.key) && DataKey::is_mark(&entry.key);
            let found = match (self.inspect(copy).await?, too_early) {
                (Bytes::Marked, Some(seen)) if !seen.iter().any(is_its_mark) => Bytes::Sound,
                (found, _) => found,
            };
            match found {
                Bytes::Sound => {
                    if self.known.ticket() == ticket {
                        self.known.copies.insert(*digest, Arc::clone(copy));
                    }
                    look.sound = Some(VerifiedCopy(Arc::clone(copy)));
                    return Ok(look);
                }
                Bytes::Marked => look.marked.push(Arc::clone(copy)),
                Bytes::Missing => {}
            }
        }
        Ok(look)
    }

    /// Looks at the segments of a blob copy: whether all are there at their sizes, and whether they are marked.
    pub(super) async fn inspect(&self, copy: &BlobCopy) -> Result<Bytes> {
        let seen = SeenSegments::look(&self.store, &copy.id).await?;
        if seen.corruption_notes().next().is_some() {
            return Ok(Bytes::Missing);
        }
        let marked = !mutated(Mutation::NoMarks) && seen.marks().next().is_some();
        let whole = mutated(Mutation::BytesNotLookedAt) || seen.fault(&copy.id, &copy.segments, copy.size).is_none();
        Ok(if !whole {
            Bytes::Missing
        } else if marked {
            Bytes::Marked
        } else {
            Bytes::Sound
        })
    }

    /// Returns whether the segments of a commit that took long are still there. First it gives the repository a new
    /// blob link.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if this look took too long as well.
    pub(super) async fn recheck_commit(
        &self,
        name: &Name,
        digest: &Digest,
        copy: &BlobCopy,
        by: &Actor,
    ) -> Result<bool> {
        let attempt = self.begin(by).await?;
        // the first blob link may be gone by now, and a repository that is told of the blob must have it
        let _ = self.write_link(name, digest, &attempt).await?;
        // the sign of life before the look: a scrub that marks these segments after the look sees it
        self.store.put(&UploadKey::Alive(attempt.suffix).of(&copy.id), Vec::new()).await?;
        let sound = self.inspect(copy).await? == Bytes::Sound;
        if self.was_slow_by_reads(&attempt).await? { Err(Error::TooSlow) } else { Ok(sound) }
    }

    /// Returns a blob copy to rely on, or `None` if there is none. If all copies are marked, copies the segments of one
    /// that can still be read.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(super) async fn ensure_sound_copy(
        &self,
        reference: Referenced<'_>,
        by: &Actor,
    ) -> Result<Option<VerifiedCopy>> {
        let digest = reference.digest();
        for _ in 0..TURNS {
            let look = self.look(reference).await?;
            if look.sound.is_some() {
                return Ok(look.sound);
            }
            for marked in &look.marked {
                if let Some(copy) = self.copy(digest, marked).await? {
                    self.put_blob_copy(digest, &copy, by).await?;
                    return Ok(Some(VerifiedCopy(Arc::new(copy))));
                }
            }
            // all marked copies went while they were copied; a copy of them, or a pushed one, may exist now
            if look.marked.is_empty() || self.relist_if_changed(digest, &look.marked).await?.is_none() {
                return Ok(None);
            }
        }
        Err(Error::TooSlow)
    }

    /// Makes sure that a needed digest has a blob copy to rely on. If all copies carry marks, of scrubs that did not
    /// end, it copies the segments of one. Returns whether such a copy exists now.
    ///
    /// # Errors
    /// Those of the store, and [`Error::TooSlow`].
    pub async fn mend(&self, digest: &Digest, by: &Actor) -> Result<bool> {
        let attempt = self.begin(by).await?;
        let found = self.ensure_sound_copy(Referenced::before(digest), by).await?.is_some();
        // scrub may have freed the new segments before their record was written: then a later run copies again
        Ok(found && !self.was_slow_by_reads(&attempt).await?)
    }

    /// Copies the segments of a blob copy into one segment under a new id. Returns `None` if they went away meanwhile,
    /// or are not `digest`.
    ///
    /// The new copy replaces its source. So bytes that were read wrong make no copy.
    async fn copy(&self, digest: &Digest, copy: &BlobCopy) -> Result<Option<BlobCopy>> {
        let id = UploadId::random();
        let segment = Segment { offset: 0, size: copy.size, attempt: Suffix::random() };
        if copy.size == 0 {
            return Ok(Some(BlobCopy { id, size: 0, segments: Vec::new() }));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut writer = self.store.writer(segment.key(&id), Some(copy.size));
        for from in &copy.segments {
            // a missing segment is an answer; a store that cannot answer is an error
            let gone =
                |error: StorageError| if error.kind == FaultKind::Damaged { Ok(None) } else { Err(error.into()) };
            let mut stream = match self.store.read(&from.key(&copy.id), 0..from.size).await {
                Ok(stream) => stream,
                Err(error) => return gone(error),
            };
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => {
                        hasher.update(&chunk);
                        writer.write(chunk).await?;
                    }
                    Err(error) => return gone(error),
                }
            }
        }
        writer.close().await?;
        if hasher.finish() != *digest {
            tracing::warn!(%digest, key = Prefix::Data(&copy.id).to_string(), "bytes were not copied: they came as another digest");
            self.store.delete(&segment.key(&id)).await?;
            return Ok(None);
        }
        Ok(Some(BlobCopy { id, size: copy.size, segments: vec![segment] }))
    }
}

/// The state of a blob copy's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// All are there, unmarked.
    Sound,
    /// All are there, but a scrub means to free them.
    Marked,
    /// Some are missing, or a corruption note is beside them.
    Missing,
}
