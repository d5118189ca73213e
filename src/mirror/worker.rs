//! Downloads a blob: fetches it if it is this server's turn, and otherwise follows the server whose turn it is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::{
    Mirror,
    download::{Download, Unstored},
    error::{Error, Result},
    receive::{Receiving, ReceivingTask},
};
use crate::{
    action::Upload,
    registry::{self, Actor, Blob, Chunk, Turn, UploadEnd, UploadStatus, UploadView},
    upstream::{BlobStream, Cached, Reason, Unanswered},
};

/// The number of bytes of one object of a download. Server-side copies of S3 take 5 MiB or more.
const CHUNK: u64 = 8 * 1024 * 1024;
/// The number of chunks of a large blob.
const CHUNKS: u64 = 4_000;
/// The longest time for which received bytes wait until they are stored. Other servers see the download move then.
const FLUSH: Duration = Duration::from_secs(2);
/// The number of states of an upload after which bytes wait for longer. An upload has 10,000 chunks at most.
const MANY: u32 = 2_000;
/// The time after which another server takes over a download that does not move.
const STALLED: Duration = Duration::from_secs(6);
/// The time between two looks at the download of another server.
const LOOK: Duration = Duration::from_millis(250);
/// The number of looks for a blob whose upload is complete.
const LOOKS: usize = 4;
/// The times that a stream may break without a new byte, or for its slowness.
const TRIES: u32 = 3;
/// The owner of the uploads of downloads. No identity has this name.
const OWNER: &str = "upstream:";

/// The work of one download.
pub(super) struct Worker {
    mirror: Arc<Mirror>,
    cached: Cached,
    download: Arc<Download>,
    by: Actor,
    /// The size that the manifests here say, if they agree.
    listed: Option<u64>,
    /// The turn of this server, if it has one.
    turn: Mutex<Option<Turn>>,
}

/// The outcome of a turn.
enum Outcome {
    Done(Blob),
    /// This server has the turn, and the upload is in this state.
    Mine(UploadStatus),
    /// Another server has the turn, or the download begins anew.
    Again,
}

impl Worker {
    pub(super) fn new(mirror: &Arc<Mirror>, cached: &Cached, download: &Arc<Download>, by: &Actor) -> Self {
        let (mirror, download) = (Arc::clone(mirror), Arc::clone(download));
        Self { mirror, cached: cached.clone(), download, by: by.clone(), listed: None, turn: Mutex::new(None) }
    }

    /// Downloads the blob, until it is there or nobody waits for it any more.
    pub(super) async fn run(mut self) {
        self.listed = self.listed_size().await;
        let end = tokio::select! {
            end = self.work() => end,
            () = self.download.abandoned(self.mirror.options.idle) => Err(Error::Unfinished("nobody waited for it".to_owned())),
        };
        if let Err(error) = &end {
            let Download { name, digest, .. } = &*self.download;
            tracing::info!(%name, %digest, error = %error, "a download from an upstream ended early");
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        if end.is_err()
            && let Some(turn) = turn
        {
            self.give_up(&turn).await;
        }
        // before the end is told, so that a request that comes after it begins anew
        self.mirror.forget(&self.download);
        self.download.end(end);
    }

    /// Returns the size that the manifests here say, if they agree. It bounds a stream whose size no upstream says.
    async fn listed_size(&self) -> Option<u64> {
        let Download { name, digest, .. } = &*self.download;
        let listed = self.mirror.registry.blobs.listed_size(name, digest).await;
        listed.inspect_err(|error| tracing::debug!(%error, "the size of a blob is left to its upstream")).ok()?
    }

    /// Lets another server go on at once.
    async fn give_up(&self, turn: &Turn) {
        let Download { name, digest, .. } = &*self.download;
        self.mirror.metrics.upload_closed();
        if let Err(error) = self.mirror.registry.downloads.give_up(name, digest, turn, &self.by).await {
            tracing::debug!(%error, "the turn of a download is left to run out");
        }
    }

    async fn work(&self) -> Result<Blob> {
        // before the turn: a server with a turn must move
        let Ok(_place) = self.mirror.places.acquire().await else {
            return Err(Error::Unfinished("the server stops".to_owned()));
        };
        loop {
            match self.begin().await? {
                Outcome::Done(blob) => return Ok(blob),
                Outcome::Again => {}
                Outcome::Mine(status) => match self.fetch(status).await? {
                    Outcome::Done(blob) => return Ok(blob),
                    Outcome::Mine(_) | Outcome::Again => {
                        self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
                        self.mirror.metrics.upload_closed();
                        if self.download.shows_more_than_stored() {
                            return Err(Error::Unfinished("another server went on with it".to_owned()));
                        }
                    }
                },
            }
        }
    }

    /// Looks at the newest turn: takes the next one if that is over, and follows its server otherwise.
    async fn begin(&self) -> Result<Outcome> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let newest = registry.downloads.newest(name, digest).await?;
        if let Some(turn) = &newest {
            match registry.uploads.view(name, &turn.upload).await? {
                Some(view) if view.end.is_none() => {
                    return if turn.is_given_up {
                        self.take(turn, view).await
                    } else {
                        self.follow(turn.clone()).await
                    };
                }
                Some(view) if view.end == Some(UploadEnd::Completed(*digest)) => {
                    if let Some(blob) = self.arrived().await? {
                        return Ok(Outcome::Done(blob));
                    }
                }
                _ => {}
            }
        }
        let status = registry.uploads.start(name, digest.algorithm(), OWNER, &self.by).await?;
        let turn = registry.downloads.take(name, digest, newest.as_ref(), &status.id, &self.by).await?;
        Ok(self.taken(turn, status))
    }

