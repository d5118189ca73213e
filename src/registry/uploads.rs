//! Uploads: bytes come in, in one piece or in chunks, and become a blob.
//!
//! Bytes are written once, as they come, under keys of the attempt that receives them; a session's next state names
//! them, and the fact that ends the upload says what they are. Whatever is cut off names nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;

use super::{
    Blob, Body, By, Error, Registry, Result, UploadStatus,
    places::{Bytes, Place, Segment},
    session::{End, Session},
};
use crate::{
    action::Upload,
    oci::{Algorithm, Digest, Hasher, Name, range::ContentRange},
    storage::layout,
};

/// A body and what the request said about it.
pub struct Chunk {
    /// Where it belongs, if the client said so.
    pub range: Option<ContentRange>,
    /// Its length in bytes, if the client said so.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Body,
}

/// What was received of a body.
struct Received {
    segment: Option<Segment>,
    hasher: Option<Hasher>,
}

impl Registry {
    /// Begins an upload.
    pub async fn start_upload(&self, name: &Name, algorithm: Algorithm, by: &By) -> Result<UploadStatus> {
        let session = Session::begin(name, algorithm, by);
        let status = session.status();
        self.write_session(session).await?; // its id is fresh: nobody else writes it
        self.metrics.upload_opened();
        Ok(status)
    }

    /// How far an upload is.
    pub async fn upload_status(&self, name: &Name, upload: &Upload) -> Result<UploadStatus> {
        let session = self.session_as_stored(name, &upload.id).await?;
        if session.state.end.is_some() { Err(Error::UploadUnknown(upload.id.clone())) } else { Ok(session.status()) }
    }

    /// Gives an upload up.
    pub async fn cancel_upload(&self, name: &Name, upload: &Upload) -> Result<()> {
        let session = self.session_as_stored(name, &upload.id).await?;
        let unknown = || Error::UploadUnknown(upload.id.clone());
        if session.state.end.is_some() {
            return Err(unknown());
        }
        if !self.write_session(session.next(None, None, Some(End::Cancelled))).await? {
            return Err(session.out_of_order());
        }
        self.metrics.upload_closed();
        // no state after this one can name them, so nobody will
        for segment in &session.state.segments {
            self.take_back(&session, segment).await;
        }
        Ok(())
    }

    /// Adds a chunk to an upload.
    pub async fn append(&self, name: &Name, upload: &Upload, chunk: Chunk) -> Result<UploadStatus> {
        let session = self.open_session(name, upload, chunk.range).await?;
        if session.state.end.is_some() {
            return Err(Error::UploadUnknown(upload.id.clone()));
        }
        let Received { segment, hasher } = self.receive(&session, chunk).await?;
        let Some(segment) = segment else { return Ok(session.status()) };
        let next = session.next(Some(segment.clone()), hasher, None);
        let status = next.status();
        if self.write_session(next).await? {
            return Ok(status);
        }
        self.take_back(&session, &segment).await;
        let newest = self.session_as_stored(name, &upload.id).await?;
        Err(if newest.state.end.is_some() { Error::UploadUnknown(upload.id.clone()) } else { newest.out_of_order() })
    }

