//! Receives the bytes of an upstream, at its own pace.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::Fuse};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, timeout},
};

use super::download::Download;
use crate::{
    telemetry::UpstreamBytes,
    upstream::{ByteStream, Reason},
};

/// The smallest number of bytes that a stream brings in the time of [`Options::pace`](super::Options::pace).
const LEAST: u64 = 30 * 1024;

/// The number of bytes that are gathered before readers are told, as far as they are there.
const GATHERED: usize = 64 * 1024;

/// The way in which the bytes of an upstream are received.
pub(super) struct Receiving {
    pub(super) received: UpstreamBytes,
    pub(super) download: Arc<Download>,
    /// The number of bytes that may wait for the store.
    pub(super) waiting: u64,
    /// The largest size of the blob, in bytes.
    pub(super) largest: u64,
    /// The size of the blob in bytes, if it is known.
    pub(super) size: Option<u64>,
    /// The time in which the stream must bring some bytes.
    pub(super) time: Duration,
    /// The longest time that the next bytes may take.
    pub(super) silence: Duration,
}

/// The task that receives the bytes of an upstream. It is told to end when this is dropped.
pub(super) struct ReceivingTask(pub(super) JoinHandle<Result<(), Reason>>);

impl Drop for ReceivingTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReceivingTask {
    /// Ends the task. It adds no byte to its download after this.
    pub(super) async fn stop(mut self) {
        self.0.abort();
        // it was told to end, or had ended: the outcome says nothing more
        let _ = (&mut self.0).await;
    }
}

impl Receiving {
    /// Begins to receive. The stream begins at `offset`, and the bytes before `from` are not needed.
    pub(super) fn begin(self, bytes: ByteStream, offset: u64, from: u64) -> ReceivingTask {
        let Self { received, download, waiting, largest, size, time, silence } = self;
        let (wait, late) = if silence < time { (silence, Reason::Silent(silence)) } else { (time, Reason::TooSlow) };
        let mut skip = from.saturating_sub(offset);
        ReceivingTask(tokio::spawn(async move {
            let (mut came, mut pace) = (offset, Pace::begin(time));
            let mut bytes = Gathering { bytes: bytes.fuse(), error: None };
            while let Some(piece) = timeout(wait, bytes.next()).await.map_err(|_| late.clone())? {
                let mut piece = piece?;
                let length = piece.len() as u64;
                came += length;
                received.add(length);
                if came > largest {
                    return Err(Reason::TooLarge(largest));
                }
                let skipped = skip.min(length);
                skip -= skipped;
                let piece = piece.split_off(usize::try_from(skipped).unwrap_or(piece.len()));
                pace.moved(length)?;
                if !piece.is_empty() {
                    download.receive(piece);
                    download.has_room(waiting).await;
                }
            }
            if size.is_some_and(|size| came < size) { Err(Reason::CutShort) } else { Ok(()) }
        }))
    }
}

/// The pieces of a stream, small ones together. Each piece wakes every reader.
struct Gathering {
    bytes: Fuse<ByteStream>,
    /// The error that comes after a piece.
    error: Option<Reason>,
}

impl Gathering {
    /// Waits for the next bytes, and adds those that are there as well.
    async fn next(&mut self) -> Option<Result<Bytes, Reason>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let first = match self.bytes.next().await? {
            Ok(first) if first.len() < GATHERED => first,
            whole => return Some(whole),
        };
        let (mut length, mut pieces) = (first.len(), vec![first]);
        let mut has_yielded = false;
        while length < GATHERED {
            match self.bytes.next().now_or_never() {
                Some(Some(Ok(piece))) => {
                    length += piece.len();
                    pieces.push(piece);
                    has_yielded = false;
                }
                Some(Some(Err(error))) => {
                    self.error = Some(error);
                    break;
                }
                // the connection may have read more by now
                None if !has_yielded => {
                    has_yielded = true;
                    yield_now().await;
                }
                Some(None) | None => break,
            }
        }
        Some(Ok(together(pieces)))
    }
}

/// Joins pieces.
fn together(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    pieces.concat().into()
}

/// The pace of a stream.
struct Pace {
    time: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn begin(time: Duration) -> Self {
        Self { time, since: Instant::now(), bytes: 0 }
    }

    /// Notes bytes.
    ///
    /// # Errors
    /// [`Reason::TooSlow`] if they are fewer than [`LEAST`] in that time.
    fn moved(&mut self, bytes: u64) -> Result<(), Reason> {
        self.bytes += bytes;
        if self.since.elapsed() < self.time {
            return Ok(());
        }
        if self.bytes < LEAST {
            return Err(Reason::TooSlow);
        }
        *self = Self::begin(self.time);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::{channel::mpsc, stream};

    use super::*;

    fn pieces(length: usize, count: usize) -> Vec<Result<Bytes, Reason>> {
        (0..count).map(|number| Ok(Bytes::from(vec![u8::try_from(number % 251).unwrap(); length]))).collect()
    }

    #[tokio::test]
    async fn small_pieces_that_are_there_come_together_and_an_error_comes_last() {
        let all = pieces(1000, 500).into_iter().chain([Err(Reason::TooSlow)]).chain(pieces(1, 1));
        let mut gathering = Gathering { bytes: stream::iter(all).boxed().fuse(), error: None };
        let (mut whole, mut count) = (Vec::new(), 0);
        let error = loop {
            match gathering.next().await.unwrap() {
                Ok(bytes) => whole.extend_from_slice(&bytes),
                Err(error) => break error,
            }
            count += 1;
        };
        let expected: Vec<u8> = pieces(1000, 500).into_iter().flat_map(Result::unwrap).collect();
        assert!(whole == expected, "{} bytes", whole.len());
        assert_eq!((count, error), (8, Reason::TooSlow));
    }

    #[tokio::test]
    async fn a_piece_does_not_wait_for_the_next_one() {
        let (more, bytes) = mpsc::unbounded();
        let mut gathering = Gathering { bytes: bytes.boxed().fuse(), error: None };
        for length in [10, 20] {
            more.unbounded_send(pieces(length, 1).remove(0)).unwrap();
            assert_eq!(gathering.next().await.unwrap().unwrap().len(), length);
        }
        drop(more);
        assert!(gathering.next().await.is_none());
    }
}
