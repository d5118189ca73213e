//! Uploads: bytes arrive in one piece or in chunks, and become a blob.
//!
//! Bytes are written once, as they arrive, under keys of the attempt that receives them. The session's next state names
//! them, and the blob copy at the end names their digest. No record names bytes of a request that was cut off.

mod complete;
mod receive;
mod session;
mod shared;

use std::sync::Arc;

use bytes::Bytes as Content;
use futures::StreamExt;

use self::{
    complete::Completer,
    receive::{Received, Target},
    session::{Added, End, Session},
};
pub use self::{
    receive::{Chunk, Progress},
    session::UploadStatus,
    shared::{UploadEnd, UploadView},
};
use super::{
    Error, Result,
    blobs::{Blob, Blobs},
    copies::Copies,
    core::{Attempt, Core},
};
use crate::{
    action::{Upload, UploadId},
    memory::Part,
    oci::{Algorithm, Digest, Hasher, Name, range::ContentRange},
    records::{Actor, Segment, key::BlobKey},
    storage::mutation::{Mutation, mutated},
    telemetry::Metrics,
};

/// The uploads in progress.
pub struct Uploads {
    core: Arc<Core>,
    copies: Arc<Copies>,
    blobs: Arc<Blobs>,
    metrics: Metrics,
    /// States of uploads that this process wrote or read.
    sessions: Part<UploadId, Arc<Session>>,
}

impl Uploads {
    pub(super) fn new(core: &Arc<Core>, copies: &Arc<Copies>, blobs: &Arc<Blobs>, metrics: Metrics) -> Self {
        let sessions = core.part(|_: &UploadId, session: &Arc<Session>| session.weight());
        let sessions = sessions.for_time(core.options.lease / 2);
        Self { core: Arc::clone(core), copies: Arc::clone(copies), blobs: Arc::clone(blobs), metrics, sessions }
    }

