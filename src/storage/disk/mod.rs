//! Implements a directory as an opendal service that keeps the guarantees that a registry's store needs.
//!
//! A key is a path below the root, with one component for each part between slashes. Compared with opendal's own `fs`:
//!
//! - **Durable**: before a write is acknowledged, its bytes are synced. So are the directory that names the file, and
//!   every directory above whose own entry may not be on the disk yet.
//! - **Whole**: bytes go to a temporary file that is linked or renamed into place, so nobody sees half an object. Of
//!   many writers with `if_not_exists`, exactly one wins.
//! - **Sorted**: listings come in byte order of full keys, as from a bucket. They are read only as far as the caller
//!   pulls. They start behind `start_after` without reading the directories before it.
//! - **Off the async threads**: every system call that can wait runs on tokio's blocking pool. A small read or write
//!   takes one trip there.
//!
//! A directory differs from a bucket in two ways. A listing that is not recursive has an empty directory as an entry
//! until somebody removes the directory. `a` cannot be an object while `a/b` is one. Empty directories may be removed
//! while writers work, since writers create them again.
//!
//! Names that begin with a dot are refused as keys and left out of listings. The temporary files are in `.tmp`.

mod core;
mod delete;
mod durable;
mod folders;
mod key;
mod list;
mod name_lists;
mod names;
mod read;
mod service;
mod sweep;
mod sync;
mod temporary;
mod write;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use opendal::Operator;

pub use self::core::Stats;
use self::core::{Core, TEMPORARY, failure};
pub use self::sweep::{Directory, Swept};
use crate::memory::Memory;

/// The options of a directory store.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// True if `fsync` puts a write or delete on the disk before it is acknowledged. Otherwise a power cut may lose the
    /// writes of the last seconds. A crash of this process alone loses nothing either way.
    pub durable: bool,
    /// The prefixes of keys that need not survive a power cut, whatever `durable` says.
    pub unsynced: &'static [&'static str],
    /// The bytes that a streamed read fetches at a time, at least 4 KiB. Each open stream holds up to three such
    /// blocks.
    pub chunk: usize,
    /// The memory of what is remembered of the directory.
    pub memory: Arc<Memory>,
}

impl DiskOptions {
    /// Returns true if changes of a key must survive a power cut.
    fn is_durable(&self, key: &str) -> bool {
        self.durable && !self.unsynced.iter().any(|prefix| key.starts_with(prefix))
    }
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { durable: true, unsynced: &[], chunk: 512 * 1024, memory: Memory::new(16 << 20) }
    }
}

/// Opens the directory `root` as an opendal operator. Creates the directory and its parents if they are missing.
///
/// Several operators, in one process or in many, may share a directory. The operator holds the directory open. After a
/// move of the directory it keeps working; after a deletion every operation fails, so the store never looks empty.
///
/// Blocks on a few system calls. The operator's futures must run on a tokio runtime.
///
/// # Errors
///
/// The directory cannot be created, opened or written. The [`io::Error`] is the source.
pub fn operator(root: &Path, options: DiskOptions) -> opendal::Result<Operator> {
    operator_with_stats(root, options).map(|(operator, _)| operator)
}

/// Builds [`operator`] with a handle to its directory.
///
/// # Errors
///
/// Those of [`operator`].
pub fn operator_with_directory(root: &Path, options: DiskOptions) -> opendal::Result<(Operator, Directory)> {
    let core = open(root, options)?;
    let directory = Directory(core.clone());
    Ok((Operator::new(service::DiskBuilder::new(core))?, directory))
}

fn open(root: &Path, options: DiskOptions) -> opendal::Result<Arc<Core>> {
    let core = Core::open(root, options);
    core.map(Arc::new).map_err(|error| failure("open the directory", &root.display().to_string(), error))
}

/// Builds [`operator`] with counters for tests.
///
/// # Errors
///
/// Those of [`operator`].
#[doc(hidden)]
pub fn operator_with_stats(root: &Path, options: DiskOptions) -> opendal::Result<(Operator, Arc<Stats>)> {
    let core = open(root, options)?;
    let stats = core.stats.clone();
    let operator = Operator::new(service::DiskBuilder::new(core))?;
    Ok((operator, stats))
}

/// Returns true if the directory `root` takes `a` and `A` for one name. A registry's tags `v1` and `V1` are two.
///
/// Creates and removes a file below `<root>/.tmp`. Blocks on a few system calls.
///
/// # Errors
///
/// The file cannot be created, looked up or removed.
pub fn case_insensitive(root: &Path) -> io::Result<bool> {
    let temporary = root.join(TEMPORARY);
    std::fs::create_dir_all(&temporary)?;
    let name = format!("{:016x}-case", rand::random::<u64>());
    std::fs::File::create_new(temporary.join(&name))?;
    let found = temporary.join(name.replace("-case", "-CASE")).try_exists();
    std::fs::remove_file(temporary.join(name))?;
    found
}

/// Returns the user who owns the file `known`, and the user who owns a new file, if they are two and share no group that may
/// write. The two would make files that the other cannot read or remove.
///
/// Creates and removes a file below `<root>/.tmp`. Blocks on a few system calls. A mount that gives all files to one user has
/// one owner, whoever runs the process.
///
/// # Errors
///
/// The file cannot be created, looked up or removed.
pub(super) fn other_owner(root: &Path, known: &str) -> io::Result<Option<(u32, u32)>> {
    let theirs = root.join(known).metadata()?;
    let temporary = root.join(TEMPORARY);
    std::fs::create_dir_all(&temporary)?;
    let path = temporary.join(format!("{:016x}-owner", rand::random::<u64>()));
    let ours = std::fs::File::create_new(&path)?.metadata();
    std::fs::remove_file(path)?;
    let ours = ours?;
    let (reads_and_writes, of_group) = (0o060, ours.mode() & theirs.mode());
    let shares_group = ours.gid() == theirs.gid() && of_group & reads_and_writes == reads_and_writes;
    Ok((ours.uid() != theirs.uid() && !shares_group).then(|| (theirs.uid(), ours.uid())))
}
