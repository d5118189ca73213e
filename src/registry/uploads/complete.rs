//! Completes uploads: once, whoever asks, and however often.

use std::sync::Arc;

use bytes::Bytes as Content;
use futures::StreamExt as _;

use super::{
    Uploads, mismatch,
    receive::{Chunk, Received, Target},
    session::{End, Session},
};
use crate::{
    action::Upload,
    oci::{Digest, Name},
    records::{Actor, key::UploadKey},
    registry::{Body, Error, Result, blobs::Blob, copies::Bytes},
    storage::mutation::{Mutation, mutated},
};

/// The one who completes an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Completer {
    /// The client, which may repeat a completion whose answer it lost.
    Client,
    /// A download, which has shown its bytes to readers before.
    Reader,
}

/// The outcome of ending a session.
enum Ended {
    /// Its bytes are a blob.
    Blob(Blob),
    /// Another request wrote its next state.
    NotFirst,
    /// Its bytes have this other digest.
    Mismatch(Digest),
}

impl Uploads {
    /// Completes an upload as [`Uploads::complete`] does.
    pub(super) async fn complete_as(
        &self,
        name: &Name,
        upload: &Upload,
        digest: &Digest,
        chunk: Chunk,
        completer: Completer,
        by: &Actor,
    ) -> Result<Blob> {
        // bytes of a reader are right only if they are those that ended the upload
        let shows_bytes = completer == Completer::Reader && chunk.length != Some(0);
        let session = match self.open_session(name, upload, chunk.range).await {
            // the range of a repeated final chunk lies before the end that the first one made
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
            Some(_) if shows_bytes => return Err(session.out_of_order()),
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
            let ended = session.next(received.added(), received.hasher.clone(), end, self.core.clock.now());
            match Box::pin(self.end(name, ended, received, digest, by)).await? {
                Ended::Blob(blob) => return Ok(blob),
                Ended::NotFirst => {}
                // the remembered state may not be the newest, if another server took a chunk since
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
                Some(_) if shows_bytes => return Err(newest.out_of_order()),
                Some(End::Completed(known)) if known == *digest => {
                    return self.commit(name, &newest, digest, by).await;
                }
                Some(_) => return Err(Error::UploadUnknown(upload.id.clone())),
                None if has_bytes => return Err(newest.out_of_order()),
                // the request has no bytes to put in order, so it completes the newest state
                None => {
                    received = self.receive(&newest, Chunk::empty(&progress), Target::Segment).await?;
                    session = newest;
                }
            }
        }
    }

    /// Ends a session, if its bytes are `digest` and no other request wrote its next state.
    async fn end(&self, name: &Name, ended: Session, received: Received, digest: &Digest, by: &Actor) -> Result<Ended> {
        let received = match self.check_digest(&ended, received, digest).await? {
            Ok(received) => received,
            Err(computed) => return Ok(Ended::Mismatch(computed)),
        };
        let attempt = self.core.begin(by).await?;
        let (closed, granted) = tokio::join!(received.close(), attempt.write_link(name, digest));
        closed?;
        let _ = granted?;
        // the session ends once its bytes are durable: until then the client can continue it
        if !self.write_session(ended.clone(), Content::new()).await? {
            return Ok(Ended::NotFirst);
        }
        self.metrics.upload_closed();
        // scrub can only have given up an upload that this process has not seen alive for a while
        let known = self.known_alive(ended.alive) || mutated(Mutation::SessionNotLookedFor);
        if !known && self.copies.inspect(&ended.copy()).await? != Bytes::Sound {
            return Err(Error::UploadUnknown(ended.id));
        }
        self.commit_blob(name, &ended, digest, &attempt).await.map(Ended::Blob)
    }

    /// Writes the blob copy of an ended session again, for a client that lost the answer. The first attempt may have
    /// failed anywhere. So this writes a sign of life and a blob link, and then looks at the segments.
    async fn commit(&self, name: &Name, session: &Session, digest: &Digest, by: &Actor) -> Result<Blob> {
        let attempt = self.core.begin(by).await?;
        self.core.store.put(&UploadKey::Alive(attempt.suffix).of(&session.id), Vec::new()).await?;
        let _ = attempt.write_link(name, digest).await?;
        if self.copies.inspect(&session.copy()).await? != Bytes::Sound {
            return Err(Error::UploadUnknown(session.id.clone()));
        }
        self.commit_blob(name, session, digest, &attempt).await
    }
}

/// Reads a body that is not needed, so that the client can go on using this connection.
async fn drain(mut body: Body) -> Result<()> {
    while let Some(bytes) = body.next().await {
        bytes?;
    }
    Ok(())
}
