//! The work of a download: takes turns with other servers, and follows the server whose turn it is.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Mirror,
    download::{Download, Unstored},
    error::{Error, Result},
    queue::Queue,
};
use crate::{
    identity::Client,
    registry::{self, Actor, Blob, Turn, UploadEnd, UploadStatus, UploadView},
    upstream::{Answer, Cached, Kind},
};

/// The time after which another server takes over a download that does not move.
const STALLED: Duration = Duration::from_secs(6);
/// The time between two looks at the download of another server.
const LOOK: Duration = Duration::from_millis(250);
/// The time between two looks at the store while a server waits for a place: another one may download meanwhile.
const LOOK_IN_QUEUE: Duration = Duration::from_secs(1);
/// The number of looks for a blob whose upload is complete.
const LOOKS: usize = 4;
/// The owner of the uploads of downloads. No identity has this name.
const OWNER: &str = "upstream:";

/// The work of one download.
pub(super) struct Worker {
    pub(super) mirror: Arc<Mirror>,
    pub(super) cached: Cached,
    pub(super) download: Arc<Download>,
    pub(super) by: Actor,
    /// The client that began the download.
    client: Client,
    /// The answer of an upstream that was asked whether it has a blob that no manifest here lists.
    said: OnceLock<Answer<Option<u64>>>,
    /// The size that the manifests here say, if they agree.
    pub(super) listed: Option<u64>,
    /// The turn of this server, if it has one.
    pub(super) turn: Mutex<Option<Turn>>,
}

/// The outcome of a turn.
pub(super) enum Outcome {
    Done(Blob),
    /// This server has the turn, and the upload is in this state.
    Mine(UploadStatus),
    /// Another server has the turn, or the download begins anew.
    Again,
}

impl Worker {
    pub(super) fn new(
        mirror: &Arc<Mirror>,
        cached: &Cached,
        download: &Arc<Download>,
        by: &Actor,
        client: Client,
    ) -> Self {
        let (mirror, download, by) = (Arc::clone(mirror), Arc::clone(download), by.clone());
        let (said, turn) = (OnceLock::new(), Mutex::new(None));
        Self { mirror, cached: cached.clone(), download, by, client, said, listed: None, turn }
    }

    /// Downloads the blob, until it is there or nobody waits for it any more.
    pub(super) async fn run(mut self) {
        self.listed = self.listed_size().await;
        let end = {
            let mut work = std::pin::pin!(self.work());
            loop {
                tokio::select! {
                    end = &mut work => break end,
                    () = self.download.abandoned(self.mirror.options.idle) => {}
                }
                // a reader may have come just now
                if self.mirror.forget_unread(&self.download) {
                    break Err(Error::Unfinished("nobody waited for it".to_owned()));
                }
            }
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
        self.ask_whether_it_is_there().await?;
        let mut queue = Queue::default();
        loop {
            match self.begin(&mut queue).await? {
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

    /// Asks the upstreams whether they have the blob, if no manifest here lists it. Nothing is written for a digest that a
    /// client made up.
    async fn ask_whether_it_is_there(&self) -> Result<()> {
        if self.listed.is_some() {
            return Ok(());
        }
        let said = self.cached.namespace.upstreams.blob_size(&self.cached.rest, &self.download.digest).await;
        match self.mirror.counted(said) {
            Ok(said) => drop(self.said.set(said)),
            // it answers no HEAD, and may answer the GET
            Err(unanswered)
                if unanswered.kind() == Kind::Unavailable
                    && [405, 501].iter().any(|status| unanswered.has_status(*status)) => {}
            Err(unanswered) => return Err(self.mirror.unanswered(&self.download, unanswered)),
        }
        Ok(())
    }

    /// Waits for a place, for some time. A server with a turn must move, so it waits before it takes one. It waits for
    /// each client that has a reader: the first place of any of them serves all.
    async fn wait_for_place(&self, queue: &mut Queue) {
        let host = self.cached.namespace.upstreams.hosts().next().unwrap_or_default().into();
        let mut clients = self.download.clients();
        if clients.is_empty() {
            clients.push(self.client);
        }
        queue.wait(&self.mirror.places, &host, &clients, LOOK_IN_QUEUE).await;
    }

    /// Looks at the newest turn: takes the next one if that is over, and follows its server otherwise. It takes a turn only
    /// with a place, and looks again after it has waited for one.
    async fn begin(&self, queue: &mut Queue) -> Result<Outcome> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        let newest = registry.downloads.newest(name, digest).await?;
        if let Some(turn) = &newest {
            match registry.uploads.view(name, &turn.upload).await? {
                Some(view) if view.end.is_none() => {
                    if !turn.is_given_up {
                        return self.follow(turn.clone(), queue).await;
                    }
                    if queue.has_place() {
                        return self.take(turn, view).await;
                    }
                }
                Some(view) if view.end == Some(UploadEnd::Completed(*digest)) => {
                    if !self.download.shows_none_but(&turn.upload) {
                        return Err(Error::Unfinished("it began anew".to_owned()));
                    }
                    if let Some(blob) = self.arrived().await? {
                        return Ok(Outcome::Done(blob));
                    }
                    // its server may have died before it wrote the blob copy
                    if let Ok(Some(done @ Outcome::Done(_))) = self.complete(&view.status, Unstored::default()).await {
                        return Ok(done);
                    }
                }
                _ => {}
            }
        }
        if !queue.has_place() {
            self.wait_for_place(queue).await;
            return Ok(Outcome::Again);
        }
        let status = registry.uploads.start(name, digest.algorithm(), OWNER, &self.by).await?;
        let turn = registry.downloads.take(name, digest, newest.as_ref(), &status.id, &self.by).await?;
        if turn.is_none() {
            self.mirror.metrics.upload_closed();
        }
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

    /// Follows the download of another server, without a place, and takes over if it does not move any more.
    async fn follow(&self, mut turn: Turn, queue: &mut Queue) -> Result<Outcome> {
        let (registry, Download { name, digest, .. }) = (&self.mirror.registry, &*self.download);
        queue.leave();
        match self.said.get() {
            Some(said) => self.download.answered(Some(&said.upstream), said.value),
            None => self.download.answered(None, self.listed),
        };
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
                // the server of a new turn has its time to begin
                if newest.is_after(&turn) {
                    queue.leave();
                    moved = Instant::now();
                }
                turn = newest;
                if turn.is_given_up || moved.elapsed() >= STALLED {
                    if queue.has_place() {
                        return self.take(&turn, view).await;
                    }
                    self.wait_for_place(queue).await;
                    continue;
                }
            } else {
                queue.leave();
                (seen, moved) = (Some(view.status), Instant::now());
            }
            sleep(LOOK).await;
        }
    }

    /// Shows the stored bytes to the readers.
    pub(super) fn show(&self, status: &UploadStatus) -> Result<()> {
        if self.download.stored_in(&status.id, status.offset) {
            return Ok(());
        }
        // the digest at the end is not that of the bytes that readers have
        Err(Error::Unfinished("it began anew".to_owned()))
    }
}
