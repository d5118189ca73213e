//! Support for the tests of the directory service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use opendal::options::ListOptions;
use opendal::{Operator, Result};
use simple_registry::storage::disk::{DiskOptions, Stats, operator_with_stats};

use crate::support::wait_for_no_temporaries;

/// A directory store in a directory of its own, removed with it.
pub(crate) struct Disk {
    pub(crate) operator: Operator,
    pub(crate) stats: Arc<Stats>,
    directory: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new(options: DiskOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (operator, stats) = operator_with_stats(&directory.path().join("root"), options).unwrap();
        Self { operator, stats, directory }
    }

    /// Opens a store without syncs, for tests that do not look at them.
    pub(crate) fn quick() -> Self {
        Self::new(DiskOptions { durable: false, ..DiskOptions::default() })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Returns the number of temporary files.
    pub(crate) fn temporaries(&self) -> usize {
        std::fs::read_dir(self.root().join(".tmp")).unwrap().count()
    }

    pub(crate) async fn wait_for_no_temporaries(&self) {
        wait_for_no_temporaries(&self.root()).await;
    }
}

pub(crate) fn memory() -> Operator {
    Operator::new(opendal::services::Memory::default()).unwrap()
}

/// Bytes that tell their place, so that a block in the wrong place is seen.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64).flat_map(|word| (word ^ 0x5a5a).to_le_bytes()).take(length).collect()
}

pub(crate) async fn list(operator: &Operator, prefix: &str, options: ListOptions) -> Result<Vec<String>> {
    let entries: Vec<_> = operator.lister_options(prefix, options).await?.try_collect().await?;
    Ok(entries.into_iter().map(|entry| entry.path().to_owned()).collect())
}

/// Removes empty directories below `path` for as long as `running` says so, as scrub may in another process.
pub(crate) fn prune(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            prune(&entry.path());
            // Fails where it is not empty, which is the point.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