    /// Takes the turn after one that is over, to go on with its upload.
    async fn take(&self, turn: &Turn, view: UploadView) -> Result<Outcome> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let next = registry.downloads.take(name, digest, Some(turn), &turn.upload, &self.by).await?;
        if next.is_some() {
            self.mirror.metrics.upload_opened();
        }
        Ok(self.taken(next, view.status))
    }

    fn taken(&self, turn: Option<Turn>, status: UploadStatus) -> Outcome {
        let outcome = if turn.is_some() { Outcome::Mine(status) } else { Outcome::Again };
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        outcome
    }

    /// Returns the blob, if the repository has it.
    async fn arrived(&self) -> Result<Option<Blob>> {
        let Download { name, digest, .. } = &*self.download;
        for look in 0..LOOKS {
            match self.mirror.registry.blobs.get(name, digest).await {
                Ok(blob) => return Ok(Some(blob)),
                Err(registry::Error::BlobUnknown { .. }) => {}
                Err(error) if error.is_damage() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // the server that completed the upload writes the blob copy next
            if look + 1 < LOOKS {
                sleep(LOOK).await;
            }
        }
        Ok(None)
    }

    /// Follows the download of another server, and takes over if it does not move any more.
    async fn follow(&self, mut turn: Turn) -> Result<Outcome> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let size = self.cached.namespace.upstreams.blob_size(&self.cached.rest, digest).await;
        if let Ok(answer) = self.mirror.counted(size) {
            self.download.answered(&answer.upstream, answer.value.or(self.listed));
        }
        let (mut seen, mut moved) = (None, Instant::now());
        loop {
            let Some(view) = registry.uploads.view(name, &turn.upload).await? else { return Ok(Outcome::Again) };
            if view.end == Some(UploadEnd::Completed(*digest))
                && let Some(blob) = self.arrived().await?
            {
                return Ok(Outcome::Done(blob));
            }
            if view.end.is_some() {
                return Ok(Outcome::Again);
            }
            self.show(&view.status)?;
            if seen.as_ref() == Some(&view.status) {
                let newest = registry.downloads.newest(name, digest).await?;
                let Some(newest) = newest.filter(|newest| newest.upload == turn.upload) else {
                    return Ok(Outcome::Again);
                };
                turn = newest;
                if turn.is_given_up || moved.elapsed() >= STALLED {
                    return self.take(&turn, view).await;
                }
            } else {
                (seen, moved) = (Some(view.status), Instant::now());
            }
            sleep(LOOK).await;
        }
    }

    /// Shows the stored bytes to the readers.
    fn show(&self, status: &UploadStatus) -> Result<()> {
        if self.download.stored_in(&status.id, status.offset) {
            return Ok(());
        }
        // the digest at the end is not that of the bytes that readers have
        Err(Error::Unfinished("it began anew".to_owned()))
    }

    /// Fetches the bytes from `status` on, and completes the upload.
    async fn fetch(&self, mut status: UploadStatus) -> Result<Outcome> {
        let Download { digest, .. } = &*self.download;
        self.show(&status)?;
        // another server may have stopped just before the end
        if status.offset > 0
            && let Some(outcome) = self.complete(&status, Unstored::default()).await?
        {
            return Ok(outcome);
        }
        let mut tries = 0;
        loop {
            let answer = self.cached.namespace.upstreams.blob(&self.cached.rest, digest, status.offset).await;
            let answer = self.mirror.counted(answer);
            let answer = answer.map_err(|unanswered| self.mirror.unanswered(&self.download, unanswered))?;
            let (upstream, before) = (answer.upstream, status.offset);
            let ended = match self.receive(&upstream, answer.value, status.offset)? {
                Some(receiving) => match self.store(&mut status, receiving).await? {
                    Some(ended) => ended,
                    None => return Ok(Outcome::Again),
                },
                None => Err(Reason::WrongAnswer("of another size than before".to_owned())),
            };
            let Err(reason) = ended else {
                return match self.complete(&status, self.download.unstored()).await? {
                    Some(outcome) => Ok(outcome),
                    None => self.wrong(&status, &upstream).await,
                };
            };
            tracing::info!(%digest, %upstream, %reason, offset = status.offset, "the bytes of an upstream broke off");
            let is_slow = matches!(reason, Reason::TooSlow);
            tries = if status.offset > before && !is_slow { 1 } else { tries + 1 };
            if tries > TRIES {
                let unanswered = Unanswered { reasons: vec![(upstream.to_string(), reason)] };
                return Err(self.mirror.unanswered(&self.download, unanswered));
            }
        }
    }

    /// Begins to receive the bytes of an upstream. Returns `None` if it says another size than was said before.
    fn receive(&self, upstream: &Arc<str>, stream: BlobStream, from: u64) -> Result<Option<ReceivingTask>> {
        let BlobStream { offset, size, bytes } = stream;
        let limit = self.mirror.registry.uploads.largest();
        if size.is_some_and(|size| size > limit) {
            return Err(registry::Error::TooLarge { what: "blob", limit }.into());
        }
        if !self.download.answered(upstream, size.or(self.listed)) {
            return Ok(None);
        }
        let receiving = Receiving {
            metrics: self.mirror.metrics.clone(),
            upstream: Arc::clone(upstream),
            download: Arc::clone(&self.download),
            waiting: 2 * self.chunk(),
            largest: self.download.size().unwrap_or(limit),
            time: self.mirror.options.pace,
        };
        Ok(Some(receiving.begin(bytes, offset, from)))
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
            Err(registry::Error::OutOfOrder { .. }) => return Ok(false),
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
    async fn complete(&self, status: &UploadStatus, rest: Unstored) -> Result<Option<Outcome>> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let upload = Upload { id: status.id.clone(), state: Some(status.state) };
        match registry.uploads.complete(name, &upload, digest, chunk(rest), &self.by).await {
            Ok(blob) => {
                registry.blobs.link_to_cached(name, digest, &self.by).await?;
                Ok(Some(Outcome::Done(blob)))
            }
            Err(registry::Error::DigestMismatch { .. }) => Ok(None),
            Err(registry::Error::OutOfOrder { .. }) => Ok(Some(Outcome::Again)),
            Err(error) => Err(error.into()),
        }
    }

    /// Cancels an upload with wrong bytes.
    async fn wrong(&self, status: &UploadStatus, upstream: &Arc<str>) -> Result<Outcome> {
        let Download { name, digest, .. } = &*self.download;
        let upload = Upload { id: status.id.clone(), state: Some(status.state) };
        self.mirror.registry.uploads.cancel(name, &upload).await?;
        Err(Error::WrongDigest { upstream: Arc::clone(upstream), expected: *digest })
    }
}

/// Returns bytes as a chunk of an upload.
fn chunk(Unstored { length, pieces }: Unstored) -> Chunk {
    let body = stream::iter(pieces.into_iter().map(Ok)).boxed();
    Chunk { range: None, length: Some(length), body, progress: Arc::new(|| {}) }
}
