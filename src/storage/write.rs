//! Writing an object whose bytes come one after the other: constant memory, whatever its length.

use bytes::{Bytes, BytesMut};
use opendal::{Buffer, Writer};
use tokio::task::JoinHandle;

use super::{Result, StorageError, Store};

/// Bytes up to which an object is written in one operation by a backend that takes a stream as it comes.
const BLOCK: usize = 256 * 1024;
/// Bytes gathered before they go to such a backend after that: it makes its own larger blocks of them, and works beside the stream.
const PIECE: usize = 64 * 1024;
/// Pieces below this are copied together: each that is kept costs its handle and the network buffer that it is part of.
const SMALL: usize = 4096;
/// S3 takes at most 10,000 parts; a little less leaves room for what was rounded.
const MAX_PARTS: u64 = 9_000;
/// Parts after which the part size doubles where the length is not known.
const PARTS_PER_DOUBLING: u32 = 1_500;

/// Writes one object. One block is on its way while the next is gathered, here or in the backend, so two blocks are held at most,
/// and little else.
///
/// Nothing is visible before [`ObjectWriter::close`]; what is dropped before is taken back in the background.
pub struct ObjectWriter {
    store: Store,
    key: String,
    gathered: Vec<Bytes>,
    /// Pieces that are not kept as they came, copied together; they belong behind `gathered`.
    small: BytesMut,
    gathered_length: usize,
    block: usize,
    blocks: u32,
    sink: Sink,
}

/// The backend's writer.
enum Sink {
    /// There is none, yet or any more.
    None,
    /// It waits for the next bytes.
    Idle(Box<Writer>),
    /// It takes a block, on its own.
    Sending(JoinHandle<(Box<Writer>, opendal::Result<()>)>),
}

impl ObjectWriter {
    pub(super) fn new(store: Store, key: String, length: Option<u64>) -> Self {
        let block = match store.inner.part_size {
            None => BLOCK,
            Some(least) => least.max(usize::try_from(length.unwrap_or(0) / MAX_PARTS + 1).unwrap_or(usize::MAX)),
        };
        Self {
            store,
            key,
            gathered: Vec::new(),
            small: BytesMut::new(),
            gathered_length: 0,
            block,
            blocks: 0,
            sink: Sink::None,
        }
    }

    /// Takes the next bytes; waits while two blocks are full.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.gathered_length += bytes.len();
        if self.store.inner.part_size.is_some() {
            // Kept as they came, pieces may hold twice their bytes: each keeps the whole network buffer that it is a part of.
            // That does not matter where blocks are small, and a part is not.
            self.make_room(bytes.len());
            self.small.extend_from_slice(&bytes);
        } else if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.flush_small();
            self.gathered.push(bytes);
        }
        if self.gathered_length >= self.block { self.send().await } else { Ok(()) }
    }

    /// Makes the object visible and durable.
    pub async fn close(mut self) -> Result<()> {
        if matches!(self.sink, Sink::None) {
            // it all fits into one block: one operation
            let content = self.take();
            return self.store.put_buffer(&self.key, content).await;
        }
        if self.gathered_length > 0 {
            self.send().await?;
        }
        if let Some(mut writer) = self.sent().await? {
            let (store, key) = (self.store.clone(), self.key.clone());
            // on its own: a request that is dropped here must not leave a multipart upload behind
            let closing = tokio::spawn(async move {
                let closed = store.observe("put", &key, async { writer.close().await.map(|_| ()) }).await;
                if closed.is_err() {
                    abort(*writer).await;
                }
                closed
            });
            return closing.await.unwrap_or_else(|_| Err(self.broken_off()));
        }
        Ok(())
    }

    /// Grows the buffer for a part, by doubling and never much beyond the part.
    fn make_room(&mut self, more: usize) {
        let (length, capacity) = (self.small.len(), self.small.capacity());
        if capacity - length < more {
            let wanted = (2 * capacity).clamp(SMALL, self.block).max(length + more);
            self.small.reserve(wanted - length);
        }
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.gathered.push(self.small.split().freeze());
        }
    }

    fn take(&mut self) -> Buffer {
        self.flush_small();
        self.gathered_length = 0;
        std::mem::take(&mut self.gathered).into()
    }

    async fn send(&mut self) -> Result<()> {
        let mut writer = match self.sent().await? {
            Some(writer) => writer,
            None => Box::new(self.store.inner.operator.writer(&self.key).await.map_err(|error| self.failed(error))?),
        };
        let content = self.take();
        self.blocks += 1;
        if self.store.inner.part_size.is_none() {
            self.block = PIECE;
            let result = writer.write(content).await;
            self.sink = Sink::Idle(self.taken(writer, result).await?);
            return Ok(());
        }
        if self.blocks.is_multiple_of(PARTS_PER_DOUBLING) {
            self.block = self.block.saturating_mul(2);
        }
        self.sink = Sink::Sending(tokio::spawn(async move {
            let result = writer.write(content).await;
            (writer, result)
        }));
        Ok(())
    }

    /// Waits for the block that is on its way; the writer, if there is one yet.
    async fn sent(&mut self) -> Result<Option<Box<Writer>>> {
        let (writer, result) = match &mut self.sink {
            Sink::None => return Ok(None),
            Sink::Idle(_) => {
                let Sink::Idle(writer) = std::mem::replace(&mut self.sink, Sink::None) else { return Ok(None) };
                return Ok(Some(writer));
            }
            Sink::Sending(sending) => {
                // awaited in place, so that what is dropped here is still taken back
                let joined = sending.await;
                self.sink = Sink::None;
                joined.map_err(|_| self.broken_off())?
            }
        };
        Ok(Some(self.taken(writer, result).await?))
    }

    /// The writer, if it took its block; otherwise what it took before is taken back.
    async fn taken(&self, writer: Box<Writer>, result: opendal::Result<()>) -> Result<Box<Writer>> {
        match result {
            Ok(()) => Ok(writer),
            Err(error) => {
                abort(*writer).await;
                Err(self.failed(error))
            }
        }
    }

    fn broken_off(&self) -> StorageError {
        self.failed(opendal::Error::new(opendal::ErrorKind::Unexpected, "writing was broken off"))
    }

    fn failed(&self, error: opendal::Error) -> StorageError {
        let error = StorageError::from_opendal("put", &self.key, error);
        self.store.inner.metrics.record_storage("put", std::time::Duration::ZERO, Some(error.kind.as_str()));
        error
    }
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter").field("key", &self.key).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        // a dropped opendal writer leaves its multipart upload behind; one of a directory, idle, takes back what it took itself
        let sink = std::mem::replace(&mut self.sink, Sink::None);
        if let (Sink::Sending(sending), Ok(runtime)) = (sink, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Ok((writer, _)) = sending.await {
                    abort(*writer).await;
                }
            });
        }
    }
}

async fn abort(mut writer: Writer) {
    if let Err(error) = writer.abort().await {
        tracing::debug!(%error, "what was written of an object could not be taken back; scrub will");
    }
}
