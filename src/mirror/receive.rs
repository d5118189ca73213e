//! Receives the bytes of an upstream, at its own pace.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::download::Download;
use crate::{
    telemetry::UpstreamBytes,
    upstream::{ByteStream, Reason},
};

/// The smallest number of bytes that a stream brings in the time of [`Options::pace`](super::Options::pace).
const LEAST: u64 = 30 * 1024;

/// The way in which the bytes of an upstream are received.
pub(super) struct Receiving {
    pub(super) received: UpstreamBytes,
    pub(super) download: Arc<Download>,
    /// The number of bytes that may wait for the store.
    pub(super) waiting: u64,
    /// The largest size of the blob, in bytes.
    pub(super) largest: u64,
    /// The time in which the stream must bring some bytes.
    pub(super) time: Duration,
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
    pub(super) fn begin(self, mut bytes: ByteStream, offset: u64, from: u64) -> ReceivingTask {
        let Self { received, download, waiting, largest, time } = self;
        let mut skip = from.saturating_sub(offset);
        ReceivingTask(tokio::spawn(async move {
            let (mut came, mut pace) = (offset, Pace::begin(time));
            while let Some(piece) = timeout(time, bytes.next()).await.map_err(|_| Reason::TooSlow)? {
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
            Ok(())
        }))
    }
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
