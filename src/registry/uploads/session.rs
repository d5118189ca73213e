//! The session of an upload: its states. Each state is written once, by the first writer that comes.
//!
//! A state names the segments since the last full state. Every 64th state is full, so states do not grow with the
//! square of the chunks. A small chunk is kept in its state; [`super::receive`] later writes such chunks as one
//! segment.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Uploads;
use crate::{
    action::{Upload, UploadId},
    oci::{Algorithm, Digest, Hasher, Name},
    records::{
        Actor, Segment, json,
        key::{Prefix, Suffix, UploadKey},
        split_line,
    },
    registry::{Error, Result, copies::BlobCopy, several},
    storage::{Entry, Moment, StorageError},
};

/// A state whose number is a multiple of this is full: it names all segments, and keeps no chunk.
pub(super) const FULL_EVERY: u32 = 64;

/// The progress of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// The upload.
    pub id: UploadId,
    /// The number of its state, for the location that the client uses next.
    pub state: u32,
    /// The number of bytes that the upload has.
    pub offset: u64,
}

/// One state of an upload, as stored: a line of JSON, and after it the bytes of the chunk that the state keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) repository: Name,
    pub(super) by: Actor,
    /// The identity that the upload belongs to. Empty if it belongs to everyone anonymous.
    #[serde(default)]
    owner: String,
    /// The time of the first request, in milliseconds since 1970.
    pub(super) started: u64,
    pub(super) algorithm: Algorithm,
    pub(super) offset: u64,
    /// The number of segments that the last full state names.
    #[serde(default)]
    before: usize,
    /// The segments since the last full state, as stored. In memory, all segments.
    pub(super) segments: Vec<Segment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
    /// The saved hash state of all bytes so far.
    hash: String,
    /// The attempt that wrote this state. It makes the content of the state unique.
    attempt: Suffix,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
}

/// The chunks that the states from `first` to this one keep, one each. They follow the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The offset of the first of the chunks.
    pub(super) offset: u64,
    first: u32,
    /// The digest of this state's own chunk. A directory does not sync sessions, so a power cut may tear a chunk.
    digest: Digest,
}

/// The addition of a request to an upload.
pub(super) enum Added {
    Nothing,
    /// A segment behind the last one. It takes in all chunks that states kept.
    Segment(Segment),
    /// A small chunk, for the next state to keep.
    Chunk(Bytes),
}

/// The end of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// The bytes of the upload are this digest.
    Completed(Digest),
    /// The client cancelled the upload.
    Cancelled,
}

/// A state of an upload, with what this process knows of the upload.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) sequence: u32,
    pub(super) state: State,
    /// The chunks that states keep, oldest first. `None` if this process has not read all of them.
    chunks: Option<Vec<Bytes>>,
    /// The hash so far. `None` if this version cannot read the saved hash.
    pub(super) hasher: Option<Hasher>,
    /// The time when this process last knew that scrub had not given up the upload. All segments of the state have
    /// existed since. `None` if this process does not know: a write by this process says nothing about earlier
    /// segments.
    pub(super) alive: Option<Moment>,
}

impl Session {
    pub(super) fn begin(name: &Name, algorithm: Algorithm, owner: &str, by: &Actor, started: u64) -> Self {
        let state = State {
            repository: name.clone(),
            by: by.clone(),
            owner: owner.to_owned(),
            started,
            algorithm,
            offset: 0,
            before: 0,
            segments: Vec::new(),
            kept: None,
            hash: String::new(),
            attempt: Suffix(0),
            end: None,
        };
        let hasher = Some(Hasher::new(algorithm));
        Self { id: UploadId::random(), sequence: 0, state, chunks: Some(Vec::new()), hasher, alive: None }
    }

    /// Returns the state after this one: with more bytes, or ended, or both. `now` is the time of the attempt.
    pub(super) fn next(&self, added: Added, hasher: Option<Hasher>, end: Option<End>, now: Moment) -> Self {
        let mut next = self.clone();
        next.sequence = self.sequence.saturating_add(1);
        let state = &mut next.state;
        match added {
            Added::Nothing => (state.kept, next.chunks) = (None, Some(Vec::new())),
            Added::Segment(segment) => {
                state.offset = segment.offset + segment.size;
                state.segments.push(segment);
                (state.kept, next.chunks) = (None, Some(Vec::new()));
            }
            Added::Chunk(bytes) => {
                let (offset, first) =
                    state.kept.map_or((state.offset, next.sequence), |kept| (kept.offset, kept.first));
                state.kept = Some(Kept { offset, first, digest: Digest::of(Algorithm::Sha256, &bytes) });
                state.offset += bytes.len() as u64;
                next.chunks.iter_mut().for_each(|chunks| chunks.push(bytes.clone()));
                if next.chunks.is_none() && first == next.sequence {
                    next.chunks = Some(vec![bytes]);
                }
            }
        }
        state.end = end;
        if next.is_full() {
            next.state.before = next.state.segments.len();
        }
        next.hasher = hasher;
        if self.state.segments.is_empty() {
            // all bytes that the state names are this attempt's own, and young
            next.alive = Some(now);
        }
        next
    }

