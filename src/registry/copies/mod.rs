//! Finds the blob copies of a digest, and tells whether their segments can be relied on.

mod look;
mod readable;
mod suspect;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;

use super::{
    Error, Result,
    core::{Attempt, Core},
    damage::Damage,
};
use crate::{
    action::UploadId,
    memory::Part,
    oci::{Digest, Name},
    records::{
        Actor, CopyRecord, SeenSegments, Segment, json,
        key::{BlobKey, Key, Prefix, UploadKey},
    },
    storage::{
        Entry, Moment, StorageError,
        mutation::{Mutation, mutated},
    },
};

/// The bytes of a blob. After an error in the stream, the transfer must be broken off, not ended.
pub type BlobStream = Pin<Box<dyn Stream<Item = std::result::Result<bytes::Bytes, StorageError>> + Send>>;

/// A blob copy: segments that are a digest.
#[derive(Clone, Debug)]
pub(super) struct BlobCopy {
    pub(super) id: UploadId,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

impl BlobCopy {
    /// Returns the memory that the blob copy takes, in bytes, roughly.
    fn weight(&self) -> usize {
        200 + self.segments.len() * Segment::WEIGHT
    }
}

/// The number of times that the blob copies of a digest may change during a look.
const TURNS: usize = 8;

/// The blob copies of a digest, smallest id first, and the damage of one record that cannot be read, if there is one. A
/// damaged record names no copy, and the other copies count without it.
type BlobCopies = (Vec<Arc<BlobCopy>>, Option<StorageError>);

/// The time for which a blob copy is read without another look at its segments, if nobody reports damage.
const FOUND_TTL: Duration = Duration::from_mins(1);

/// The blob copies of the store.
pub struct Copies {
    core: Arc<Core>,
    damage: Arc<Damage>,
    /// Blob copies by key. They never change.
    records: Part<String, Arc<BlobCopy>>,
    /// The blob copies where digests were found. If the segments turn out to be gone, the digest is looked up again.
    found: Part<Digest, Arc<BlobCopy>>,
    /// Digests of repositories that this process checked lately, with their sizes and the time. They need no new look:
    /// see [`Copies::remember_checked`].
    checked: Part<(Name, Digest), (u64, Moment)>,
    /// Segments that a pull found corrupt, until their corruption note is written.
    corrupt: Part<UploadId, ()>,
}

impl Copies {
    pub(super) fn new(core: &Arc<Core>, damage: &Arc<Damage>) -> Self {
        let checked = core.part(|(name, _): &(Name, Digest), _: &(u64, Moment)| name.as_str().len() + 250);
        let checked = checked.for_time(core.options.lease / 4);
        let found = core.part(|_: &Digest, copy: &Arc<BlobCopy>| copy.weight()).for_time(FOUND_TTL);
        let memory = (checked.clone(), found.clone());
        damage.forgets(move |lost| {
            let (checked, found) = &memory;
            let any = match lost.0 {
                Some(digests) => digests.iter().fold(false, |any, digest| found.remove(digest).is_some() | any),
                None => found.remove_if(|_, _| true),
            };
            checked.remove_if(|(_, digest), _| lost.has(digest)) | any
        });
        Self {
            core: Arc::clone(core),
            damage: Arc::clone(damage),
            records: core.part(|key: &String, copy: &Arc<BlobCopy>| key.len() + copy.weight()),
            found,
            checked,
            corrupt: core.part(|_: &UploadId, (): &()| 50).for_time(FOUND_TTL),
        }
    }

    /// Returns the blob copies of a digest.
    ///
    /// Scrub may free a record between its listing and its read, while a newer copy comes. Then the copies are listed
    /// again.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    async fn list(&self, digest: &Digest) -> Result<BlobCopies> {
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
        for Entry { key, size, .. } in self.core.store.list_all(&Prefix::Copies(digest).to_string()).await? {
            if let Some(copy) = self.records.get(&key) {
                copies.push(copy);
            } else if let Some(read) = Box::pin(self.core.store.get_checked(&key, read_fact)).await? {
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
                self.records.insert(key, Arc::clone(&copy));
                copies.push(copy);
            } else {
                return Ok(None);
            }
        }
        Ok(Some((copies, damage)))
    }

