//! Uploads: bytes come in, in one piece or in chunks, and become a blob.
//!
//! Bytes are written once, as they come, under keys of the attempt that receives them; a session's next state names
//! them, and the fact that ends the upload says what they are. Whatever is cut off names nothing.

use std::sync::Arc;

use bytes::Bytes as Content;
use futures::StreamExt;

use super::{
    Blob, Body, By, Error, Registry, Result, UploadStatus,
    blobs::RightHit,
    facts::Segment,
    places::{Bytes, place_of},
    receive::{Chunk, Progress, Received, Target},
    session::{Added, End, Session},
};
use crate::{
    action::Upload,
    oci::{Algorithm, Digest, Hasher, Name, range::ContentRange},
    storage::{Moment, layout, mutation::mutated},
};

impl Registry {
    /// Begins an upload that belongs to `owner`.
    pub async fn start_upload(&self, name: &Name, algorithm: Algorithm, owner: &str, by: &By) -> Result<UploadStatus> {
        let session = Session::begin(name, algorithm, owner, by, self.clock.time_ms());
        let status = session.status();
        self.write_session(session, Content::new()).await?; // its id is fresh: nobody else writes it
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
        let cancelled = session.next(Added::Nothing, None, Some(End::Cancelled), self.clock.now());
        if !self.write_session(cancelled, Content::new()).await? {
            return Err(session.out_of_order());
        }
        self.metrics.upload_closed();
        // its bytes are left to scrub: a session is not synced, and may have been a blob before a power cut
        Ok(())
    }