    fn is_full(&self) -> bool {
        self.sequence.is_multiple_of(FULL_EVERY)
    }

    /// Returns whether the next state may keep a small chunk: a full state keeps none.
    pub(super) fn keeps_next(&self) -> bool {
        !self.sequence.saturating_add(1).is_multiple_of(FULL_EVERY)
    }

    /// Returns the offset of the next segment, which takes in the chunks that states keep.
    pub(super) fn next_segment(&self) -> u64 {
        self.state.kept.map_or(self.state.offset, |kept| kept.offset)
    }

    /// Returns the segments of the session as a blob copy.
    pub(super) fn copy(&self) -> BlobCopy {
        BlobCopy { id: self.id.clone(), size: self.state.offset, segments: self.state.segments.clone() }
    }

    pub(super) fn status(&self) -> UploadStatus {
        UploadStatus { id: self.id.clone(), state: self.sequence, offset: self.state.offset }
    }

    pub(super) fn out_of_order(&self) -> Error {
        Error::OutOfOrder { id: self.id.clone(), offset: self.state.offset, state: self.sequence }
    }

    /// Returns the memory that the session takes, in bytes, roughly.
    pub(super) fn weight(&self) -> usize {
        /// The memory for the handle of a chunk, with what the allocator adds.
        const CHUNK_WEIGHT: usize = 80;
        let chunks = self.chunks.iter().flatten().map(|chunk| CHUNK_WEIGHT + chunk.len());
        700 + self.state.segments.len() * Segment::WEIGHT + chunks.sum::<usize>()
    }

    /// Returns the object that stores this state. `own` is the chunk that the state keeps.
    fn content(&self, own: &Bytes) -> Vec<u8> {
        let from = if self.is_full() { 0 } else { self.state.before };
        let hash = self.hasher.as_ref().map_or_else(String::new, |hasher| BASE64.encode(hasher.save()));
        let State { repository, by, owner, started, algorithm, offset, kept, end, .. } = &self.state;
        let mut content = json(&State {
            repository: repository.clone(),
            by: by.clone(),
            owner: owner.clone(),
            started: *started,
            algorithm: *algorithm,
            offset: *offset,
            before: from,
            segments: self.state.segments[from..].to_vec(),
            kept: *kept,
            hash,
            attempt: Suffix::random(),
            end: *end,
        });
        content.push(b'\n');
        content.extend_from_slice(own);
        content
    }
}

impl Uploads {
    /// Writes a state of an upload if no other attempt has written that state. Returns whether it did. `own` is the
    /// chunk that the state keeps.
    pub(super) async fn write_session(&self, mut session: Session, own: Bytes) -> Result<bool> {
        // a new state renews an upload that was alive a moment ago; it does not restore segments that scrub has freed
        let none_before = session.state.segments.is_empty();
        let now = self.core.lease.start().await?;
        session.alive = (none_before || self.known_alive(session.alive)).then_some(now);
        let key = UploadKey::State(session.sequence).of(&session.id);
        let first = self.core.store.create_new(&key, session.content(&own)).await?;
        if first {
            self.sessions.insert(session.id.clone(), Arc::new(session));
        }
        Ok(first)
    }

    /// Returns whether an upload that was alive at `alive` needs no look at its segments now: for a quarter of a lease.
    pub(super) fn known_alive(&self, alive: Option<Moment>) -> bool {
        alive.is_some_and(|alive| self.core.clock.since(alive) < self.core.lease.at(alive) / 4)
    }

    /// Returns the owner of an upload, if this process remembers the upload.
    #[must_use]
    pub fn remembered_owner(&self, name: &Name, id: &UploadId) -> Option<String> {
        let session = self.sessions.get(id).filter(|session| session.state.repository == *name)?;
        Some(session.state.owner.clone())
    }

    /// Returns the owner of an upload. If it reads the session from the store, it remembers the session for the request
    /// that follows.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`], and those of the store.
    pub async fn owner(&self, name: &Name, id: &UploadId) -> Result<String> {
        if let Some(owner) = self.remembered_owner(name, id) {
            return Ok(owner);
        }
        let session = self.session_as_stored(name, id).await?;
        self.sessions.insert(id.clone(), Arc::clone(&session));
        Ok(session.state.owner.clone())
    }

    /// Returns the session of an upload. It answers from memory if the client names exactly the remembered state, and
    /// otherwise from the store.
    pub(super) async fn session(&self, name: &Name, upload: &Upload) -> Result<Arc<Session>> {
        let remembered = self.sessions.get(&upload.id);
        match remembered.filter(|session| upload.state == Some(session.sequence)) {
            Some(session) if session.state.repository == *name => Ok(session),
            _ => self.session_as_stored(name, &upload.id).await,
        }
    }