    /// Ends an upload: its bytes, with those of a last chunk, are `digest`.
    ///
    /// The same call again, after an answer that was lost, has the same answer.
    pub async fn complete_upload(
        &self,
        name: &Name,
        upload: &Upload,
        digest: &Digest,
        chunk: Chunk,
        by: &By,
    ) -> Result<Blob> {
        let session = match self.open_session(name, upload, chunk.range).await {
            // the range of a repeated final chunk lies before the end that it made itself
            Err(Error::OutOfOrder { id, offset, state }) => {
                let session = self.session_as_stored(name, &upload.id).await?;
                if session.state.end != Some(End::Completed(*digest)) {
                    return Err(Error::OutOfOrder { id, offset, state });
                }
                session
            }
            other => other?,
        };
        match session.state.end {
            None => {}
            Some(End::Completed(known)) if known == *digest => {
                drain(chunk.body).await?;
                return self.commit_again(name, &session, digest, by).await;
            }
            Some(_) => return Err(Error::UploadUnknown(upload.id.clone())),
        }
        let Received { segment, hasher } = self.receive(&session, chunk).await?;
        let mut session = session;
        let mut hasher = hasher;
        loop {
            let ended = session.next(segment.clone(), hasher, Some(End::Completed(*digest)));
            let computed = self.computed(&ended, digest.algorithm()).await?;
            if computed == *digest && self.write_session(ended.clone()).await? {
                self.metrics.upload_closed();
                return self.commit(name, &ended, ended.alive, digest, by).await;
            }
            if let Some(segment) = &segment {
                self.take_back(&session, segment).await;
            }
            // a state that is remembered may not be the newest, if another server took a chunk since
            let newest = self.session_as_stored(name, &upload.id).await?;
            match newest.state.end {
                Some(End::Completed(known)) if known == *digest => {
                    return self.commit_again(name, &newest, digest, by).await;
                }
                Some(_) => return Err(Error::UploadUnknown(upload.id.clone())),
                None if newest.sequence == session.sequence => {
                    return Err(Error::DigestMismatch { expected: *digest, computed });
                }
                None if segment.is_some() => return Err(newest.out_of_order()),
                // there is nothing to put in order
                None => {
                    hasher = newest.hasher.clone();
                    session = newest;
                }
            }
        }
    }

    /// Takes a blob in one request, without a session that could be gone on with.
    pub async fn put_blob(&self, name: &Name, digest: &Digest, chunk: Chunk, by: &By) -> Result<Blob> {
        let session = Session::begin(name, digest.algorithm(), by);
        let Received { segment, hasher } = self.receive(&session, chunk).await?;
        let ended = session.next(segment.clone(), hasher, Some(End::Completed(*digest)));
        let computed = self.computed(&ended, digest.algorithm()).await?;
        if computed != *digest {
            if let Some(segment) = &segment {
                self.take_back(&session, segment).await;
            }
            return Err(Error::DigestMismatch { expected: *digest, computed });
        }
        self.commit(name, &ended, Some(Instant::now()), digest, by).await
    }

    /// The session to go on with, if a chunk of this range can be added to it now.
    async fn open_session(&self, name: &Name, upload: &Upload, range: Option<ContentRange>) -> Result<Arc<Session>> {
        let fits = |session: &Session| range.is_none_or(|range| range.first == session.state.offset);
        let session = self.session(name, upload).await?;
        if fits(&session) {
            return Ok(session);
        }
        let session = self.session_as_stored(name, &upload.id).await?;
        if fits(&session) { Ok(session) } else { Err(session.out_of_order()) }
    }

    /// Writes a body's bytes behind those that the session has. They mean nothing until a state names them.
    async fn receive(&self, session: &Session, mut chunk: Chunk) -> Result<Received> {
        let limit = self.options.max_blob_size;
        let announced = chunk.length.or(chunk.range.map(ContentRange::length));
        if let (Some(range), Some(length)) = (chunk.range, chunk.length)
            && range.length() != length
        {
            return Err(Error::SizeMismatch { announced: range.length(), received: length });
        }
        let too_large = Error::TooLarge { what: "blob", limit };
        if session.state.offset.saturating_add(announced.unwrap_or(0)) > limit {
            return Err(too_large);
        }
        let mut segment = Segment { offset: session.state.offset, size: 0, attempt: layout::attempt() };
        let mut hasher = session.hasher.clone();
        let mut writer = self.store.writer(segment.key(&session.id), announced);
        let mut renewed = Instant::now();
        while let Some(bytes) = chunk.body.next().await {
            let bytes = bytes.map_err(|error| Error::Body(error.to_string()))?;
            if bytes.is_empty() {
                continue;
            }
            segment.size += bytes.len() as u64;
            if segment.offset + segment.size > limit {
                return Err(too_large);
            }
            if let Some(hasher) = hasher.as_mut() {
                hasher.update(&bytes);
            }
            writer.write(bytes).await?;
            renewed = self.keep_alive(session, renewed).await?;
        }
        if let Some(announced) = announced.filter(|announced| *announced != segment.size) {
            return Err(Error::SizeMismatch { announced, received: segment.size });
        }
        if segment.size == 0 {
            return Ok(Received { segment: None, hasher });
        }
        writer.close().await?;
        Ok(Received { segment: Some(segment), hasher })
    }

