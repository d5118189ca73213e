//! Hashes pulls on their way out, and notes corrupt segments.

use std::{future::ready, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, future::Either};

use super::{BlobCopy, BlobStream, Copies};
use crate::{
    action::UploadId,
    memory::Part,
    oci::{Digest, Hasher},
    records::{
        Actor, Provenance, json,
        key::{DataKey, Key, Prefix, Suffix},
    },
    registry::{core::Core, damage::Damage},
    storage::{self, StorageError, Store},
};

impl Copies {
    /// Breaks the stream off before its last chunk if the bytes are not `digest`. Then it reads them again. If they are
    /// wrong again, it notes the corruption: in memory, and beside the segments for every other process.
    ///
    /// The second read runs in a task of its own, since the client may not wait for it.
    pub(in crate::registry) fn verified(&self, stream: BlobStream, copy: Arc<BlobCopy>, digest: Digest) -> BlobStream {
        let mut hasher = Some(Hasher::new(digest.algorithm()));
        let mut left = copy.size;
        let suspect = Suspect {
            digest,
            copy,
            at: self.core.clock.time_ms(),
            core: Arc::clone(&self.core),
            damage: Arc::clone(&self.damage),
            corrupt: self.corrupt.clone(),
        };
        Box::pin(stream.then(move |chunk| {
            let Ok(chunk) = chunk else { return Either::Left(ready(chunk)) };
            left = left.saturating_sub(chunk.len() as u64);
            if let Some(hasher) = hasher.as_mut() {
                hasher.update(&chunk);
            }
            if left > 0 || hasher.take().is_none_or(|hasher| hasher.finish() == digest) {
                return Either::Left(ready(Ok(chunk)));
            }
            let suspect = suspect.clone();
            Either::Right(Box::pin(async move {
                let key = Prefix::Data(&suspect.copy.id).to_string();
                let says = match tokio::spawn(suspect.judge()).await {
                    Ok(Verdict::Corrupt) => "the bytes are not the digest that they were",
                    Ok(Verdict::Right) => "the bytes came as another digest, and are right when they are read again",
                    Ok(Verdict::Unknown) | Err(_) => "the bytes came as another digest, and could not be read again",
                };
                Err(StorageError::damaged("read", &key, says))
            }))
        }))
    }
}

/// A blob copy that may have been read as another digest.
#[derive(Clone)]
struct Suspect {
    digest: Digest,
    copy: Arc<BlobCopy>,
    /// The time at which the pull began.
    at: u64,
    core: Arc<Core>,
    damage: Arc<Damage>,
    corrupt: Part<UploadId, ()>,
}

/// The result of a second read.
enum Verdict {
    Right,
    Corrupt,
    Unknown,
}

impl Suspect {
    /// Reads the segments once more. If they are wrong again, writes a corruption note and tells other servers.
    async fn judge(self) -> Verdict {
        let Self { digest, copy, at, core, damage, corrupt } = self;
        let store = &core.store;
        let key = Prefix::Data(&copy.id).to_string();
        match is_right(store, &copy, &digest).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(%digest, key, "stored bytes came as another digest, and are right when they are read again");
                return Verdict::Right;
            }
            Err(error) => {
                tracing::warn!(%error, %digest, key, "stored bytes came as another digest, and cannot be read again");
                return Verdict::Unknown;
            }
        }
        corrupt.insert(copy.id.clone(), ());
        // a client that is told now that the blob is here would rely on corrupt segments
        damage.forget(&digest);
        tracing::error!(%digest, key, "stored bytes are corrupt: they are not the digest that they were; push the blob again");
        let by = Actor { identity: "pull".to_owned(), request: String::new() };
        match store.put(&DataKey::Corrupt(Suffix::random()).of(&copy.id), json(&Provenance { at, by })).await {
            // from here on the note counts; scrub removes it when the segments are read right again
            Ok(()) => drop(corrupt.remove(&copy.id)),
            Err(error) => tracing::warn!(%error, "no note could be written that these bytes are corrupt"),
        }
        if let Err(error) = store.put(&Key::Corrupt(at, digest, Suffix::random()).to_string(), Vec::new()).await {
            tracing::warn!(%error, "other servers could not be told that these bytes are corrupt");
        }
        Verdict::Corrupt
    }
}

/// Reads all segments of a blob copy. Returns whether they are `digest`.
async fn is_right(store: &Store, copy: &BlobCopy, digest: &Digest) -> storage::Result<bool> {
    let mut hasher = Hasher::new(digest.algorithm());
    for segment in &copy.segments {
        let mut stream = store.read(&segment.key(&copy.id), 0..segment.size).await?;
        while let Some(chunk) = stream.try_next().await? {
            hasher.update(&chunk);
        }
    }
    Ok(hasher.finish() == *digest)
}
