//! Reads objects: a small object in one trip to the blocking pool, a long one block by block with the next block read
//! ahead.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use opendal::raw::{RpRead, oio};
use opendal::{Buffer, BytesRange, Error, ErrorKind, Metadata, Result};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::task::JoinHandle;

use crate::priority::spawn_blocking;

use super::core::{Core, blocking, failure, lost_task, stat_metadata};

/// A reader of one object. Each read opens the file anew. A stream keeps its file open, so it reads the old bytes on if
/// the object is replaced meanwhile.
#[derive(Debug)]
pub(super) struct DiskReader {
    core: Arc<Core>,
    key: Arc<str>,
}

impl DiskReader {
    pub(super) fn new(core: Arc<Core>, key: &str) -> Self {
        Self { core, key: key.into() }
    }
}

impl oio::Read for DiskReader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (core, key) = (self.core.clone(), self.key.clone());
        let (metadata, stream) = blocking(move || DiskStream::open(&core, key, range)).await?;
        Ok((RpRead::new(metadata), Box::new(stream)))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        let (core, key) = (self.core.clone(), self.key.clone());
        let (metadata, bytes) = blocking(move || {
            let (file, metadata, range) = open(&core, &key, range)?;
            let bytes = read_exactly(&file, range).map_err(|error| failure("read", &key, error))?;
            Ok((metadata, bytes))
        })
        .await?;
        Ok((RpRead::new(metadata), Buffer::from(bytes)))
    }
}

/// A stream of a range of a file, with the next block being read ahead.
#[derive(Debug)]
struct DiskStream {
    key: Arc<str>,
    file: Arc<File>,
    /// The range for which no read has begun.
    left: Range<u64>,
    chunk: u64,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Ready(Bytes),
    Reading(JoinHandle<io::Result<Bytes>>),
    /// The stream is after its last block.
    End,
    /// A read has failed. The stream must not end here, since its end would pass for the object's end.
    Failed,
}

impl DiskStream {
    /// Opens the file and reads the first block in the same trip. For a small object, that block is the whole.
    fn open(core: &Core, key: Arc<str>, range: BytesRange) -> Result<(Metadata, Self)> {
        let (file, metadata, mut left) = open(core, &key, range)?;
        let chunk = core.options.chunk as u64;
        let first = cut(&mut left, chunk);
        let first = read_exactly(&file, first).map_err(|error| failure("read", &key, error))?;
        let stream = Self { key, file: Arc::new(file), left, chunk, next: Next::Ready(first) };
        Ok((metadata, stream))
    }

    fn read_ahead(&mut self) {
        let range = cut(&mut self.left, self.chunk);
        self.next = if range.is_empty() {
            Next::End
        } else {
            let file = self.file.clone();
            Next::Reading(spawn_blocking(move || read_exactly(&file, range)))
        };
    }
}

impl oio::ReadStream for DiskStream {
    async fn read(&mut self) -> Result<Buffer> {
        let block = match &mut self.next {
            Next::Ready(block) => std::mem::take(block),
            Next::Reading(task) => {
                // Awaited in place, so that dropping this future loses nothing.
                let read = task.await;
                self.next = Next::Failed;
                read.map_err(lost_task)?.map_err(|error| failure("read", &self.key, error))?
            }
            Next::End => return Ok(Buffer::new()),
            Next::Failed => {
                let message = format!("cannot read {:?} on: an earlier read of this stream failed", self.key);
                return Err(Error::new(ErrorKind::Unexpected, message));
            }
        };
        self.read_ahead();
        Ok(Buffer::from(block))
    }
}

/// Opens the object. Returns the file, its metadata, and the bytes that `range` means by opendal's rule for ranges past
/// the end.
fn open(core: &Core, key: &str, range: BytesRange) -> Result<(File, Metadata, Range<u64>)> {
    let failed = |error| core.lookup_failure("read", key, error);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&core.root, key, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(core.missing("read", key));
    }
    let metadata = stat_metadata(&stat);
    let range = range.to_content_range(usize::try_from(metadata.content_length()).unwrap_or(usize::MAX))?;
    Ok((file.into(), metadata, range.start as u64..range.end as u64))
}

/// Takes up to `length` bytes from the front of `range`, and returns the taken part.
fn cut(range: &mut Range<u64>, length: u64) -> Range<u64> {
    let middle = range.end.min(range.start.saturating_add(length));
    let front = range.start..middle;
    range.start = middle;
    front
}

/// Reads all of `range` into one allocation of that size. A file that ends earlier is an error.
fn read_exactly(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let offset = range.start + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "the file was cut short: it ends at byte {offset}, and byte {} was there before",
                        range.end - 1
                    ),
                ));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
}
