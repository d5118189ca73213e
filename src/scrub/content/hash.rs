//! Reading bytes back and hashing them, off the threads that serve.

use futures::StreamExt;
use tokio::sync::mpsc;

use crate::{
    oci::{Algorithm, Digest, Hasher},
    registry::facts::Segment,
    storage::{FaultKind, StorageError, Store},
};

/// Bytes up to which hashing costs less than handing it to another thread.
const INLINE: u64 = 64 * 1024;
/// Chunks, of what the store reads at a time, that are read ahead of the hash: about 1 MiB.
const AHEAD: usize = 2;

/// The digest of the bytes that `read` finds under keys, one behind the other; nothing where they are not all there.
pub(in crate::scrub) async fn hash(
    store: &Store,
    algorithm: Algorithm,
    segments: impl IntoIterator<Item = (String, u64)>,
) -> Result<Option<Digest>, StorageError> {
    let segments: Vec<(String, u64)> = segments.into_iter().collect();
    let mut hasher = Hasher::new(algorithm);
    if segments.iter().map(|(_, size)| size).sum::<u64>() <= INLINE {
        let whole = each(store, &segments, async |chunk| {
            hasher.update(&chunk);
            true
        });
        return Ok(whole.await?.then(|| hasher.finish()));
    }
    let (sender, mut chunks) = mpsc::channel::<bytes::Bytes>(AHEAD);
    let hashing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            hasher.update(&chunk);
        }
        hasher.finish()
    });
    let whole = each(store, &segments, async |chunk| sender.send(chunk).await.is_ok()).await;
    drop(sender);
    let digest = hashing.await.map_err(|lost| StorageError::damaged("hash", "", lost.to_string()))?;
    Ok(whole?.then_some(digest))
}

/// The segments of bytes, as [`hash`] takes them.
pub(in crate::scrub) fn keys<'a>(
    id: &'a crate::action::UploadId,
    segments: &'a [Segment],
) -> impl Iterator<Item = (String, u64)> + 'a {
    segments.iter().map(|segment| (segment.key(id), segment.size))
}

/// Gives each chunk in its order; whether all were there.
async fn each(
    store: &Store,
    segments: &[(String, u64)],
    mut take: impl AsyncFnMut(bytes::Bytes) -> bool,
) -> Result<bool, StorageError> {
    // what is gone or short is an answer; a store that cannot say is an error
    let gone = |error: StorageError| if error.kind == FaultKind::Damaged { Ok(false) } else { Err(error) };
    for (key, size) in segments {
        let mut stream = match store.read(key, 0..*size).await {
            Ok(stream) => stream,
            Err(error) => return gone(error),
        };
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => {
                    if !take(chunk).await {
                        return Ok(false);
                    }
                }
                Err(error) => return gone(error),
            }
        }
    }
    Ok(true)
}