    /// Begins an upload that belongs to `owner`. Returns its status.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(&self, name: &Name, algorithm: Algorithm, owner: &str, by: &Actor) -> Result<UploadStatus> {
        let session = Session::begin(name, algorithm, owner, by, self.core.clock.time_ms());
        let status = session.status();
        self.write_session(session, Content::new()).await?; // its id is fresh: nobody else writes it
        self.metrics.upload_opened();
        Ok(status)
    }

    /// Returns the status of an upload, from the store.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if the upload does not exist or has ended.
    pub async fn status(&self, name: &Name, upload: &Upload) -> Result<UploadStatus> {
        let session = self.session_as_stored(name, &upload.id).await?;
        if session.state.end.is_some() { Err(Error::UploadUnknown(upload.id.clone())) } else { Ok(session.status()) }
    }

    /// Cancels an upload.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if the upload does not exist or has ended. [`Error::OutOfOrder`] if another request
    /// wrote the next state.
    pub async fn cancel(&self, name: &Name, upload: &Upload) -> Result<()> {
        let session = self.session_as_stored(name, &upload.id).await?;
        if session.state.end.is_some() {
            return Err(Error::UploadUnknown(upload.id.clone()));
        }
        if self.cancel_session(&session).await? { Ok(()) } else { Err(session.out_of_order()) }
    }

    /// Cancels an upload that still is in this state. Returns the number of another state that it is in, and nothing if
    /// the upload is over.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn cancel_in_state(&self, name: &Name, id: &UploadId, state: Option<u32>) -> Result<Option<u32>> {
        let session = match self.session_as_stored(name, id).await {
            Err(Error::UploadUnknown(_)) => return Ok(None),
            other => other?,
        };
        let is_over =
            session.state.end.is_some() || (state == Some(session.sequence) && self.cancel_session(&session).await?);
        Ok((!is_over).then_some(session.sequence))
    }

    /// Cancels an upload. Returns false if another request wrote the next state.
    async fn cancel_session(&self, session: &Session) -> Result<bool> {
        let cancelled = session.next(Added::Nothing, None, Some(End::Cancelled), self.core.clock.now());
        let is_first = self.write_session(cancelled, Content::new()).await?;
        if is_first {
            self.metrics.upload_closed();
        }
        // the segments are left to scrub: a directory does not sync sessions, so a power cut may have undone the end of
        // an upload whose segments are a blob
        Ok(is_first)
    }

    /// Adds a chunk to an upload. Returns the new status.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`], [`Error::OutOfOrder`], and those of the body.
    pub async fn append(&self, name: &Name, upload: &Upload, chunk: Chunk) -> Result<UploadStatus> {
        self.append_to(name, upload, chunk, Target::State).await
    }

    /// Adds a chunk to an upload as [`Uploads::append`] does. Others can read it at once, however small it is.
    ///
    /// # Errors
    /// As [`Uploads::append`].
    pub async fn append_readable(&self, name: &Name, upload: &Upload, chunk: Chunk) -> Result<UploadStatus> {
        self.append_to(name, upload, chunk, Target::Segment).await
    }

    async fn append_to(&self, name: &Name, upload: &Upload, chunk: Chunk, target: Target) -> Result<UploadStatus> {
        let session = self.open_session(name, upload, chunk.range).await?;
        if session.state.end.is_some() {
            return Err(Error::UploadUnknown(upload.id.clone()));
        }
        let mut received = self.receive(&session, chunk, target).await?;
        let (hasher, segment, added) = (received.hasher.take(), received.segment(), received.added());
        let own = match &added {
            Added::Nothing => return Ok(session.status()),
            Added::Segment(_) => Content::new(),
            Added::Chunk(bytes) => bytes.clone(),
        };
        received.close().await?;
        let next = session.next(added, hasher, None, self.core.clock.now());
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

    /// Completes an upload with a last chunk: its bytes are `digest`.
    ///
    /// A client that lost the answer may repeat the call, and gets the same answer.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], [`Error::UploadUnknown`], [`Error::OutOfOrder`], and those of the body.
    pub async fn complete(
        &self,
        name: &Name,
        upload: &Upload,
        digest: &Digest,
        chunk: Chunk,
        by: &Actor,
    ) -> Result<Blob> {
        self.complete_as(name, upload, digest, chunk, Completer::Client, by).await
    }

    /// Stores a blob of one request, without a session that the client could continue.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], and those of the body.
    pub async fn put_blob(&self, name: &Name, digest: &Digest, chunk: Chunk, by: &Actor) -> Result<Blob> {
        let session = Session::begin(name, digest.algorithm(), "", by, self.core.clock.time_ms());
        let received = self.receive(&session, chunk, Target::Segment).await?;
        let end = Some(End::Completed(*digest));
        let ended = session.next(received.added(), received.hasher.clone(), end, self.core.clock.now());
        let received =
            self.check_digest(&ended, received, digest).await?.map_err(|computed| mismatch(digest, computed))?;
        let attempt = self.core.begin(by).await?;
        let (closed, granted) = tokio::join!(received.close(), attempt.write_link(name, digest));
        closed?;
        let _ = granted?;
        self.commit_blob(name, &ended, digest, &attempt).await
    }

    /// Checks that the bytes of `session`, with those just received, are `digest`. Otherwise returns their digest, and
    /// keeps nothing of what was received.
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
            // the hash is of another algorithm: all segments are read again, those just received too
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

    /// Returns the session to continue, if a chunk of this range can be added to it now.
    ///
    /// # Errors
    /// [`Error::OutOfOrder`] if the chunk does not begin at the end of the upload.
    async fn open_session(&self, name: &Name, upload: &Upload, range: Option<ContentRange>) -> Result<Arc<Session>> {
        let fits = |session: &Session| range.is_none_or(|range| range.first == session.state.offset);
        let session = self.session(name, upload).await?;
        if fits(&session) {
            return Ok(session);
        }
        let session = self.session_as_stored(name, &upload.id).await?;
        if fits(&session) { Ok(session) } else { Err(session.out_of_order()) }
    }

    /// Returns the digest of the session's segments, by reading them. Signs of life keep the upload alive meanwhile.
    async fn hash_again(&self, session: &Session, algorithm: Algorithm, progress: &Progress) -> Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let mut renewed = self.core.clock.now();
        for segment in &session.state.segments {
            let mut stream = self.core.store.read(&segment.key(&session.id), 0..segment.size).await?;
            while let Some(bytes) = stream.next().await {
                hasher.update(&bytes?);
                progress();
                renewed = self.keep_alive(session, renewed).await?;
            }
        }
        Ok(hasher.finish())
    }

    /// Writes the blob copy of an ended session. Its segments are durable. The attempt wrote the blob link.
    async fn commit_blob(
        &self,
        name: &Name,
        session: &Session,
        digest: &Digest,
        attempt: &Attempt<'_>,
    ) -> Result<Blob> {
        let copy = session.copy();
        self.copies.put(digest, &copy, attempt.by).await?;
        // a slow commit looks again; it takes nothing back, since another attempt may rely on its blob copy by now
        if attempt.was_slow()
            && !mutated(Mutation::SlowCommitDoesNotLook)
            && !self.copies.recheck_commit(name, digest, &copy, attempt.by).await?
        {
            if mutated(Mutation::FailedCommitTakesBack) {
                self.core.store.delete(&BlobKey::Copy(copy.id.clone()).of(digest)).await?;
            }
            return Err(Error::UploadUnknown(session.id.clone()));
        }
        Ok(self.blobs.uploaded(name, digest, copy, attempt))
    }

    /// Deletes a segment of this attempt that no record names. If that fails, scrub frees the segment later.
    async fn take_back(&self, session: &Session, segment: &Segment) {
        if let Err(error) = self.core.store.delete(&segment.key(&session.id)).await {
            tracing::debug!(%error, "bytes that nothing names are left to scrub");
        }
    }
}

fn mismatch(expected: &Digest, computed: Digest) -> Error {
    Error::DigestMismatch { expected: Box::new(*expected), computed: Box::new(computed) }
}
