//! Implements opendal's operations on a directory.

use std::sync::Arc;

use opendal::raw::{
    OpCopy, OpCreateDir, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign, RpRename,
    RpStat, Service, ServiceInfo,
};
use opendal::{Builder, Capability, Error, ErrorKind, MetadataBuilder, OperationContext, Result};
use rustix::fs::{AtFlags, FileType};

use super::core::{Core, blocking, stat_metadata};
use super::delete::DiskDeleter;
use super::key;
use super::list::DiskLister;
use super::read::DiskReader;
use super::write::DiskWriter;

/// A builder of the service for opendal's `Operator::new`, which also puts opendal's own checks around the service.
#[derive(Debug, Default)]
pub(super) struct DiskBuilder(Option<Arc<Core>>);

impl DiskBuilder {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(Some(core))
    }
}

impl Builder for DiskBuilder {
    type Config = ();

    fn build(self) -> Result<impl Service> {
        let core = self.0.ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, "a directory store needs a directory"))?;
        let info = ServiceInfo::new("disk", core.path.to_string_lossy(), "");
        Ok(DiskService { core, info })
    }
}

#[derive(Clone, Debug)]
struct DiskService {
    core: Arc<Core>,
    info: ServiceInfo,
}

impl Service for DiskService {
    type Reader = DiskReader;
    type Writer = DiskWriter;
    type Lister = DiskLister;
    type Deleter = DiskDeleter;
    type Copier = ();
    type Composer = ();

    fn info(&self) -> ServiceInfo {
        self.info.clone()
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
        let directory = path.ends_with('/');
        let key = path.strip_suffix('/').unwrap_or(path).to_owned();
        if key.is_empty() {
            return Ok(RpStat::new(MetadataBuilder::dir().build()));
        }
        key::check(&key)?;
        let core = self.core.clone();
        blocking(move || {
            let stat = rustix::fs::statat(&core.root, &*key, AtFlags::empty())
                .map_err(|errno| core.lookup_failure("stat", &key, errno.into()))?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() != directory {
                return Err(core.missing("stat", &key));
            }
            let metadata = if directory { MetadataBuilder::dir().build() } else { stat_metadata(&stat) };
            Ok(RpStat::new(metadata))
        })
        .await
    }

    fn read(&self, _: &OperationContext, path: &str, _: OpRead) -> Result<DiskReader> {
        key::check(path)?;
        Ok(DiskReader::new(self.core.clone(), path))
    }

    fn write(&self, _: &OperationContext, path: &str, options: OpWrite) -> Result<DiskWriter> {
        key::check(path)?;
        Ok(DiskWriter::new(self.core.clone(), path, options.if_not_exists()))
    }

    fn delete(&self, _: &OperationContext) -> Result<DiskDeleter> {
        Ok(DiskDeleter::new(self.core.clone()))
    }

    fn list(&self, _: &OperationContext, path: &str, options: OpList) -> Result<DiskLister> {
        DiskLister::new(self.core.clone(), path, &options)
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

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "a directory store does not do this")
}
