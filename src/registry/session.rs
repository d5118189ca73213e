//! An upload's session: its states, each written once, the next one only by the writer that comes first.

use std::{sync::Arc, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use super::{By, Error, Registry, Result, facts::Segment, json};
use crate::{
    action::{Upload, UploadId},
    oci::{Algorithm, Digest, Hasher, Name},
    storage::{StorageError, layout},
};

/// How far an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// The upload.
    pub id: UploadId,
    /// The number of its state, for the location that the client uses next.
    pub state: u32,
    /// Bytes it has.
    pub offset: u64,
}

/// One state of an upload, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) repository: Name,
    pub(super) by: By,
    /// Milliseconds since 1970.
    pub(super) started: u64,
    pub(super) algorithm: Algorithm,
    pub(super) offset: u64,
    pub(super) segments: Vec<Segment>,
    /// The hash of the segments so far, saved.
    hash: String,
    /// The attempt that wrote this state: makes its content its own.
    attempt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// Its bytes are this digest.
    Completed(Digest),
    /// The client gave it up.
    Cancelled,
}

/// A state of an upload, and what this process knows of it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) sequence: u32,
    pub(super) state: State,
    /// Nothing where a saved hash is of a form that this version does not read.
    pub(super) hasher: Option<Hasher>,
    /// When this process last knew that scrub had not given the upload up: since then all that its state names is
    /// there. Nothing where it does not know; what it wrote itself says nothing of the segments before.
    pub(super) alive: Option<Instant>,
}

impl Session {
    pub(super) fn begin(name: &Name, algorithm: Algorithm, by: &By, started: u64) -> Self {
        let state = State {
            repository: name.clone(),
            by: by.clone(),
            started,
            algorithm,
            offset: 0,
            segments: Vec::new(),
            hash: String::new(),
            attempt: String::new(),
            end: None,
        };
        let hasher = Some(Hasher::new(algorithm));
        Self { id: UploadId::random(), sequence: 0, state, hasher, alive: None }
    }

    /// The state after this one: with a segment more, or ended, or both.
    pub(super) fn next(
        &self,
        segment: Option<Segment>,
        hasher: Option<Hasher>,
        end: Option<End>,
        now: Instant,
    ) -> Self {
        let mut next = self.clone();
        next.sequence = self.sequence.saturating_add(1);
        next.state.offset += segment.as_ref().map_or(0, |segment| segment.size);
        next.state.segments.extend(segment);
        next.state.end = end;
        next.hasher = hasher;
        if self.state.segments.is_empty() {
            // all the bytes that it names are this attempt's own, and young
            next.alive = Some(now);
        }
        next
    }

    pub(super) fn status(&self) -> UploadStatus {
        UploadStatus { id: self.id.clone(), state: self.sequence, offset: self.state.offset }
    }

    pub(super) fn out_of_order(&self) -> Error {
        Error::OutOfOrder { id: self.id.clone(), offset: self.state.offset, state: self.sequence }
    }
}

impl Registry {
    /// Writes a state of an upload if no other attempt has written that state; whether it did.
    pub(super) async fn write_session(&self, mut session: Session) -> Result<bool> {
        session.state.attempt = layout::attempt();
        session.state.hash = session.hasher.as_ref().map_or_else(String::new, |hasher| BASE64.encode(hasher.save()));
        // a state renews what was alive a moment ago; it does not bring back what scrub has freed
        let none_before = session.state.segments.is_empty();
        session.alive = (none_before || self.known_alive(session.alive)).then(|| self.clock.now());
        let key = layout::upload_state(&session.id, session.sequence);
        let first = self.store.create_new(&key, json(&session.state)).await?;
        if first {
            self.sessions.insert(session.id.clone(), Arc::new(session));
        }
        Ok(first)
    }

    /// Whether an upload that was alive then needs no look at its bytes now.
    pub(super) fn known_alive(&self, alive: Option<Instant>) -> bool {
        alive.is_some_and(|alive| self.clock.since(alive) < self.options.lease / 4)
    }

    /// The upload's session: as this process remembers it if the client speaks of that very state, otherwise as stored.
    pub(super) async fn session(&self, name: &Name, upload: &Upload) -> Result<Arc<Session>> {
        let remembered = self.sessions.get(&upload.id);
        match remembered.filter(|session| upload.state == Some(session.sequence)) {
            Some(session) if session.state.repository == *name => Ok(session),
            _ => self.session_as_stored(name, &upload.id).await,
        }
    }

    /// The newest state of an upload of this repository.
    pub(super) async fn session_as_stored(&self, name: &Name, id: &UploadId) -> Result<Arc<Session>> {
        let unknown = || Error::UploadUnknown(id.clone());
        let newest = self.store.list(&layout::upload(id), None, 1).await?;
        let newest = newest.into_iter().find(|entry| layout::is_upload_state(id, &entry.key)).ok_or_else(unknown)?;
        if let Some(session) = self.sessions.get(id)
            && layout::upload_state(id, session.sequence) == newest.key
            && session.state.repository == *name
        {
            return Ok(session);
        }
        // a directory does not sync sessions: one may be empty after a power cut
        let content = self.store.get(&newest.key).await?.filter(|content| !content.is_empty()).ok_or_else(unknown)?;
        let state: State = serde_json::from_slice(&content)
            .map_err(|error| StorageError::damaged("get", &newest.key, error.to_string()))?;
        if state.repository != *name {
            return Err(unknown());
        }
        let sequence = layout::upload_sequence(id, &newest.key)
            .ok_or_else(|| StorageError::damaged("list", &newest.key, "its name is not one of the layout"))?;
        let hasher = BASE64.decode(&state.hash).ok().and_then(|saved| Hasher::restore(state.algorithm, &saved));
        Ok(Arc::new(Session { id: id.clone(), sequence, state, hasher, alive: None }))
    }
}
