//! Writes an object from a stream of bytes in constant memory, whatever the length.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use opendal::{Buffer, Writer};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use super::{Result, StorageError, Store};

/// The length up to which one operation writes a whole object, for a backend that takes a stream as it comes.
const BLOCK: usize = 256 * 1024;
/// The bytes of each later write to such a backend. The backend gathers them into larger blocks of its own, and writes
/// beside the stream.
const PIECE: usize = 64 * 1024;
/// Pieces below this many bytes are copied together. A piece that is kept costs a handle and the whole network buffer
/// around it.
const SMALL: usize = 4096;
/// The number of multipart uploads that may gather a part while another part is being sent.
///
/// The backend holds two parts per upload, since it learns from the second that there are several. So each of these
/// uploads holds three parts, and each further upload holds two.
pub(super) const AHEAD: usize = 8;
/// The most parts of an object whose length is known. S3 takes at most 10,000 parts; the difference leaves room for
/// rounding.
const MAX_PARTS: u64 = 9_000;
/// The number of parts after which the part size doubles, each time that so many were sent.
const PARTS_PER_DOUBLING: u32 = 1_500;

/// A writer of one object. It gathers a block while the previous block is being sent, and holds little else.
///
/// The object becomes visible in [`ObjectWriter::close`]. A writer that is dropped earlier aborts its write in the
/// background.
pub struct ObjectWriter {
    store: Store,
    key: String,
    /// The time of [`super::Clock::asks`] when this began.
    began: u64,
    gathered: Vec<Bytes>,
    /// Bytes that were copied together. They follow those in `gathered`.
    small: BytesMut,
    gathered_length: usize,
    /// The bytes that the backend has been given.
    length: u64,
    /// The parts that the backend may still hold, oldest first. Their memory is used again: allocators do not give back
    /// megabytes that are allocated and freed all the time.
    parts: VecDeque<Bytes>,
    block: usize,
    blocks: u32,
    sink: Sink,
    /// The permission to gather a part while another part is being sent.
    ahead: Option<OwnedSemaphorePermit>,
}

/// The backend's writer.
enum Sink {
    /// There is no writer, before the first block and after the last.
    None,
    /// The writer waits for the next block.
    Idle(Box<Writer>),
    /// A task gives the writer a block.
    Sending(JoinHandle<(Box<Writer>, opendal::Result<()>)>),
}

impl ObjectWriter {
    pub(super) fn new(store: Store, key: String, length: Option<u64>) -> Self {
        let block = match store.inner.part_size {
            None => BLOCK,
            Some(least) => least.max(usize::try_from(length.unwrap_or(0) / MAX_PARTS + 1).unwrap_or(usize::MAX)),
        };
        Self {
            began: store.inner.clock.asks(),
            store,
            key,
            gathered: Vec::new(),
            small: BytesMut::new(),
            gathered_length: 0,
            length: 0,
            parts: VecDeque::new(),
            block,
            blocks: 0,
            sink: Sink::None,
            ahead: None,
        }
    }