    /// Returns the newest state of an upload of this repository, at the cost of one listing and two reads at most.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if there is none, or a power cut tore it.
    pub(super) async fn session_as_stored(&self, name: &Name, id: &UploadId) -> Result<Arc<Session>> {
        let unknown = || Error::UploadUnknown(id.clone());
        // as many states as reach back to the last full one
        let states = self.core.store.list(&Prefix::Upload(id).to_string(), None, FULL_EVERY as usize).await?;
        let newest = states.first().filter(|entry| UploadKey::state(&entry.key).is_some()).ok_or_else(unknown)?;
        let remembered = self.sessions.get(id).filter(|session| session.state.repository == *name);
        let sequence = UploadKey::state(&newest.key)
            .ok_or_else(|| StorageError::damaged("list", &newest.key, "its name is not one of the layout"))?;
        let remembered = match remembered {
            Some(session) if session.sequence == sequence => return Ok(session),
            other => other.filter(|session| session.sequence < sequence),
        };
        let full = sequence - sequence % FULL_EVERY;
        let before = async {
            match &remembered {
                // state 0 names no segments
                _ if full == sequence || full == 0 => Ok(Vec::new()),
                Some(session) if session.sequence >= full => {
                    Ok(session.state.segments[..session.state.before].to_vec())
                }
                _ => Ok(self.read_state(id, full).await?.0.segments),
            }
        };
        let ((mut state, own), mut segments) = tokio::try_join!(self.read_state(id, sequence), before)?;
        if state.repository != *name {
            return Err(unknown());
        }
        if state.before != segments.len() {
            let key = UploadKey::State(full).of(id);
            return Err(StorageError::damaged("get", &key, "it does not name the segments that it should").into());
        }
        segments.append(&mut state.segments);
        state.segments = segments;
        let chunks = match state.kept {
            None => Some(Vec::new()),
            Some(kept) if !are_there(id, sequence, kept.first, &states) => return Err(unknown()),
            Some(kept) if kept.first == sequence => Some(vec![own]),
            Some(kept) => remembered
                .filter(|session| session.sequence + 1 == sequence)
                .filter(|session| session.state.kept.is_some_and(|before| before.first == kept.first))
                .and_then(|session| session.chunks.clone())
                .map(|chunks| [chunks, vec![own]].concat()),
        };
        let hasher = BASE64.decode(&state.hash).ok().and_then(|saved| Hasher::restore(state.algorithm, &saved));
        let mut session = Session { id: id.clone(), sequence, state, chunks, hasher, alive: None };
        if session.is_full() {
            session.state.before = session.state.segments.len();
        }
        Ok(Arc::new(session))
    }

    /// Returns the chunks that an upload's states keep, oldest first. Reads the states if this process does not
    /// remember the chunks.
    pub(super) async fn kept_chunks(&self, session: &Session) -> Result<Vec<Bytes>> {
        let kept = match (&session.chunks, session.state.kept) {
            (Some(chunks), _) => return Ok(chunks.clone()),
            (None, None) => return Ok(Vec::new()),
            (None, Some(kept)) => kept,
        };
        let numbers = kept.first..=session.sequence;
        let read = numbers.map(|number| async move { Ok(self.read_state(&session.id, number).await?.1) });
        let chunks: Vec<Bytes> = several(read.collect()).await?;
        let length: usize = chunks.iter().map(Bytes::len).sum();
        if length as u64 != session.state.offset - kept.offset {
            return Err(Error::UploadUnknown(session.id.clone()));
        }
        Ok(chunks)
    }

    /// Reads a stored state, and the chunk that it keeps.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if the state is missing, empty or torn.
    async fn read_state(&self, id: &UploadId, sequence: u32) -> Result<(State, Bytes)> {
        let unknown = || Error::UploadUnknown(id.clone());
        let key = UploadKey::State(sequence).of(id);
        // a directory does not sync sessions: a state may be empty or torn after a power cut
        let content = self.core.store.get(&key).await?.filter(|content| !content.is_empty()).ok_or_else(unknown)?;
        let (line, own) = split_line(&content);
        let state: State =
            serde_json::from_slice(&line).map_err(|error| StorageError::damaged("get", &key, error.to_string()))?;
        if state.kept.is_some_and(|kept| Digest::of(Algorithm::Sha256, &own) != kept.digest) {
            // a read that fell short says nothing about the object
            if self.core.store.size(&key).await? != Some(content.len() as u64) {
                return Err(StorageError::damaged("get", &key, "it was read cut short").into());
            }
            tracing::warn!(key, "the chunk that a state of an upload keeps is torn; the client begins anew");
            return Err(unknown());
        }
        Ok((state, own))
    }
}

/// Returns whether a listing of the newest states has all states from `first` to `newest`. A power cut may leave an
/// empty state, which counts as lost.
fn are_there(id: &UploadId, newest: u32, first: u32, states: &[Entry]) -> bool {
    (first..=newest).all(|number| {
        let entry = states.get((newest - number) as usize);
        entry.is_some_and(|entry| entry.key == UploadKey::State(number).of(id) && entry.size > 0)
    })
}
