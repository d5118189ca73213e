//! A download that is under way in this process: its state, and readers of its bytes.

use std::{collections::VecDeque, ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

use super::error::{Error, Result};
use crate::{
    action::UploadId,
    identity::Client,
    oci::{Digest, Name},
    registry::{Blob, BlobStream, Registry},
};

/// The bytes of a blob. After an error, which is the last item, the transfer must be broken off.
pub type DownloadStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The largest number of clients that a download waits for a place for.
const CLIENTS: usize = 16;

/// A download of one blob into one repository.
pub(super) struct Download {
    pub(super) name: Name,
    pub(super) digest: Digest,
    state: watch::Sender<State>,
    /// The client of each reader.
    readers: watch::Sender<Vec<Client>>,
}

/// The state of a download. Its bytes are those of one upload, so that the digest at its end is that of every byte that a
/// reader was given.
#[derive(Default)]
struct State {
    /// The host of the upstream that sends.
    upstream: Option<Arc<str>>,
    /// The size of the blob in bytes, as an upstream says it.
    size: Option<u64>,
    /// The upload that takes the bytes.
    upload: Option<UploadId>,
    /// The number of bytes that can be read from the upload.
    stored: u64,
    /// The bytes that were received last, the newest at the end: all that are not stored, and perhaps some that are.
    recent: VecDeque<Bytes>,
    /// The offset of the first byte in `recent`.
    recent_from: u64,
    /// The number of bytes that were received.
    received: u64,
    end: Option<Result<Blob>>,
}

impl State {
    /// Returns the next step of a reader at `at` of the bytes before `end`.
    fn step(&self, at: u64, end: u64) -> Step {
        match &self.end {
            Some(Err(error)) => return Step::Failed(error.clone()),
            Some(Ok(blob)) => return self.piece(at, end).map_or(Step::Blob(*blob), Step::Piece),
            None => {}
        }
        // the last byte waits until the digest is known to be right, so that no client finishes with wrong bytes
        let there = end.saturating_sub(1).min(self.received);
        match &self.upload {
            _ if at >= there => Step::Wait,
            Some(upload) if at < self.recent_from => Step::Stored(upload.clone(), at..there.min(self.stored)),
            _ => self.piece(at, there).map_or(Step::Wait, Step::Piece),
        }
    }

    /// Returns whether readers have no bytes of another upload.
    fn shows_none_but(&self, upload: &UploadId) -> bool {
        self.upload.as_ref().is_none_or(|before| before == upload) || self.received == 0
    }

    /// Forgets recent bytes but for the last one, which all readers of the end wait for. A reader may stay for long.
    fn keep_the_last_byte(&mut self) {
        let last = self.piece(self.received.saturating_sub(1), self.received);
        self.recent_from = self.received - last.as_ref().map_or(0, |last| last.len() as u64);
        self.recent = last.iter().map(|last| Bytes::copy_from_slice(last)).collect();
    }

    /// Returns recent bytes from `at` on, no further than `end`.
    fn piece(&self, at: u64, end: u64) -> Option<Bytes> {
        if at < self.recent_from {
            return None;
        }
        let mut from = self.recent_from;
        for piece in &self.recent {
            let next = from + piece.len() as u64;
            if at < next {
                let within = |offset: u64| usize::try_from(offset - from).unwrap_or(piece.len()).min(piece.len());
                return Some(piece.slice(within(at)..within(end)));
            }
            from = next;
        }
        None
    }

    /// Forgets recent bytes that can be read from the upload.
    fn trim(&mut self) {
        while let Some(first) = self.recent.front()
            && self.recent_from + first.len() as u64 <= self.stored
        {
            self.recent_from += first.len() as u64;
            self.recent.pop_front();
        }
    }
}

enum Step {
    Piece(Bytes),
    Stored(UploadId, Range<u64>),
    Blob(Blob),
    Failed(Error),
    Wait,
}

/// The bytes that were received and are not stored.
#[derive(Default)]
pub(super) struct Unstored {
    pub(super) length: u64,
    pub(super) pieces: Vec<Bytes>,
}

impl Download {
    pub(super) fn new(name: &Name, digest: &Digest) -> Arc<Self> {
        let (state, readers) = (watch::Sender::new(State::default()), watch::Sender::new(Vec::new()));
        Arc::new(Self { name: name.clone(), digest: *digest, state, readers })
    }

    /// Adds a reader.
    pub(super) fn reader(self: &Arc<Self>, client: Client) -> Pull {
        self.readers.send_modify(|readers| readers.push(client));
        Pull { download: Arc::clone(self), client }
    }

    /// Waits until there has been no reader for some time.
    pub(super) async fn abandoned(&self, time: std::time::Duration) {
        let mut readers = self.readers.subscribe();
        loop {
            // the sender lives as long as `self`
            let _ = readers.wait_for(Vec::is_empty).await;
            if tokio::time::timeout(time, readers.wait_for(|readers| !readers.is_empty())).await.is_err() {
                return;
            }
        }
    }

    /// Returns whether there is a reader.
    pub(super) fn has_readers(&self) -> bool {
        !self.readers.borrow().is_empty()
    }

    /// Returns some clients of readers, the first ones first.
    pub(super) fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for client in self.readers.borrow().iter() {
            if clients.len() < CLIENTS && !clients.contains(client) {
                clients.push(*client);
            }
        }
        clients
    }

    /// Notes the upstream that sends, if one does, and the size that is said. Returns false if another size was said before.
    pub(super) fn answered(&self, upstream: Option<&Arc<str>>, size: Option<u64>) -> bool {
        let mut agrees = true;
        self.state.send_modify(|state| {
            state.upstream = upstream.cloned().or(state.upstream.take());
            agrees = state.size.is_none() || size.is_none() || state.size == size;
            state.size = state.size.or(size);
        });
        agrees
    }

    /// Returns whether readers have no bytes of another upload.
    pub(super) fn shows_none_but(&self, upload: &UploadId) -> bool {
        self.state.borrow().shows_none_but(upload)
    }

    /// Notes the upload that takes the bytes, and how many bytes of it can be read. Returns false if bytes of another
    /// upload were shown before.
    pub(super) fn stored_in(&self, upload: &UploadId, stored: u64) -> bool {
        let mut same = true;
        self.state.send_modify(|state| {
            same = state.shows_none_but(upload);
            if same {
                state.upload = Some(upload.clone());
                state.stored = stored;
                if state.received <= stored {
                    (state.received, state.recent_from) = (stored, stored);
                    state.recent.clear();
                }
                state.trim();
            }
        });
        same
    }

    /// Adds received bytes.
    pub(super) fn receive(&self, bytes: Bytes) {
        self.state.send_modify(|state| {
            if state.end.is_none() {
                state.received += bytes.len() as u64;
                state.recent.push_back(bytes);
            }
        });
    }

    /// Waits until fewer than `most` received bytes are not stored.
    pub(super) async fn has_room(&self, most: u64) {
        // the sender lives as long as `self`
        let _ = self.state.subscribe().wait_for(|state| state.received - state.stored < most).await;
    }

    /// Waits until at least `least` received bytes are not stored.
    pub(super) async fn has_bytes(&self, least: u64) {
        let _ = self.state.subscribe().wait_for(|state| state.received - state.stored >= least).await;
    }

    /// Returns the bytes that were received and are not stored.
    pub(super) fn unstored(&self) -> Unstored {
        let state = self.state.borrow();
        let (mut at, mut pieces) = (state.stored, Vec::new());
        while let Some(piece) = state.piece(at, state.received) {
            at += piece.len() as u64;
            pieces.push(piece);
        }
        Unstored { length: at - state.stored, pieces }
    }

    /// Returns whether a reader may have seen bytes that are not stored.
    pub(super) fn shows_more_than_stored(&self) -> bool {
        let state = self.state.borrow();
        state.received > state.stored
    }

    /// Returns the size of the blob in bytes, if an upstream has said it.
    pub(super) fn size(&self) -> Option<u64> {
        self.state.borrow().size
    }

    /// Ends the download.
    pub(super) fn end(&self, end: Result<Blob>) {
        self.state.send_modify(|state| {
            let is_other = |blob: &Blob| state.size.is_some_and(|size| size != blob.size);
            if state.end.is_none() {
                // readers were told the size before
                state.end = Some(match end {
                    Ok(blob) if is_other(&blob) => {
                        Err(Error::Unfinished("it has another size than was said".to_owned()))
                    }
                    end => end,
                });
                state.keep_the_last_byte();
            }
        });
    }
}

