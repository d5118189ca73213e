//! Deletes objects. Directories that become empty stay.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use opendal::Result;
use opendal::raw::{OpDelete, oio};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::core::{Core, blocking, failure};
use super::{key, sync};

/// The most objects that one trip to the blocking pool deletes, with one sync for each directory.
const BATCH: usize = 256;

/// A deleter of objects. It deletes them when it is closed, and earlier whenever a batch is full.
#[derive(Debug)]
pub(super) struct DiskDeleter {
    core: Arc<Core>,
    keys: Vec<String>,
}

impl DiskDeleter {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, keys: Vec::new() }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        // Deleting twice does no harm. So the keys stay until the deletion worked, and a failed flush can be repeated.
        let (core, keys) = (self.core.clone(), self.keys.clone());
        blocking(move || delete(&core, &keys)).await?;
        self.keys.clear();
        Ok(())
    }
}

impl oio::Delete for DiskDeleter {
    async fn delete(&mut self, path: &str, _: OpDelete) -> Result<()> {
        // As in a bucket, no directory can be deleted.
        if let Some(directory) = path.strip_suffix('/') {
            return if directory.is_empty() { Ok(()) } else { key::check(directory) };
        }
        key::check(path)?;
        self.keys.push(path.to_owned());
        if self.keys.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<()> {
        self.flush().await
    }
}

fn delete(core: &Core, keys: &[String]) -> Result<()> {
    let mut directories = BTreeSet::new();
    for key in keys {
        match rustix::fs::unlinkat(&core.root, &**key, AtFlags::empty()) {
            Ok(()) => {}
            // Somebody may have deleted the object a moment ago. The caller learns that it is gone for good, so sync
            // that deletion too.
            Err(Errno::NOENT) => core.check_root().map_err(|error| failure("delete", key, error))?,
            Err(Errno::NOTDIR | Errno::ISDIR) => continue,
            Err(errno) => return Err(failure("delete", key, errno.into())),
        }
        directories.insert(key::parent(key));
    }
    for directory in directories {
        let failed = |error: io::Error| failure("delete from", directory, error);
        sync::sync_removals(core, directory).map_err(failed)?;
    }
    Ok(())
}
