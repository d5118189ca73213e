//! Reads bytes back and hashes them, off the threads that serve.

use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinHandle;

use crate::{
    action::UploadId,
    oci::{Algorithm, Digest, Hasher},
    priority::spawn_computing,
    records::Segment,
    storage::{FaultKind, StorageError, Store},
};

/// The number of bytes up to which hashing costs less than handing the work to another thread.
const INLINE: u64 = 64 * 1024;

/// Returns the digest of an upload's segments, one behind the other. Returns nothing if they are not all there.
pub(super) async fn hash_segments(
    store: &Store,
    algorithm: Algorithm,
    id: &UploadId,
    segments: &[Segment],
) -> Result<Option<Digest>, StorageError> {
    let mut hashing = Hashing::Here(Box::new(Hasher::new(algorithm)));
    let elsewhere = segments.iter().map(|segment| segment.size).sum::<u64>() > INLINE;
    // missing or short bytes are an answer; a store that cannot tell is an error
    let gone = |error: StorageError| if error.kind == FaultKind::Damaged { Ok(None) } else { Err(error) };
    for segment in segments {
        let mut stream = match store.read(&segment.key(id), 0..segment.size).await {
            Ok(stream) => stream,
            Err(error) => return gone(error),
        };
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => hashing = hashing.update(chunk, elsewhere).await?,
                Err(error) => return gone(error),
            }
        }
    }
    Ok(Some(hashing.end().await?.finish()))
}

/// A hash under way. No thread waits for the next chunk: reading it may need a thread itself, and threads are few.
enum Hashing {
    Here(Box<Hasher>),
    /// Another thread hashes a chunk, while the next is read.
    Elsewhere(JoinHandle<Box<Hasher>>),
}

impl Hashing {
    async fn update(self, chunk: Bytes, elsewhere: bool) -> Result<Self, StorageError> {
        let mut hasher = self.end().await?;
        let work = move || {
            hasher.update(&chunk);
            hasher
        };
        Ok(if elsewhere { Self::Elsewhere(spawn_computing(work)) } else { Self::Here(work()) })
    }

    async fn end(self) -> Result<Box<Hasher>, StorageError> {
        match self {
            Self::Here(hasher) => Ok(hasher),
            Self::Elsewhere(hashing) => {
                hashing.await.map_err(|lost| StorageError::damaged("hash", "", lost.to_string()))
            }
        }
    }
}