/// A reader of a download. The download goes on as long as there is one.
pub struct Pull {
    download: Arc<Download>,
    client: Client,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.download.readers.send_modify(|readers| {
            if let Some(at) = readers.iter().position(|client| *client == self.client) {
                readers.remove(at);
            }
        });
    }
}

impl Pull {
    /// Waits until the size of the blob is known, in bytes.
    ///
    /// # Errors
    /// The one that ended the download.
    pub async fn size(&self) -> Result<u64> {
        let mut state = self.download.state.subscribe();
        // a body of no bytes is sent without a look at the digest, so an empty blob waits for its end
        let is_known = |state: &State| state.size.is_some_and(|size| size > 0) || state.end.is_some();
        let state = state.wait_for(is_known).await;
        let state = state.map_err(|_| Error::Unfinished("its task ended".to_owned()))?;
        match (&state.end, state.size) {
            (Some(end), _) => end.clone().map(|blob| blob.size),
            (None, Some(size)) => Ok(size),
            (None, None) => Err(Error::Unfinished("its size is not known".to_owned())),
        }
    }

    /// Returns the host of the upstream that sends, if it is known.
    #[must_use]
    pub fn upstream(&self) -> Option<Arc<str>> {
        self.download.state.borrow().upstream.clone()
    }

    /// Reads bytes, as they come. The last byte comes once the digest of all is known to be right.
    #[must_use]
    pub fn read(self, registry: Arc<Registry>, range: Range<u64>) -> DownloadStream {
        let updates = self.download.state.subscribe();
        let reader = Reader { pull: self, registry, updates, range, stored: None };
        Box::pin(stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

struct Reader {
    pull: Pull,
    registry: Arc<Registry>,
    updates: watch::Receiver<State>,
    /// The bytes that are left.
    range: Range<u64>,
    /// Bytes from the store, and the offset at which they began.
    stored: Option<(BlobStream, u64)>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.range.is_empty() {
            if let Some((stored, began)) = &mut self.stored {
                match stored.next().await {
                    Some(bytes) => return Some(bytes.map_err(Error::from).map(|bytes| self.took(bytes))),
                    None if self.range.start == *began => {
                        return Some(Err(Error::Unfinished("bytes of it are missing".to_owned())));
                    }
                    None => self.stored = None,
                }
            }
            let step = self.updates.borrow_and_update().step(self.range.start, self.range.end);
            let Download { name, digest, .. } = &*self.pull.download;
            let opened = match step {
                Step::Piece(bytes) => return Some(Ok(self.took(bytes))),
                Step::Failed(error) => return Some(Err(error)),
                Step::Stored(upload, range) => self.registry.uploads.read(name, &upload, range).await,
                Step::Blob(blob) => self.registry.blobs.read(name, &blob, Some(self.range.clone())).await,
                Step::Wait => match self.updates.changed().await {
                    Ok(()) => continue,
                    Err(_) => return Some(Err(Error::Unfinished(format!("the download of {digest} ended")))),
                },
            };
            match opened {
                Ok(stream) => self.stored = Some((stream, self.range.start)),
                Err(error) => return Some(Err(error.into())),
            }
        }
        None
    }

    fn took(&mut self, bytes: Bytes) -> Bytes {
        self.range.start += bytes.len() as u64;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_download_keeps_the_last_byte_alone_and_its_readers_go_on_in_the_blob() {
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let download = Download::new(&"hub/app".parse().unwrap(), &digest);
        for piece in [vec![1; 1_000_000], vec![2; 2_000_000]] {
            download.receive(piece.into());
        }
        let blob = Blob { digest, size: 3_000_000 };
        download.end(Ok(blob));
        download.receive(vec![3; 1000].into());
        let state = download.state.borrow();
        assert_eq!(state.recent, [Bytes::from_static(&[2])]);
        for at in [0, 1_500_000, 2_999_998] {
            assert!(matches!(state.step(at, 3_000_000), Step::Blob(one) if one.size == blob.size), "{at}");
        }
        assert!(matches!(state.step(2_999_999, 3_000_000), Step::Piece(last) if *last == [2]));
    }
}
