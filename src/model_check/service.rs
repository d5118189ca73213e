//! The shared store as opendal sees it: one operator for each process.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use opendal::{
    Buffer, Builder, BytesRange, Capability, Error, ErrorKind, Metadata, MetadataBuilder, OperationContext, Operator,
    Result,
    raw::{
        OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign,
        RpRead, RpRename, RpStat, Service, ServiceInfo, Timestamp, oio,
    },
};

use super::bucket::{Answer, Bucket, Listed, Object, Op};
use crate::registry::Clock;

/// The access of one process to the store.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) bucket: Arc<Bucket>,
    /// The process, or none. Operations of no process never wait at the gate.
    pub(super) process: Option<usize>,
    /// The number of keys that a listing sees at one moment.
    pub(super) page: usize,
    /// True for a bucket, each of whose answers tells the store's time. In a directory, a file that was just written
    /// tells that time.
    pub(super) dated: bool,
    /// True if this process gave up on a write or delete.
    pub(super) gave_up: Arc<AtomicBool>,
}

impl Way {
    pub(super) fn operator(self) -> Operator {
        Operator::new(Opening(Some(self))).expect("a map can be opened")
    }

    async fn ask(&self, op: Op) -> Answer {
        let answer = self.bucket.ask(self.process, op).await;
        if self.dated && !matches!(answer, Answer::GivenUp) {
            self.clock().store_said(self.bucket.clock.peek_ms());
        }
        answer
    }

    /// Returns the clock of the process.
    pub(super) fn clock(&self) -> &Clock {
        self.bucket.clock_of(self.process)
    }

    /// Returns the error of an operation that this process has given up.
    fn no_answer(&self) -> Error {
        self.gave_up.store(true, Ordering::SeqCst);
        Error::new(ErrorKind::Unexpected, "the store does not answer")
    }

    async fn get(&self, op: Op) -> Result<Object> {
        match self.ask(op).await {
            Answer::Found(Some(object)) => Ok(object),
            _ => Err(Error::new(ErrorKind::NotFound, "there is no such object")),
        }
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("process", &self.process).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Opening(Option<Way>);

impl Builder for Opening {
    type Config = ();

    fn build(self) -> Result<impl Service> {
        self.0.ok_or_else(unsupported)
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "a map does not do this")
}

fn metadata(size: u64, modified: u64) -> Metadata {
    let mut metadata = MetadataBuilder::file(size);
    if let Ok(modified) = Timestamp::from_millisecond(i64::try_from(modified).unwrap_or(0)) {
        metadata.last_modified(modified);
    }
    metadata.build()
}

impl Service for Way {
    type Reader = MapReader;
    type Writer = MapWriter;
    type Lister = MapLister;
    type Deleter = oio::OneShotDeleter<MapDeleter>;
    type Copier = ();
    type Composer = ();

    fn info(&self) -> ServiceInfo {
        ServiceInfo::new("map", "", "")
    }

    fn capability(&self) -> Capability {
        Capability {
            read: true,
            read_with_suffix: true,
            write: true,
            write_can_empty: true,
            write_can_multi: true,
            write_with_if_not_exists: true,
            stat: true,
            list: true,
            list_with_recursive: true,
            list_with_start_after: true,
            list_with_limit: true,
            delete: true,
            ..Capability::default()
        }
    }

    async fn create_dir(&self, _: &OperationContext, _: &str, _: OpCreateDir) -> Result<RpCreateDir> {
        Err(unsupported())
    }

    async fn stat(&self, _: &OperationContext, path: &str, _: OpStat) -> Result<RpStat> {
        let object = self.get(Op::Stat(path.into())).await?;
        Ok(RpStat::new(metadata(object.content.len() as u64, object.modified)))
    }

    fn read(&self, _: &OperationContext, path: &str, _: OpRead) -> Result<MapReader> {
        Ok(MapReader { way: self.clone(), key: path.to_owned() })
    }

    fn write(&self, _: &OperationContext, path: &str, options: OpWrite) -> Result<MapWriter> {
        let (way, key, new) = (self.clone(), path.to_owned(), options.if_not_exists());
        Ok(MapWriter { way, key, new, pieces: Vec::new() })
    }

    fn delete(&self, _: &OperationContext) -> Result<oio::OneShotDeleter<MapDeleter>> {
        Ok(oio::OneShotDeleter::new(MapDeleter(self.clone())))
    }

    fn list(&self, _: &OperationContext, path: &str, options: OpList) -> Result<MapLister> {
        Ok(MapLister {
            way: self.clone(),
            prefix: path.trim_start_matches('/').into(),
            after: options.start_after().map(Arc::from),
            limit: options.limit().unwrap_or(1000).min(self.page),
            ready: VecDeque::new(),
            ended: false,
        })
    }

    fn copy(&self, _: &OperationContext, _: &str, _: &str, _: OpCopy) -> Result<()> {
        Err(unsupported())
    }

    async fn rename(&self, _: &OperationContext, _: &str, _: &str, _: OpRename) -> Result<RpRename> {
        Err(unsupported())
    }

    async fn presign(&self, _: &OperationContext, _: &str, _: OpPresign) -> Result<RpPresign> {
        Err(unsupported())
    }
}

pub(super) struct MapReader {
    way: Way,
    key: String,
}

impl MapReader {
    async fn bytes(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        let object = self.way.get(Op::Read(self.key.as_str().into())).await?;
        let range = range.to_content_range(object.content.len())?;
        let said = metadata(object.content.len() as u64, object.modified);
        Ok((RpRead::new(said), Buffer::from(object.content.slice(range))))
    }
}

impl oio::Read for MapReader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (said, bytes) = self.bytes(range).await?;
        Ok((said, Box::new(bytes)))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        self.bytes(range).await
    }
}