    /// A body that streams for long renews its upload every quarter of a lease.
    async fn keep_alive(&self, session: &Session, renewed: Instant) -> Result<Instant> {
        let quarter: Duration = self.options.lease / 4;
        if renewed.elapsed() < quarter {
            return Ok(renewed);
        }
        let now = Instant::now();
        self.store.put(&layout::upload_alive(&session.id, &layout::attempt()), Vec::new()).await?;
        Ok(now)
    }

    /// The digest of what the session's segments name: from the hash computed on their way, or by reading them again
    /// where that is of another algorithm.
    async fn computed(&self, session: &Session, algorithm: Algorithm) -> Result<Digest> {
        if let Some(hasher) = session.hasher.clone().filter(|hasher| hasher.algorithm() == algorithm) {
            return Ok(hasher.finish());
        }
        let mut hasher = Hasher::new(algorithm);
        for segment in &session.state.segments {
            let mut stream = self.store.read(&segment.key(&session.id), 0..segment.size).await?;
            let mut renewed = Instant::now();
            while let Some(bytes) = stream.next().await {
                hasher.update(&bytes?);
                renewed = self.keep_alive(session, renewed).await?;
            }
        }
        Ok(hasher.finish())
    }

    /// Says what the bytes of an ended session are. `alive` is when this process last knew the upload to be alive.
    async fn commit(
        &self,
        name: &Name,
        session: &Session,
        alive: Option<Instant>,
        digest: &Digest,
        by: &By,
    ) -> Result<Blob> {
        let place =
            Place { id: session.id.clone(), size: session.state.offset, segments: session.state.segments.clone() };
        let gone = || Error::UploadUnknown(session.id.clone());
        let began = Instant::now();
        if !self.known_alive(alive) && self.look_at(&place).await? != Bytes::Sound {
            return Err(gone());
        }
        self.grant(name, digest, by).await?;
        self.put_place(digest, &place, by).await?;
        // one that took long looks again; it takes nothing back, since another may rely on its fact by now
        if self.was_slow(began) && self.look_at(&place).await? != Bytes::Sound {
            return Err(gone());
        }
        let key = (name.clone(), *digest);
        self.rights.forget(&key);
        self.held.insert(key, place.size);
        let blob = Blob { digest: *digest, size: place.size };
        self.places.insert(*digest, Arc::new(place));
        Ok(blob)
    }

    /// As [`Registry::commit`], of an upload that has ended before: a sign of life goes before the look, as the ended
    /// state does where this call has written it.
    async fn commit_again(&self, name: &Name, session: &Session, digest: &Digest, by: &By) -> Result<Blob> {
        if !self.known_alive(session.alive) {
            self.store.put(&layout::upload_alive(&session.id, &layout::attempt()), Vec::new()).await?;
        }
        self.commit(name, session, session.alive, digest, by).await
    }

    /// Removes bytes of this attempt that nothing names. Left to scrub where that fails.
    async fn take_back(&self, session: &Session, segment: &Segment) {
        if let Err(error) = self.store.delete(&segment.key(&session.id)).await {
            tracing::debug!(%error, "bytes that nothing names are left to scrub");
        }
    }
}

/// Reads a body that is not needed, so that the client can go on on this connection.
async fn drain(mut body: Body) -> Result<()> {
    while let Some(bytes) = body.next().await {
        bytes.map_err(|error| Error::Body(error.to_string()))?;
    }
    Ok(())
}
