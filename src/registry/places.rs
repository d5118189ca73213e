//! Where a digest's bytes are, and whether they can be relied on.

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
    storage::{Entry, FaultKind, StorageError, layout, mutation::mutated},
};

/// The fact that some bytes are a digest.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: UploadId,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

/// About how much memory a segment takes.
pub(super) const SEGMENT_WEIGHT: usize = 80;

impl Place {
    /// About how much memory it takes.
    pub(super) fn weight(&self) -> usize {
        200 + self.segments.len() * SEGMENT_WEIGHT
    }
}

/// What a look at a digest's bytes found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Bytes that can be relied on.
    pub(super) sound: Option<Arc<Place>>,
    /// Bytes that are there but marked: they can be read, not relied on.
    doomed: Vec<Arc<Place>>,
}

/// How often the places of a digest may have become others while they were looked at.
pub(super) const TURNS: usize = 8;

/// The places of a digest, smallest id first; and what is wrong with one of the facts that cannot be read, if any is. Those
/// name no place, and do not stand in the way of those that others do.
pub(super) type Places = (Vec<Arc<Place>>, Option<StorageError>);

impl Registry {
    /// Returns the places of a digest.
    ///
    /// A fact may be freed between the listing and its read, while a newer copy comes. Then the places are listed again.
    pub(super) async fn places_of(&self, digest: &Digest) -> Result<Places> {
        for _ in 0..TURNS {
            if let Some(places) = self.try_places_of(digest).await? {
                return Ok(places);
            }
        }
        Err(Error::TooSlow)
    }

    /// Returns the places of a digest; nothing where one of the facts that were listed is gone by the time it is read.
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
                    // a read that fell short says nothing about what is there
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

    /// Writes the fact that the bytes of `place` are `digest`.
    pub(super) async fn put_place(&self, digest: &Digest, place: &Place, by: &By) -> Result<()> {
        let fact =
            PlaceFact { size: place.size, segments: place.segments.clone(), at: self.clock.time_ms(), by: by.clone() };
        Ok(self.store.put(&layout::place(digest, &place.id), json(&fact)).await?)
    }

    /// Looks at a digest's bytes, for one that has written its reference already: facts, then marks, then bytes.
    ///
    /// Scrub frees all copies but one, which may have come after the facts were listed: so one that finds nothing lists them
    /// again, until they are as they were, or too often have not been.
    pub(super) async fn look(&self, digest: &Digest) -> Result<Look> {
        let ticket = self.known.ticket();
        let too_early =
            if mutated("marks before facts") { Some(self.store.list_all(layout::DATA).await?) } else { None };
        // what is damaged is to be pushed again, as what is gone
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

    /// The places of a digest as they are now; nothing where they are these, or where there was none.
    pub(super) async fn others_than(&self, digest: &Digest, before: &[Arc<Place>]) -> Result<Option<Places>> {
        if before.is_empty() || mutated("places not listed again") {
            return Ok(None);
        }
        let now = self.places_of(digest).await?;
        let same = now.0.iter().map(|place| &place.id).eq(before.iter().map(|place| &place.id));
        Ok((!same).then_some(now))
    }

    /// Forgets the facts of places whose bytes were not found: what was remembered of them may have come wrong.
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

    /// Whether a place's bytes are there, every segment at its size, and unmarked.
    pub(super) async fn look_at(&self, place: &Place) -> Result<Bytes> {
        let prefix = layout::data(&place.id);
        let seen = self.store.list_all(&prefix).await?;
        if seen.iter().any(|entry| layout::is_rotten(&place.id, &entry.key)) {
            return Ok(Bytes::Missing);
        }
        let marked = !mutated("no marks") && seen.iter().any(|entry| layout::is_mark(&place.id, &entry.key));
        // a directory is not read at one moment: the bytes must be seen after the marks were
        let seen = if self.store.ordered_listings() || marked { seen } else { self.store.list_all(&prefix).await? };
        // a listing is in the order of its keys; an upload of 10,000 chunks must not cost their square
        let whole = mutated("bytes not looked at")
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

    /// For a commit that took long: whether the bytes are there yet, for a repository that is given them anew.
    pub(super) async fn still_there(&self, name: &Name, digest: &Digest, place: &Place, by: &By) -> Result<bool> {
        let began = self.begin().await?;
        // the first grant may be gone by now, and who is told of the blob must have it
        self.grant(name, digest, by).await?;
        // the sign of life before the look: a scrub that marks these bytes after the look sees it
        self.store.put(&layout::upload_alive(&place.id, &layout::attempt()), Vec::new()).await?;
        let sound = self.look_at(place).await? == Bytes::Sound;
        if self.was_slow_by_reads(began).await? { Err(Error::TooSlow) } else { Ok(sound) }
    }

    /// Bytes to rely on, for one that has written its reference already: sound ones, or a copy made of marked ones
    /// while they can be read. Nothing where there are none.
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
            // all of them went while they were copied: a copy that was made of them, or pushed, may be there
            if look.doomed.is_empty() || self.others_than(digest, &look.doomed).await?.is_none() {
                return Ok(None);
            }
        }
        Err(Error::TooSlow)
    }

    /// Makes sure that a digest that is needed has bytes to rely on: where all of them carry marks, of scrubs that did not
    /// end, one of them is copied. Whether it has.
    pub async fn mend(&self, digest: &Digest, by: &By) -> Result<bool> {
        let began = self.begin().await?;
        let found = self.rely_on(digest, by).await?.is_some();
        // the copy that it made may have gone again before a fact named it: then a later run makes another
        Ok(found && !self.was_slow_by_reads(began).await?)
    }

    /// Copies a place's bytes under an id of their own; returns nothing where they went away meanwhile, or are not `digest`.
    ///
    /// A copy takes the place of what it was made of. So bytes that came otherwise than they are stored are no copy.
    async fn copy(&self, digest: &Digest, place: &Place) -> Result<Option<Place>> {
        let id = UploadId::random();
        let segment = Segment { offset: 0, size: place.size, attempt: layout::attempt() };
        if place.size == 0 {
            return Ok(Some(Place { id, size: 0, segments: Vec::new() }));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut writer = self.store.writer(segment.key(&id), Some(place.size));
        for from in &place.segments {
            // gone is an answer; a store that cannot say is an error
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

/// Where the bytes of a session are.
pub(super) fn place_of(session: &Session) -> Place {
    Place { id: session.id.clone(), size: session.state.offset, segments: session.state.segments.clone() }
}

/// How a place's bytes were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// All there, unmarked.
    Sound,
    /// All there, but a scrub means to free them.
    Marked,
    /// Not all there, or noted as rotten.
    Missing,
}