pub(super) struct MapWriter {
    way: Way,
    key: String,
    new: bool,
    pieces: Vec<Buffer>,
}

impl oio::Write for MapWriter {
    async fn write(&mut self, piece: Buffer) -> Result<()> {
        self.pieces.push(piece);
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        let content: Buffer = std::mem::take(&mut self.pieces).into_iter().flatten().collect();
        let content = content.to_bytes();
        let size = content.len() as u64;
        let op = Op::Put { key: self.key.as_str().into(), content, new: self.new };
        match self.way.ask(op).await {
            Answer::Written(true) => {
                Ok(metadata(size, if self.way.dated { 0 } else { self.way.bucket.clock.peek_ms() }))
            }
            Answer::GivenUp => Err(self.way.no_answer()),
            _ => Err(Error::new(ErrorKind::ConditionNotMatch, "there is such an object")),
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.pieces.clear();
        Ok(())
    }
}

pub(super) struct MapDeleter(Way);

impl oio::OneShotDelete for MapDeleter {
    async fn delete_once(&self, path: String, _: OpDelete) -> Result<()> {
        match self.0.ask(Op::Delete(path.into())).await {
            Answer::GivenUp => Err(self.0.no_answer()),
            _ => Ok(()),
        }
    }
}

pub(super) struct MapLister {
    way: Way,
    prefix: Arc<str>,
    after: Option<Arc<str>>,
    limit: usize,
    ready: VecDeque<(Arc<str>, u64, u64)>,
    ended: bool,
}

impl oio::List for MapLister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        if self.ready.is_empty() && !self.ended {
            let op = Op::List { prefix: Arc::clone(&self.prefix), after: self.after.clone(), limit: self.limit };
            let (found, more): (Listed, bool) = match self.way.ask(op).await {
                Answer::Listed(found, more) => (found, more),
                _ => (Listed::new(), false),
            };
            self.ended = !more;
            self.after = found.last().map(|(key, ..)| Arc::clone(key)).or(self.after.take());
            self.ready = found.into();
        }
        let next = self.ready.pop_front();
        Ok(next.map(|(key, size, modified)| oio::Entry::new(&key, metadata(size, modified))))
    }
}
