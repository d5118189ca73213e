//! Reading an object: small ones in one trip to the blocking pool, long ones block by block with the next on its way.

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

/// Reads one object. Each read opens it anew, and a stream keeps what it has opened: an object that is replaced meanwhile is read
/// on as it was.
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

/// The range of a file that is still to come, with the next block on its way.
#[derive(Debug)]
struct DiskStream {
    key: Arc<str>,
    file: Arc<File>,
    /// The bytes without a read so far.
    left: Range<u64>,
    chunk: u64,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Ready(Bytes),
    Reading(JoinHandle<io::Result<Bytes>>),
    /// After the last block.
    End,
    /// After a failure: the end must not be mistaken for the object's.
    Failed,
}

impl DiskStream {
    /// Opens the file and reads the first block, which is all of a small object, in the same trip.
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
                // Awaited in place, so that being cancelled here loses nothing.
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

/// Opens the object and says which of its bytes the range means, by opendal's own rule for ranges past the end.
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

/// Takes up to `length` from the front of `range`.
fn cut(range: &mut Range<u64>, length: u64) -> Range<u64> {
    let middle = range.end.min(range.start.saturating_add(length));
    let front = range.start..middle;
    range.start = middle;
    front
}

/// Reads all of `range` into one allocation of that size. A file that ends before is an error.
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
