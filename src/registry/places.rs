//! Finds the blob copies of a digest, and tells whether their segments can be relied on.

use std::sync::Arc;

use futures::StreamExt;

use super::{
    By, Error, Registry, Result,
    facts::{PlaceFact, Segment},
    json,
    session::Session,
};
use crate::{
    action::UploadId,
    oci::{Digest, Hasher, Name},
    storage::{
        Entry, FaultKind, StorageError, layout,
        mutation::{Mutation, mutated},
    },
};

/// A blob copy: segments that are a digest.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: UploadId,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

/// The memory that a segment takes, in bytes, roughly.
pub(super) const SEGMENT_WEIGHT: usize = 80;

impl Place {
    /// Returns the memory that the blob copy takes, in bytes, roughly.
    pub(super) fn weight(&self) -> usize {
        200 + self.segments.len() * SEGMENT_WEIGHT
    }
}

/// The result of a look at a digest's blob copies.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// A copy that can be relied on.
    pub(super) sound: Option<Arc<Place>>,
    /// Copies that are complete but marked: they can be read, not relied on.
    doomed: Vec<Arc<Place>>,
}

/// The number of times that the blob copies of a digest may change during a look.
pub(super) const TURNS: usize = 8;

/// The blob copies of a digest, smallest id first, and the damage of one record that cannot be read, if there is one. A
/// damaged record names no copy, and the other copies count without it.
pub(super) type Places = (Vec<Arc<Place>>, Option<StorageError>);

