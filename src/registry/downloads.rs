//! Downloads of blobs from upstreams: which server fetches, and which upload takes the bytes.
//!
//! A download is an upload whose bytes an upstream sends. Servers take turns by creating records exclusively, so one
//! fetches and the others read what it stored. Turns save work alone: the states of the upload decide which bytes count,
//! and two servers that both believe in their turn write no wrong byte.

use std::sync::Arc;

use super::{Result, core::Core};
use crate::{
    action::UploadId,
    oci::{Digest, Name},
    records::{
        Actor, DownloadTurn, json,
        key::{Ordinal, Prefix, RepositoryKey, Suffix},
    },
    storage::{Moment, StorageError},
};

/// The downloads of blobs.
pub struct Downloads {
    core: Arc<Core>,
}

/// The newest turn of a download.
#[derive(Clone, Debug)]
pub struct Turn {
    number: Ordinal,
    /// The upload that takes the bytes.
    pub upload: UploadId,
    /// Set if nobody fetches.
    pub is_given_up: bool,
    taken: Moment,
}

impl Turn {
    /// Returns whether this turn was taken after `other`, a turn of the same download.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        self.number > other.number
    }
}

impl Downloads {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    /// Returns the newest turn to download a blob, if there is one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest(&self, name: &Name, digest: &Digest) -> Result<Option<Turn>> {
        let listed = self.core.store.list(&Prefix::Downloads(name, digest).to_string(), None, 1).await?;
        let Some(entry) = listed.first() else { return Ok(None) };
        let Some(RepositoryKey::Download(_, number)) = RepositoryKey::under(name, &entry.key) else { return Ok(None) };
        // scrub frees old turns
        let Some(content) = self.core.store.get(&entry.key).await? else { return Ok(None) };
        let read = serde_json::from_slice::<DownloadTurn>(&content);
        let DownloadTurn { upload, given_up, .. } =
            read.map_err(|error| StorageError::damaged("get", &entry.key, error.to_string()))?;
        Ok(Some(Turn { number, upload, is_given_up: given_up, taken: self.core.clock.now() }))
    }

    /// Takes the turn after `newest`, to download into `upload`. Returns `None` if another server was first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take(
        &self,
        name: &Name,
        digest: &Digest,
        newest: Option<&Turn>,
        upload: &UploadId,
        by: &Actor,
    ) -> Result<Option<Turn>> {
        self.create(name, digest, newest, upload, false, by).await
    }

    /// Gives a turn up, so that another server may go on at once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn give_up(&self, name: &Name, digest: &Digest, turn: &Turn, by: &Actor) -> Result<()> {
        self.create(name, digest, Some(turn), &turn.upload, true, by).await.map(drop)
    }

    /// Takes the next turn in place of one that has lasted for a quarter of a lease: scrub frees old turns.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn renew(&self, name: &Name, digest: &Digest, turn: &mut Turn, by: &Actor) -> Result<()> {
        if self.core.clock.since(turn.taken) >= self.core.lease.at(turn.taken) / 4
            && let Some(next) = self.take(name, digest, Some(turn), &turn.upload, by).await?
        {
            *turn = next;
        }
        Ok(())
    }

    async fn create(
        &self,
        name: &Name,
        digest: &Digest,
        newest: Option<&Turn>,
        upload: &UploadId,
        given_up: bool,
        by: &Actor,
    ) -> Result<Option<Turn>> {
        let number = Ordinal(newest.map_or(0, |turn| turn.number.0.saturating_add(1)));
        let (attempt, at, taken) = (Suffix::random(), self.core.clock.time_ms(), self.core.clock.now());
        let record = DownloadTurn { upload: upload.clone(), given_up, attempt, at, by: by.clone() };
        let key = RepositoryKey::Download(*digest, number).of(name);
        let is_first = self.core.store.create_new(&key, json(&record)).await?;
        Ok(is_first.then(|| Turn { number, upload: upload.clone(), is_given_up: given_up, taken }))
    }
}