    /// Writes the blob copy `copy` of `digest`.
    pub(super) async fn put(&self, digest: &Digest, copy: &BlobCopy, by: &Actor) -> Result<()> {
        let fact = CopyRecord {
            size: copy.size,
            segments: copy.segments.clone(),
            at: self.core.clock.time_ms(),
            by: by.clone(),
        };
        Ok(self.core.store.put(&BlobKey::Copy(copy.id.clone()).of(digest), json(&fact)).await?)
    }

    /// Returns the blob copies of a digest as they are now. `None` if they are the same as `before`, or if `before` is
    /// empty.
    async fn relist_if_changed(&self, digest: &Digest, before: &[Arc<BlobCopy>]) -> Result<Option<BlobCopies>> {
        if before.is_empty() || mutated(Mutation::PlacesNotListedAgain) {
            return Ok(None);
        }
        let now = self.list(digest).await?;
        let same = now.0.iter().map(|copy| &copy.id).eq(before.iter().map(|copy| &copy.id));
        Ok((!same).then_some(now))
    }

    /// Forgets blob copies whose segments were not found: this process may have read their records wrong.
    fn forget_copies(&self, digest: &Digest, copies: &[Arc<BlobCopy>]) {
        for copy in copies {
            self.records.remove(&BlobKey::Copy(copy.id.clone()).of(digest));
        }
    }

    /// Looks at the segments of a blob copy: whether all are there at their sizes, and whether they are marked.
    pub(super) async fn inspect(&self, copy: &BlobCopy) -> Result<Bytes> {
        let seen = SeenSegments::look(&self.core.store, &copy.id).await?;
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
        let attempt = self.core.begin(by).await?;
        // the first blob link may be gone by now, and a repository that is told of the blob must have it
        let _ = attempt.write_link(name, digest).await?;
        // the sign of life before the look: a scrub that marks these segments after the look sees it
        self.core.store.put(&UploadKey::Alive(attempt.suffix).of(&copy.id), Vec::new()).await?;
        let sound = self.inspect(copy).await? == Bytes::Sound;
        if attempt.was_slow_by_reads().await? { Err(Error::TooSlow) } else { Ok(sound) }
    }

    /// Remembers that a repository has a blob link that an attempt wrote, and that the bytes were there. A look that took
    /// over a quarter of a lease is not remembered.
    ///
    /// The memory lasts a quarter of a lease, and an attempt that relies on it takes at most half a lease. So no
    /// attempt outlasts the blob link.
    pub(super) fn remember_checked(&self, key: (Name, Digest), size: u64, attempt: &Attempt<'_>, ticket: u64) {
        if attempt.was_quick() && self.damage.ticket() == ticket {
            self.checked.insert(key, (size, self.core.clock.now()));
        }
    }

    /// Returns the size of a digest, if this process checked it for the repository less than a quarter of a lease ago.
    pub(super) async fn checked_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let key = (name.clone(), *digest);
        if !self.checked.contains_key(&key) {
            return Ok(None);
        }
        self.damage.read_reports().await?;
        let Some((size, since)) = self.checked.get(&key) else { return Ok(None) };
        Ok((self.core.clock.since(since) < self.core.lease.at(since) / 4).then_some(size))
    }

    /// Forgets that this process has checked a digest for a repository.
    pub(super) fn forget_checked(&self, key: &(Name, Digest)) {
        self.checked.remove(key);
    }

    /// Remembers a blob copy that this process has just written.
    pub(super) fn remember_found(&self, digest: &Digest, copy: BlobCopy) {
        self.found.insert(*digest, Arc::new(copy));
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