impl Registry {
    /// Returns the blob copies of a digest.
    ///
    /// Scrub may free a record between its listing and its read, while a newer copy comes. Then the copies are listed
    /// again.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(super) async fn places_of(&self, digest: &Digest) -> Result<Places> {
        for _ in 0..TURNS {
            if let Some(places) = self.try_places_of(digest).await? {
                return Ok(places);
            }
        }
        Err(Error::TooSlow)
    }

    /// Returns the blob copies of a digest, or `None` if a listed record is gone when it is read.
    async fn try_places_of(&self, digest: &Digest) -> Result<Option<Places>> {
        let (mut places, mut damage) = (Vec::new(), None);
        let read_fact = |content: bytes::Bytes| {
            serde_json::from_slice::<PlaceFact>(&content).map_err(|error| (content.len() as u64, error))
        };
        for Entry { key, size, .. } in self.store.list_all(&layout::places(digest)).await? {
            if let Some(place) = self.place_facts.get(&key) {
                places.push(place);
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
                let id = layout::place_id(&key)
                    .ok_or_else(|| StorageError::damaged("list", &key, "its name is not one of the layout"))?;
                let place = Arc::new(Place { id, size: fact.size, segments: fact.segments });
                self.place_facts.insert(key, Arc::clone(&place));
                places.push(place);
            } else {
                return Ok(None);
            }
        }
        Ok(Some((places, damage)))
    }

    /// Writes the blob copy `place` of `digest`.
    pub(super) async fn put_place(&self, digest: &Digest, place: &Place, by: &By) -> Result<()> {
        let fact =
            PlaceFact { size: place.size, segments: place.segments.clone(), at: self.clock.time_ms(), by: by.clone() };
        Ok(self.store.put(&layout::place(digest, &place.id), json(&fact)).await?)
    }

    /// Looks for a blob copy of a digest that can be relied on: records, then marks, then segments. The caller has
    /// written its reference already.
    ///
    /// Scrub frees all copies but one, and that one may have come after the listing. So a look that finds no copy lists
    /// again, until two listings agree.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(super) async fn look(&self, digest: &Digest) -> Result<Look> {
        let ticket = self.known.ticket();
        let too_early =
            if mutated(Mutation::MarksBeforeFacts) { Some(self.store.list_all(layout::DATA).await?) } else { None };
        // damaged records count as absent, so that the client pushes the blob again
        let (mut places, _) = self.places_of(digest).await?;
        for _ in 0..TURNS {
            let look = self.look_among(digest, &places, too_early.as_deref(), ticket).await?;
            if look.sound.is_some() || !look.doomed.is_empty() {
                return Ok(look);
            }
            let Some((others, _)) = self.others_than(digest, &places).await? else {
                self.forget_facts(digest, &places);
                self.found_damaged(digest).await;
                return Ok(look);
            };
            places = others;
        }
        Err(Error::TooSlow)
    }

    /// Returns the blob copies of a digest as they are now. `None` if they are the same as `before`, or if `before` is
    /// empty.
    pub(super) async fn others_than(&self, digest: &Digest, before: &[Arc<Place>]) -> Result<Option<Places>> {
        if before.is_empty() || mutated(Mutation::PlacesNotListedAgain) {
            return Ok(None);
        }
        let now = self.places_of(digest).await?;
        let same = now.0.iter().map(|place| &place.id).eq(before.iter().map(|place| &place.id));
        Ok((!same).then_some(now))
    }

    /// Forgets blob copies whose segments were not found: this process may have read their records wrong.
    pub(super) fn forget_facts(&self, digest: &Digest, places: &[Arc<Place>]) {
        for place in places {
            self.place_facts.invalidate(&layout::place(digest, &place.id));
        }
    }

    async fn look_among(
        &self,
        digest: &Digest,
        places: &[Arc<Place>],
        too_early: Option<&[Entry]>,
        ticket: u64,
    ) -> Result<Look> {
        let mut look = Look::default();
        for place in places {
            if self.rotten.contains_key(&place.id) {
                continue;
            }
            let found = match (self.look_at(place).await?, too_early) {
                (Bytes::Marked, Some(seen)) if !seen.iter().any(|entry| layout::is_mark(&place.id, &entry.key)) => {
                    Bytes::Sound
                }
                (found, _) => found,
            };
            match found {
                Bytes::Sound => {
                    if self.known.ticket() == ticket {
                        self.known.places.insert(*digest, Arc::clone(place));
                    }
                    look.sound = Some(Arc::clone(place));
                    return Ok(look);
                }
                Bytes::Marked => look.doomed.push(Arc::clone(place)),
                Bytes::Missing => {}
            }
        }
        Ok(look)
    }

    /// Looks at the segments of a blob copy: whether all are there at their sizes, and whether they are marked.
    pub(super) async fn look_at(&self, place: &Place) -> Result<Bytes> {
        let prefix = layout::data(&place.id);
        let seen = self.store.list_all(&prefix).await?;
        if seen.iter().any(|entry| layout::is_rotten(&place.id, &entry.key)) {
            return Ok(Bytes::Missing);
        }
        let marked = !mutated(Mutation::NoMarks) && seen.iter().any(|entry| layout::is_mark(&place.id, &entry.key));
        // a directory is not read at one moment: the segments must be seen after the marks were
        let seen = if self.store.ordered_listings() || marked { seen } else { self.store.list_all(&prefix).await? };
        // a listing is in the order of its keys, so a search is cheap; an upload of 10,000 chunks must not cost their
        // square
        let whole = mutated(Mutation::BytesNotLookedAt)
            || place.segments.iter().all(|segment| {
                let key = segment.key(&place.id);
                let found = seen.binary_search_by(|entry| entry.key.as_str().cmp(&key));
                found.is_ok_and(|at| seen[at].size == segment.size)
            });
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
    pub(super) async fn still_there(&self, name: &Name, digest: &Digest, place: &Place, by: &By) -> Result<bool> {
        let began = self.begin().await?;
        // the first blob link may be gone by now, and a repository that is told of the blob must have it
        self.grant(name, digest, by).await?;
        // the sign of life before the look: a scrub that marks these segments after the look sees it
        self.store.put(&layout::upload_alive(&place.id, &layout::attempt()), Vec::new()).await?;
        let sound = self.look_at(place).await? == Bytes::Sound;
        if self.was_slow_by_reads(began).await? { Err(Error::TooSlow) } else { Ok(sound) }
    }

    /// Returns a blob copy to rely on, or `None` if there is none. If all copies are marked, copies the segments of one
    /// that can still be read. The caller has written its reference already.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(super) async fn rely_on(&self, digest: &Digest, by: &By) -> Result<Option<Arc<Place>>> {
        for _ in 0..TURNS {
            let look = self.look(digest).await?;
            if look.sound.is_some() {
                return Ok(look.sound);
            }
            for doomed in &look.doomed {
                if let Some(copy) = self.copy(digest, doomed).await? {
                    self.put_place(digest, &copy, by).await?;
                    return Ok(Some(Arc::new(copy)));
                }
            }
            // all marked copies went while they were copied; a copy of them, or a pushed one, may exist now
            if look.doomed.is_empty() || self.others_than(digest, &look.doomed).await?.is_none() {
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
    pub async fn mend(&self, digest: &Digest, by: &By) -> Result<bool> {
        let began = self.begin().await?;
        let found = self.rely_on(digest, by).await?.is_some();
        // scrub may have freed the new segments before their record was written: then a later run copies again
        Ok(found && !self.was_slow_by_reads(began).await?)
    }

    /// Copies the segments of a blob copy into one segment under a new id. Returns `None` if they went away meanwhile,
    /// or are not `digest`.
    ///
    /// The new copy replaces its source. So bytes that were read wrong make no copy.
    async fn copy(&self, digest: &Digest, place: &Place) -> Result<Option<Place>> {
        let id = UploadId::random();
        let segment = Segment { offset: 0, size: place.size, attempt: layout::attempt() };
        if place.size == 0 {
            return Ok(Some(Place { id, size: 0, segments: Vec::new() }));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut writer = self.store.writer(segment.key(&id), Some(place.size));
        for from in &place.segments {
            // a missing segment is an answer; a store that cannot answer is an error
            let gone =
                |error: StorageError| if error.kind == FaultKind::Damaged { Ok(None) } else { Err(error.into()) };
            let mut stream = match self.store.read(&from.key(&place.id), 0..from.size).await {
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
            tracing::warn!(%digest, key = layout::data(&place.id), "bytes were not copied: they came as another digest");
            self.store.delete(&segment.key(&id)).await?;
            return Ok(None);
        }
        Ok(Some(Place { id, size: place.size, segments: vec![segment] }))
    }
}

/// Returns the segments of a session as a blob copy.
pub(super) fn place_of(session: &Session) -> Place {
    Place { id: session.id.clone(), size: session.state.offset, segments: session.state.segments.clone() }
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