    /// Takes the next bytes. Waits while two blocks are full.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.store.inner.part_size.is_some() {
            // Copy the bytes: a kept piece holds on to the whole network buffer around it, which may be twice as large.
            // A small block can afford this, and a part cannot.
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(self.block - self.small.len()));
                self.make_room(piece.len());
                self.small.extend_from_slice(&piece);
                self.gathered_length += piece.len();
                if self.small.len() == self.block {
                    self.send().await?;
                }
            }
            return Ok(());
        }
        self.gathered_length += bytes.len();
        if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.flush_small();
            self.gathered.push(bytes);
        }
        if self.gathered_length >= self.block { self.send().await } else { Ok(()) }
    }

    /// Writes the rest, and makes the object visible and durable.
    pub async fn close(mut self) -> Result<()> {
        if matches!(self.sink, Sink::None) {
            // the whole object fits into one block: write it in one operation
            let content = self.take();
            return self.store.put_buffer(&self.key, content).await;
        }
        if self.gathered_length > 0 {
            self.send().await?;
        }
        if let Some(mut writer) = self.sent().await? {
            let (store, key, began, length) = (self.store.clone(), self.key.clone(), self.began, self.length);
            // close in a task of its own: a request that is dropped here must not leave a multipart upload behind
            let closing = tokio::spawn(async move {
                let closed = store
                    .observe("put", &key, async {
                        // an earlier block may have given the object its time
                        writer.close().await.map(|written| store.wrote(&written, began))
                    })
                    .await;
                if closed.is_err() {
                    if store.has_whole(&key, length).await {
                        return Ok(());
                    }
                    abort(*writer).await;
                }
                closed
            });
            return closing.await.unwrap_or_else(|_| Err(self.broken_off()));
        }
        Ok(())
    }

    /// Makes room for `more` bytes in the buffer of a part. Takes the buffer of a part that was sent, if one is free.
    /// Otherwise the first part's buffer doubles, and a later part's grows to its full size at once.
    fn make_room(&mut self, more: usize) {
        let (length, capacity) = (self.small.len(), self.small.capacity());
        if capacity - length >= more {
            return;
        }
        if length == 0
            && let Some(part) = self.parts.pop_front()
        {
            match part.try_into_mut() {
                Ok(mut buffer) => {
                    buffer.clear();
                    self.small = buffer;
                }
                Err(part) => self.parts.push_front(part),
            }
        }
        let wanted = if self.blocks > 0 { self.block } else { (2 * capacity).max(length + more).min(self.block) };
        self.small.reserve(wanted - length);
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            // take the whole buffer: a remainder would keep its memory, which is used again as a whole
            self.gathered.push(std::mem::take(&mut self.small).freeze());
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
        self.length += content.len() as u64;
        self.blocks += 1;
        if self.store.inner.part_size.is_none() {
            self.block = PIECE;
            let result = writer.write(content).await;
            self.sink = Sink::Idle(self.taken(writer, result).await?);
            return Ok(());
        }
        self.parts.extend(content.clone());
        if self.blocks.is_multiple_of(PARTS_PER_DOUBLING) {
            self.block = self.block.saturating_mul(2);
        }
        self.sink = Sink::Sending(tokio::spawn(async move {
            let result = writer.write(content).await;
            (writer, result)
        }));
        if self.ahead.is_none() {
            self.ahead = Arc::clone(&self.store.inner.ahead).try_acquire_owned().ok();
        }
        if self.ahead.is_none() {
            // many uploads write at once and keep the network busy, so gathering ahead would only cost memory
            let writer = self.sent().await?;
            self.sink = writer.map_or(Sink::None, Sink::Idle);
        }
        Ok(())
    }

    /// Waits until the block in flight was sent, and returns the writer, if there is one yet.
    async fn sent(&mut self) -> Result<Option<Box<Writer>>> {
        let (writer, result) = match &mut self.sink {
            Sink::None => return Ok(None),
            Sink::Idle(_) => {
                let Sink::Idle(writer) = std::mem::replace(&mut self.sink, Sink::None) else { return Ok(None) };
                return Ok(Some(writer));
            }
            Sink::Sending(sending) => {
                // awaited in place, so that dropping this future leaves the task for the abort in `drop`
                let joined = sending.await;
                self.sink = Sink::None;
                joined.map_err(|_| self.broken_off())?
            }
        };
        Ok(Some(self.taken(writer, result).await?))
    }

    /// Returns the writer if it took its block. Otherwise aborts the write and returns the error.
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

impl Store {
    /// Returns true if a bucket has an object of this length, although the end of its write seemed to fail.
    ///
    /// A server that has carried out the end of a multipart upload does not know that upload any more. So a client that
    /// lost the answer, and asks again, is told of an error. The key belongs to one attempt, and an object in parts
    /// becomes visible as a whole. In a directory, a visible object may not be durable yet.
    async fn has_whole(&self, key: &str, length: u64) -> bool {
        self.inner.part_size.is_some() && matches!(self.size(key).await, Ok(Some(size)) if size == length)
    }
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter").field("key", &self.key).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        // opendal leaves the multipart upload of a dropped writer behind, so abort it
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        match std::mem::replace(&mut self.sink, Sink::None) {
            Sink::None => {}
            Sink::Idle(writer) => {
                runtime.spawn(abort(*writer));
            }
            Sink::Sending(sending) => {
                runtime.spawn(async move {
                    if let Ok((writer, _)) = sending.await {
                        abort(*writer).await;
                    }
                });
            }
        }
    }
}

async fn abort(mut writer: Writer) {
    if let Err(error) = writer.abort().await {
        tracing::debug!(%error, "what was written of an object could not be taken back; scrub will");
    }
}
