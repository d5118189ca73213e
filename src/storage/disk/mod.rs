//! A directory as an opendal service that keeps the promises a registry's store needs.
//!
//! A key is a path below the root, one component for each `/`. Compared with opendal's own `fs`:
//!
//! - **Durable**: before a write is acknowledged its bytes are synced, and so are the directory that names it and every
//!   directory above that may still be on its way to the disk.
//! - **Whole**: bytes go to a temporary file that is linked or renamed into place, so nobody sees half an object, and of
//!   many writers with `if_not_exists` exactly one wins.
//! - **Sorted**: listings come in byte order of full keys as a bucket gives them, are read only as far as they are pulled, and
//!   start behind `start_after` without reading what lies before it.
//! - **Off the async threads**: every system call that can wait runs on tokio's blocking pool, a small read or write in one
//!   trip.
//!
//! What differs from a bucket: a directory that has become empty is still an entry of a listing that is not recursive, until
//! somebody removes it, and `a` cannot be an object while `a/b` is one. Removing empty directories while writers are at work is
//! safe: they make them again.
//!
//! Names that begin with a dot are refused as keys and left out of listings; the temporary files are in `.tmp`.

mod core;
mod delete;
mod key;
mod list;
mod names;
mod read;
mod service;
mod sweep;
mod sync;
mod temporary;
mod write;

use std::io;
use std::path::Path;
use std::sync::Arc;

use opendal::Operator;

pub use self::core::Stats;
use self::core::{Core, failure};
pub use self::sweep::{Sweeper, Swept};

/// How a directory store behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// True: `fsync` puts a write or delete on the disk before it is acknowledged. Without it a power cut may lose
    /// writes of the last seconds; a crash of this process alone loses nothing.
    pub durable: bool,
    /// Prefixes of keys that need not survive a power cut, whatever `durable` says.
    pub unsynced: &'static [&'static str],
    /// The bytes that a streamed read fetches at a time, at least 4 KiB. Each open stream holds up to three such blocks.
    pub chunk: usize,
}

impl DiskOptions {
    /// Returns true if changes of a key must survive a power cut.
    fn is_durable(&self, key: &str) -> bool {
        self.durable && !self.unsynced.iter().any(|prefix| key.starts_with(prefix))
    }
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { durable: true, unsynced: &[], chunk: 512 * 1024 }
    }
}

/// Opens the directory `root` as an opendal operator, making it (and those above it) where it is missing.
///
/// Several operators, in one process or in many, may share a directory. The directory is held open: one that is moved keeps
/// working, one that is deleted makes every operation fail instead of looking empty.
///
/// Blocks on a few system calls. The operator's futures must run on a tokio runtime.
///
/// # Errors
///
/// Where the directory cannot be made, opened or written below, with the [`io::Error`] as source.
pub fn operator(root: &Path, options: DiskOptions) -> opendal::Result<Operator> {
    operator_with_stats(root, options).map(|(operator, _)| operator)
}

/// Builds [`operator`] with the sweeper of its directory.
///
/// # Errors
///
/// As [`operator`].
pub fn operator_with_sweeper(root: &Path, options: DiskOptions) -> opendal::Result<(Operator, Sweeper)> {
    let core = open(root, options)?;
    let sweeper = Sweeper(core.clone());
    Ok((Operator::new(service::DiskBuilder::new(core))?, sweeper))
}

fn open(root: &Path, options: DiskOptions) -> opendal::Result<Arc<Core>> {
    let core = Core::open(root, options);
    core.map(Arc::new).map_err(|error| failure("open the directory", &root.display().to_string(), error))
}

/// Builds [`operator`] with counters for tests.
///
/// # Errors
///
/// As [`operator`].
#[doc(hidden)]
pub fn operator_with_stats(root: &Path, options: DiskOptions) -> opendal::Result<(Operator, Arc<Stats>)> {
    let core = open(root, options)?;
    let stats = core.stats.clone();
    let operator = Operator::new(service::DiskBuilder::new(core))?;
    Ok((operator, stats))
}

/// Returns true if the directory `root` takes `a` and `A` for one name. A registry's tags `v1` and `V1` are two.
///
/// Makes and removes a file below `<root>/.tmp`. Blocks on a few system calls.
///
/// # Errors
///
/// If that file cannot be made, looked up or removed.
pub fn case_insensitive(root: &Path) -> io::Result<bool> {
    let temporary = root.join(temporary::DIRECTORY);
    std::fs::create_dir_all(&temporary)?;
    let name = format!("{:016x}-case", rand::random::<u64>());
    std::fs::File::create_new(temporary.join(&name))?;
    let found = temporary.join(name.replace("-case", "-CASE")).try_exists();
    std::fs::remove_file(temporary.join(name))?;
    found
}
