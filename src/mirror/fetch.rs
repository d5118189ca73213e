//! Fetches a blob, if it is this server's turn.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use super::{
    download::{Download, Unstored},
    error::{Error, Result},
    receive::{Receiving, ReceivingTask},
    senders::Senders,
    worker::{Outcome, Worker},
};
use crate::{
    action::Upload,
    registry::{self, Chunk, UploadStatus},
    upstream::{BlobStream, Kind, Reason, Unanswered},
};

/// The number of bytes of one object of a download. Server-side copies of S3 take 5 MiB or more.
const CHUNK: u64 = 8 * 1024 * 1024;
/// The number of chunks of a large blob.
const CHUNKS: u64 = 4_000;
/// The longest time for which received bytes wait until they are stored. Other servers see the download move then.
const FLUSH: Duration = Duration::from_secs(2);
/// The number of states of an upload after which bytes wait for longer. An upload has 10,000 chunks at most.
const MANY: u32 = 2_000;

impl Worker {
    /// Fetches the bytes from `status` on, and completes the upload.
    pub(super) async fn fetch(&self, mut status: UploadStatus) -> Result<Outcome> {
        let Download { digest, .. } = &*self.download;
        self.show(&status)?;
        // another server may have stopped just before the end
        if status.offset > 0
            && let Some(outcome) = self.complete(&status, Unstored::default()).await?
        {
            return Ok(outcome);
        }
        let upstreams = &self.cached.namespace.upstreams;
        let mut senders = Senders::of(&self.mirror, &self.download, upstreams, status.offset);
        loop {
            let answer = senders.next().blob(&self.cached.rest, digest, status.offset).await;
            let answer = match self.mirror.counted(answer) {
                // the upload is longer than the blob of this upstream
                Err(unanswered) if status.offset > 0 && self.is_too_long(&status, &unanswered) => {
                    self.drop_upload(&status).await?;
                    return Err(Error::Unfinished("it was longer than the blob".to_owned()));
                }
                Err(unanswered) => {
                    let again = senders.again(unanswered).await;
                    if let Err(unanswered) = again {
                        // nothing of it came, so nothing is left to go on with
                        if status.offset == 0 && unanswered.kind() == Kind::NotFound {
                            self.drop_upload(&status).await?;
                        }
                        return Err(self.mirror.unanswered(&self.download, unanswered));
                    }
                    continue;
                }
                Ok(answer) => answer,
            };
            let (upstream, before) = (answer.upstream, status.offset);
            let sender = Arc::clone(&answer.value.upstream);
            let ended = match self.receive(&upstream, answer.value, status.offset)? {
                Some(receiving) => match self.store(&mut status, receiving).await? {
                    Some(ended) => ended,
                    None => return Ok(Outcome::Again),
                },
                // nobody can tell whose size is wrong
                None => Err(Reason::WrongSize),
            };
            // with all bytes, nothing is left to ask for
            let reason = ended.err().filter(|_| self.download.size() != Some(status.offset));
            // the size that is known may be wrong
            if reason == Some(Reason::CutShort)
                && let Some(outcome) = self.complete(&status, Unstored::default()).await?
            {
                return Ok(outcome);
            }
            let Some(reason) = reason else {
                if let Some(outcome) = self.complete(&status, self.download.unstored()).await? {
                    if matches!(outcome, Outcome::Done(_)) {
                        Senders::right(&self.mirror, &self.download, &sender);
                    }
                    return Ok(outcome);
                }
                senders.wrong(&self.mirror, &self.download, upstreams, &sender);
                self.mirror.metrics.record_upstream(&upstream, "wrong", None);
                self.drop_upload(&status).await?;
                return Err(Error::WrongDigest { upstream, expected: *digest });
            };
            tracing::info!(%digest, %upstream, %reason, offset = status.offset, "the bytes of an upstream broke off");
            self.mirror.metrics.record_upstream(&upstream, reason.as_str(), None);
            if reason != Reason::WrongSize {
                sender.note_stream(digest, false);
            }
            let moved = status.offset > before;
            if moved || self.download.size().is_some() {
                senders.has_begun();
            }
            senders.broke(&sender, reason, moved);
        }
    }