    /// Adds a chunk to an upload.
    pub async fn append(&self, name: &Name, upload: &Upload, chunk: Chunk) -> Result<UploadStatus> {
        let session = self.open_session(name, upload, chunk.range).await?;
        if session.state.end.is_some() {
            return Err(Error::UploadUnknown(upload.id.clone()));
        }
        let mut received = self.receive(&session, chunk, Target::State).await?;
        let (hasher, segment, added) = (received.hasher.take(), received.segment(), received.added());
        let own = match &added {
            Added::Nothing => return Ok(session.status()),
            Added::Segment(_) => Content::new(),
            Added::Chunk(bytes) => bytes.clone(),
        };
        received.close().await?;
        let next = session.next(added, hasher, None, self.clock.now());
        let status = next.status();
        if self.write_session(next, own).await? {
            return Ok(status);
        }
        if let Some(segment) = &segment {
            self.take_back(&session, segment).await;
        }
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
                return self.commit(name, &session, digest, by).await;
            }
            Some(_) => return Err(Error::UploadUnknown(upload.id.clone())),
        }
        let mut received = self.receive(&session, chunk, Target::Segment).await?;
        let (has_bytes, progress) = (received.length > 0, Arc::clone(&received.progress));
        let mut session = session;
        loop {
            let segment = received.segment();
            let end = Some(End::Completed(*digest));
            let ended = session.next(received.added(), received.hasher.clone(), end, self.clock.now());
            match Box::pin(self.end(name, ended, received, digest, by)).await? {
                Ended::Blob(blob) => return Ok(blob),
                Ended::NotFirst => {}
                // a state that is remembered may not be the newest, if another server took a chunk since
                Ended::Mismatch(computed) => {
                    let newest = self.session_as_stored(name, &upload.id).await?;
                    if newest.sequence == session.sequence {
                        return Err(mismatch(digest, computed));
                    }
                }
            }
            if let Some(segment) = &segment {
                self.take_back(&session, segment).await;
            }
            let newest = self.session_as_stored(name, &upload.id).await?;
            match newest.state.end {
                Some(End::Completed(known)) if known == *digest => {
                    return self.commit(name, &newest, digest, by).await;
                }
                Some(_) => return Err(Error::UploadUnknown(upload.id.clone())),
                None if has_bytes => return Err(newest.out_of_order()),
                // there are no bytes to put in order
                None => {
                    received = self.receive(&newest, Chunk::empty(&progress), Target::Segment).await?;
                    session = newest;
                }
            }
        }
    }

    /// Ends a session, if its bytes are `digest` and nobody else wrote its next state.
    async fn end(&self, name: &Name, ended: Session, received: Received, digest: &Digest, by: &By) -> Result<Ended> {
        let received = match self.check_digest(&ended, received, digest).await? {
            Ok(received) => received,
            Err(computed) => return Ok(Ended::Mismatch(computed)),
        };
        let began = self.begin().await?;
        let (closed, granted) = tokio::join!(received.close(), self.grant(name, digest, by));
        closed?;
        granted?;
        // the session ends when its bytes are durable: until then the client can go on with it
        if !self.write_session(ended.clone(), Content::new()).await? {
            return Ok(Ended::NotFirst);
        }
        self.metrics.upload_closed();
        // scrub can only have given up an upload that this process has not seen alive for a while
        let known = self.known_alive(ended.alive) || mutated("session not looked for");
        if !known && self.look_at(&place_of(&ended)).await? != Bytes::Sound {
            return Err(Error::UploadUnknown(ended.id));
        }
        self.say_place(name, &ended, digest, by, began).await.map(Ended::Blob)
    }

    /// Takes a blob in one request, without a session that could be gone on with.
    pub async fn put_blob(&self, name: &Name, digest: &Digest, chunk: Chunk, by: &By) -> Result<Blob> {
        let session = Session::begin(name, digest.algorithm(), "", by, self.clock.time_ms());
        let received = self.receive(&session, chunk, Target::Segment).await?;
        let end = Some(End::Completed(*digest));
        let ended = session.next(received.added(), received.hasher.clone(), end, self.clock.now());
        let received =
            self.check_digest(&ended, received, digest).await?.map_err(|computed| mismatch(digest, computed))?;
        let began = self.begin().await?;
        let (closed, granted) = tokio::join!(received.close(), self.grant(name, digest, by));
        closed?;
        granted?;
        self.say_place(name, &ended, digest, by, began).await
    }

    /// Whether the bytes of `session`, the last of them just received, are `digest`; otherwise the digest that they have,
    /// and nothing is kept of what was received.
    async fn check_digest(
        &self,
        session: &Session,
        mut received: Received,
        digest: &Digest,
    ) -> Result<std::result::Result<Received, Digest>> {
        let hasher = received.hasher.take().filter(|hasher| hasher.algorithm() == digest.algorithm());
        let computed = if let Some(hasher) = hasher {
            hasher.finish()
        } else {
            // of another algorithm: what was received has to be read again with the rest
            let (segment, progress) = (received.segment(), Arc::clone(&received.progress));
            received.close().await?;
            let computed = self.hash_again(session, digest.algorithm(), &progress).await?;
            if let Some(segment) = segment.filter(|_| computed != *digest) {
                self.take_back(session, &segment).await;
            }
            received = Received::closed(progress);
            computed
        };
        Ok(if computed == *digest { Ok(received) } else { Err(computed) })
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

    /// The digest of what the session's segments name, by reading them.
    async fn hash_again(&self, session: &Session, algorithm: Algorithm, progress: &Progress) -> Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let mut renewed = self.clock.now();
        for segment in &session.state.segments {
            let mut stream = self.store.read(&segment.key(&session.id), 0..segment.size).await?;
            while let Some(bytes) = stream.next().await {
                hasher.update(&bytes?);
                progress();
                renewed = self.keep_alive(session, renewed).await?;
            }
        }
        Ok(hasher.finish())
    }

    /// Says again what the bytes of an ended session are, for one whose answer was lost: whatever may have happened to
    /// the first attempt, the bytes are looked at, after a sign of life.
    async fn commit(&self, name: &Name, session: &Session, digest: &Digest, by: &By) -> Result<Blob> {
        let began = self.begin().await?;
        self.store.put(&layout::upload_alive(&session.id, &layout::attempt()), Vec::new()).await?;
        self.grant(name, digest, by).await?;
        if self.look_at(&place_of(session)).await? != Bytes::Sound {
            return Err(Error::UploadUnknown(session.id.clone()));
        }
        self.say_place(name, session, digest, by, began).await
    }

    /// Writes the fact that makes the bytes of an ended session a blob. They are durable and granted since `began`.
    async fn say_place(&self, name: &Name, session: &Session, digest: &Digest, by: &By, began: Moment) -> Result<Blob> {
        let place = place_of(session);
        self.put_place(digest, &place, by).await?;
        // one that took long looks again; it takes nothing back, since another may rely on its fact by now
        if self.was_slow(began)
            && !mutated("slow commit does not look")
            && !self.still_there(name, digest, &place, by).await?
        {
            if mutated("failed commit takes back") {
                self.store.delete(&layout::place(digest, &place.id)).await?;
            }
            return Err(Error::UploadUnknown(session.id.clone()));
        }
        let key = (name.clone(), *digest);
        // the grant is this process's own, and as fresh as an answer of the store
        self.rights.forget(&key);
        self.rights.remember(key.clone(), self.rights.ticket(&key), RightHit::Grant);
        self.hold(key, place.size, began, self.known.ticket());
        let blob = Blob { digest: *digest, size: place.size };
        self.known.places.insert(*digest, Arc::new(place));
        Ok(blob)
    }

    /// Removes bytes of this attempt that nothing names. Left to scrub where that fails.
    async fn take_back(&self, session: &Session, segment: &Segment) {
        if let Err(error) = self.store.delete(&segment.key(&session.id)).await {
            tracing::debug!(%error, "bytes that nothing names are left to scrub");
        }
    }
}

/// What came of ending a session.
enum Ended {
    /// Its bytes are a blob.
    Blob(Blob),
    /// Another request wrote its next state.
    NotFirst,
    /// Its bytes have this digest instead.
    Mismatch(Digest),
}

fn mismatch(expected: &Digest, computed: Digest) -> Error {
    Error::DigestMismatch { expected: Box::new(*expected), computed: Box::new(computed) }
}

/// Reads a body that is not needed, so that the client can go on on this connection.
async fn drain(mut body: Body) -> Result<()> {
    while let Some(bytes) = body.next().await {
        bytes?;
    }
    Ok(())
}
