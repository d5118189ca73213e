//! The shared store as opendal sees it: one operator for each process.

use std::{collections::VecDeque, sync::Arc};

use opendal::{
    Buffer, Builder, BytesRange, Capability, Error, ErrorKind, Metadata, MetadataBuilder, OperationContext, Operator,
    Result,
    raw::{
        OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign,
        RpRead, RpRename, RpStat, Service, ServiceInfo, Timestamp, oio,
    },
};

use super::bucket::{Bucket, Object, is_clock};

/// How one process reaches the store.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) bucket: Arc<Bucket>,
    /// Which process it is; nobody in particular is never held up.
    pub(super) process: Option<usize>,
    /// How many keys a listing sees at one moment.
    pub(super) page: usize,
}

impl Way {
    pub(super) fn operator(self) -> Operator {
        Operator::new(Opening(Some(self))).expect("a map can be opened")
    }

    async fn gate(&self, word: &str, key: &str) {
        let process = self.process.filter(|_| !is_clock(key));
        self.bucket.gate(process, || format!("{word} {key}")).await;
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
        self.gate("stat", path).await;
        let object = found(self.bucket.get(self.process, path))?;
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
            prefix: path.trim_start_matches('/').to_owned(),
            after: options.start_after().map(str::to_owned),
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

fn found(object: Option<Object>) -> Result<Object> {
    object.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such object"))
}

pub(super) struct MapReader {
    way: Way,
    key: String,
}

impl MapReader {
    async fn bytes(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        self.way.gate("read", &self.key).await;
        let object = found(self.way.bucket.get(self.way.process, &self.key))?;
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
        self.way.gate(if self.new { "create" } else { "put" }, &self.key).await;
        let content: Buffer = std::mem::take(&mut self.pieces).into_iter().flatten().collect();
        let content = content.to_bytes();
        let size = content.len() as u64;
        if self.way.bucket.put(self.way.process, &self.key, content, self.new) {
            Ok(metadata(size, 0))
        } else {
            Err(Error::new(ErrorKind::ConditionNotMatch, "there is such an object"))
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
        self.0.gate("delete", &path).await;
        self.0.bucket.delete(self.0.process, &path);
        Ok(())
    }
}

pub(super) struct MapLister {
    way: Way,
    prefix: String,
    after: Option<String>,
    limit: usize,
    ready: VecDeque<(String, u64, u64)>,
    ended: bool,
}

impl oio::List for MapLister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        if self.ready.is_empty() && !self.ended {
            self.way.gate("list", &self.prefix).await;
            let after = self.after.as_deref();
            let (found, more) = self.way.bucket.list(self.way.process, &self.prefix, after, self.limit);
            self.ended = !more;
            self.after = found.last().map(|(key, ..)| key.clone()).or(self.after.take());
            self.ready = found.into();
        }
        let next = self.ready.pop_front();
        Ok(next.map(|(key, size, modified)| oio::Entry::new(&key, metadata(size, modified))))
    }
}