    /// Begins to receive the bytes of an upstream. Returns `None` if it says another size than was said before.
    fn receive(&self, upstream: &Arc<str>, stream: BlobStream, from: u64) -> Result<Option<ReceivingTask>> {
        let BlobStream { offset, size, silence, bytes, .. } = stream;
        let limit = self.mirror.registry.uploads.largest();
        if size.is_some_and(|size| size > limit) {
            return Err(registry::Error::TooLarge { what: "blob", limit }.into());
        }
        if !self.download.answered(Some(upstream), size.or(self.listed)) {
            return Ok(None);
        }
        let receiving = Receiving {
            received: self.mirror.metrics.upstream_bytes(upstream),
            download: Arc::clone(&self.download),
            waiting: 2 * self.chunk(),
            largest: self.download.size().unwrap_or(limit),
            size: self.download.size(),
            time: self.mirror.options.pace,
            silence,
        };
        Ok(Some(receiving.begin(bytes, offset, from)))
    }

    /// Returns whether upstreams refuse to send the rest since the upload is longer than their blob. Bytes that a known size
    /// leaves room for are dropped only if every upstream says so.
    fn is_too_long(&self, status: &UploadStatus, unanswered: &Unanswered) -> bool {
        let has_room = self.download.size().is_some_and(|size| status.offset < size);
        let says_so = unanswered.reasons.iter().filter(|(_, reason)| *reason == Reason::Status(416)).count();
        if has_room { says_so == self.cached.namespace.upstreams.hosts().count() } else { says_so > 0 }
    }

    fn chunk(&self) -> u64 {
        CHUNK.max(self.download.size().unwrap_or(0) / CHUNKS)
    }

    /// Stores bytes as they are received, until the upstream's stream ends. The bytes after the last whole chunk are
    /// stored as well, unless the stream ended well. Returns `None` if another server has the turn.
    async fn store(
        &self,
        status: &mut UploadStatus,
        mut receiving: ReceivingTask,
    ) -> Result<Option<std::result::Result<(), Reason>>> {
        let chunk = self.chunk();
        let mut ended = None;
        loop {
            let flush = if status.state < MANY { FLUSH } else { 30 * FLUSH };
            let flush = async {
                sleep(flush).await;
                self.download.has_bytes(1).await;
            };
            tokio::select! {
                result = &mut receiving.0, if ended.is_none() => {
                    ended = Some(result.unwrap_or_else(|error| Err(Reason::Connection(error.to_string()))));
                }
                () = self.download.has_bytes(chunk) => {}
                () = flush => {}
            }
            if matches!(ended, Some(Ok(()))) {
                return Ok(ended);
            }
            let unstored = self.download.unstored();
            if unstored.length > 0 && !self.append(status, unstored).await? {
                // the bytes of the other server are shown next
                if ended.is_none() {
                    receiving.stop().await;
                }
                return Ok(None);
            }
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }

    /// Adds bytes to the upload. Returns false if another server did.
    async fn append(&self, status: &mut UploadStatus, unstored: Unstored) -> Result<bool> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let upload = Upload { id: status.id.clone(), state: Some(status.state) };
        match registry.uploads.append_readable(name, &upload, chunk(unstored)).await {
            Ok(next) => *status = next,
            Err(registry::Error::OutOfOrder { .. } | registry::Error::UploadUnknown(_)) => return Ok(false),
            Err(registry::Error::TooManyChunks { .. }) => {
                self.drop_upload(status).await?;
                return Err(Error::Unfinished("it came in too many pieces".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        self.show(status)?;
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut turn) = turn {
            registry.downloads.renew(name, digest, &mut turn, &self.by).await?;
            *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
        }
        Ok(true)
    }

    /// Completes the upload with its last bytes. Returns `None` if its bytes have another digest.
    pub(super) async fn complete(&self, status: &UploadStatus, rest: Unstored) -> Result<Option<Outcome>> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let upload = Upload { id: status.id.clone(), state: Some(status.state) };
        match registry.uploads.complete_shown(name, &upload, digest, chunk(rest), &self.by).await {
            Ok(blob) => {
                registry.blobs.link_to_cached(name, digest, &self.by).await?;
                Ok(Some(Outcome::Done(blob)))
            }
            Err(registry::Error::DigestMismatch { .. }) => Ok(None),
            Err(registry::Error::OutOfOrder { .. } | registry::Error::UploadUnknown(_)) => Ok(Some(Outcome::Again)),
            Err(error) => Err(error.into()),
        }
    }

    /// Cancels an upload with wrong bytes, so that the next download begins anew.
    async fn drop_upload(&self, status: &UploadStatus) -> Result<()> {
        let upload = Upload { id: status.id.clone(), state: Some(status.state) };
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(self.mirror.registry.uploads.cancel(&self.download.name, &upload).await?)
    }
}

/// Returns bytes as a chunk of an upload.
fn chunk(Unstored { length, pieces }: Unstored) -> Chunk {
    let body = stream::iter(pieces.into_iter().map(Ok)).boxed();
    Chunk { range: None, length: Some(length), body, progress: Arc::new(|| {}) }
}
