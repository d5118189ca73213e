//! Writing an object whose bytes come one after the other: constant memory, whatever its length.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use opendal::{Buffer, Writer};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use super::{Result, StorageError, Store};

/// Bytes up to which an object is written in one operation by a backend that takes a stream as it comes.
const BLOCK: usize = 256 * 1024;
/// Bytes gathered before they go to such a backend after that: it makes its own larger blocks of them, and works beside the stream.
const PIECE: usize = 64 * 1024;
/// Pieces below this are copied together: each that is kept costs its handle and the network buffer that it is part of.
const SMALL: usize = 4096;
/// Multipart uploads that may gather a part while another is on its way, at a time. A backend that takes parts holds two itself,
/// since it learns from the second that there are several: three for each of these, two for each beyond.
pub(super) const AHEAD: usize = 8;
/// S3 takes at most 10,000 parts; a little less leaves room for what was rounded.
const MAX_PARTS: u64 = 9_000;
/// Parts after which the part size doubles where the length is not known.
const PARTS_PER_DOUBLING: u32 = 1_500;

/// Writes one object. One block is on its way while the next is gathered, here or in the backend, and little else is held.
///
/// Nothing is visible before [`ObjectWriter::close`]; what is dropped before is taken back in the background.
pub struct ObjectWriter {
    store: Store,
    key: String,
    gathered: Vec<Bytes>,
    /// Pieces that are not kept as they came, copied together; they belong behind `gathered`.
    small: BytesMut,
    gathered_length: usize,
    /// Parts that the backend may still hold, oldest first: their memory is used again, for an allocator does not give back what is
    /// taken and freed in pieces of megabytes all the time.
    parts: VecDeque<Bytes>,
    block: usize,
    blocks: u32,
    sink: Sink,
    /// The right to gather a part while another is on its way.
    ahead: Option<OwnedSemaphorePermit>,
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
            parts: VecDeque::new(),
            block,
            blocks: 0,
            sink: Sink::None,
            ahead: None,
        }
    }

    /// Takes the next bytes; waits while two blocks are full.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.store.inner.part_size.is_some() {
            // Kept as they came, pieces may hold twice their bytes: each keeps the whole network buffer that it is a part of.
            // That does not matter where blocks are small, and a part is not.
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
                let closed = store
                    .observe("put", &key, async { writer.close().await.map(|written| store.wrote(&written)) })
                    .await;
                if closed.is_err() {
                    abort(*writer).await;
                }
                closed
            });
            return closing.await.unwrap_or_else(|_| Err(self.broken_off()));
        }
        Ok(())
    }

    /// Grows the buffer for a part: by doubling where it is the first, otherwise at once, or by taking that of one that is written.
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
            // nothing is left of it to write into: that would keep it, and its memory is used again as a whole
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
            // many write at once, so that the network is busy in any case: what this one would gather meanwhile is memory
            let writer = self.sent().await?;
            self.sink = writer.map_or(Sink::None, Sink::Idle);
        }
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
        // a dropped opendal writer leaves its multipart upload behind
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
