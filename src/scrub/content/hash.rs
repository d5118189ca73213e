//! Reading bytes back and hashing them, off the threads that serve.

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::{
    oci::{Algorithm, Digest, Hasher},
    storage::{FaultKind, StorageError, Store},
};

/// Bytes up to which hashing costs less than handing it to another thread.
const INLINE: u64 = 64 * 1024;
/// Chunks, of what the store reads at a time, that are read ahead of the hash: about 1 MiB.
const AHEAD: usize = 2;

/// The digest of the bytes under these keys, each of so many, one behind the other; nothing where they are not all there.
pub(in crate::scrub) async fn hash(
    store: &Store,
    algorithm: Algorithm,
    segments: impl IntoIterator<Item = (String, u64)>,
) -> Result<Option<Digest>, StorageError> {
    let segments: Vec<(String, u64)> = segments.into_iter().collect();
    let mut hasher = Hasher::new(algorithm);
    if segments.iter().map(|(_, size)| size).sum::<u64>() <= INLINE {
        let whole = read(store, &segments, Sink::Here(&mut hasher)).await?;
        return Ok(whole.then(|| hasher.finish()));
    }
    let (sender, mut chunks) = mpsc::channel::<Bytes>(AHEAD);
    let hashing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            hasher.update(&chunk);
        }
        hasher.finish()
    });
    // with the sender that is given away, the other thread comes to its end
    let whole = read(store, &segments, Sink::Elsewhere(sender)).await;
    let digest = hashing.await.map_err(|lost| StorageError::damaged("hash", "", lost.to_string()))?;
    Ok(whole?.then_some(digest))
}

/// Where chunks go.
enum Sink<'a> {
    Here(&'a mut Hasher),
    Elsewhere(mpsc::Sender<Bytes>),
}

/// Reads all of the segments; whether they were all there.
async fn read(store: &Store, segments: &[(String, u64)], mut sink: Sink<'_>) -> Result<bool, StorageError> {
    // what is gone or short is an answer; a store that cannot say is an error
    let gone = |error: StorageError| if error.kind == FaultKind::Damaged { Ok(false) } else { Err(error) };
    for (key, size) in segments {
        let mut stream = match store.read(key, 0..*size).await {
            Ok(stream) => stream,
            Err(error) => return gone(error),
        };
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return gone(error),
            };
            match &mut sink {
                Sink::Here(hasher) => hasher.update(&chunk),
                Sink::Elsewhere(sender) if sender.send(chunk).await.is_ok() => {}
                Sink::Elsewhere(_) => return Ok(false),
            }
        }
    }
    Ok(true)
}
