//! Holds the shared parts of all operations on one directory: its descriptor, its options, and its error messages.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opendal::raw::Timestamp;
use opendal::{Error, ErrorKind, Metadata, MetadataBuilder};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::DiskOptions;
use super::durable::DurableDirectories;
use super::name_lists::{FirstFiles, NameCache};

/// The directory of temporary files, below the root.
pub(super) const TEMPORARY: &str = ".tmp";

/// Counts of finished operations, for tests.
#[derive(Debug, Default)]
pub struct Stats {
    directories_read: AtomicU64,
    file_syncs: AtomicU64,
    directory_syncs: AtomicU64,
}

impl Stats {
    /// Returns the number of directories whose names were read from the disk. Lists out of the cache do not count.
    pub fn directories_read(&self) -> u64 {
        self.directories_read.load(Ordering::Relaxed)
    }

    /// Returns the number of calls of `fdatasync` on files.
    pub fn file_syncs(&self) -> u64 {
        self.file_syncs.load(Ordering::Relaxed)
    }

    /// Returns the number of calls of `fsync` on directories.
    pub fn directory_syncs(&self) -> u64 {
        self.directory_syncs.load(Ordering::Relaxed)
    }

    pub(super) fn count_directory_read(&self) {
        self.directories_read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_file_sync(&self) {
        self.file_syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_directory_sync(&self) {
        self.directory_syncs.fetch_add(1, Ordering::Relaxed);
    }
}

/// A source of names for temporary files. No other process on the same directory uses its names.
#[derive(Debug)]
pub(super) struct TemporaryNames {
    process: u64,
    count: AtomicU64,
}

impl Default for TemporaryNames {
    fn default() -> Self {
        Self { process: rand::random(), count: AtomicU64::new(0) }
    }
}

impl TemporaryNames {
    pub(super) fn next(&self) -> String {
        format!("{TEMPORARY}/{:016x}-{:x}", self.process, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

/// An open root directory, with its options, counters and caches.
#[derive(Debug)]
pub(super) struct Core {
    /// The descriptor from which all paths are looked up. So nothing is read or written elsewhere after the root was
    /// moved, or mounted over.
    pub(super) root: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) options: DiskOptions,
    pub(super) stats: Arc<Stats>,
    pub(super) durable_directories: DurableDirectories,
    pub(super) names: NameCache,
    pub(super) first_files: FirstFiles,
    pub(super) temporary_names: TemporaryNames,
}

impl Core {
    /// Creates the directory if it is missing, and opens it.
    ///
    /// # Errors
    /// The directory cannot be created or opened, or no temporary files can be created in it, which every write needs.
    /// A read-only file system is no error, since it can still be read.
    pub(super) fn open(path: &Path, options: DiskOptions) -> io::Result<Self> {
        make_root(path, options.durable)?;
        let root: OwnedFd = File::open(path)?.into();
        match rustix::fs::mkdirat(&root, TEMPORARY, Mode::from_raw_mode(0o777)) {
            // A store on a read-only file system can still be read.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(Self {
            root,
            path: path.to_owned(),
            stats: Arc::default(),
            durable_directories: DurableDirectories::default(),
            names: NameCache::new(&options.memory),
            first_files: FirstFiles::new(&options.memory),
            temporary_names: TemporaryNames::default(),
            options: DiskOptions { chunk: options.chunk.max(4096), ..options },
        })
    }

    /// Opens the directory at `path`, which is relative to the root. An empty path opens the root itself.
    pub(super) fn open_directory(&self, path: &str) -> io::Result<OwnedFd> {
        open_directory_in(&self.root, path)
    }

    /// Returns the error for an absent key. If the root was deleted, the error is a fault of the store instead, since
    /// nothing is known about the key then.
    pub(super) fn missing(&self, action: &str, key: &str) -> Error {
        match self.check_root() {
            Ok(()) => Error::new(ErrorKind::NotFound, format!("cannot {action} {key:?}: there is no such object")),
            Err(error) => failure(action, key, error),
        }
    }

    /// Returns an error if the root directory was deleted.
    pub(super) fn check_root(&self) -> io::Result<()> {
        if rustix::fs::fstat(&self.root)?.st_nlink == 0 {
            return Err(io::Error::other(format!(
                "the storage directory {} was deleted while in use; restore it and start again",
                self.path.display()
            )));
        }
        Ok(())
    }

    /// Turns the failure of a lookup of `key` into an error. Only a key that is absent gives `NotFound`.
    pub(super) fn lookup_failure(&self, action: &str, key: &str, error: io::Error) -> Error {
        if is_absent(&error) { self.missing(action, key) } else { failure(action, key, error) }
    }
}

/// Opens the directory at `path`, which is relative to `above`. An empty path opens `above` itself.
pub(super) fn open_directory_in(above: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(above, path, flags, Mode::empty())?)
}

/// Returns true if there is no such file. A file in place of a directory of the path means the same.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Runs work that may block on the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> opendal::Result<T> + Send + 'static,
) -> opendal::Result<T> {
    crate::priority::spawn_blocking(work).await.unwrap_or_else(|lost| Err(lost_task(lost)))
}

/// Returns the error for unfinished work on the blocking pool.
pub(super) fn lost_task(lost: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Unexpected,
        "storage work was not finished, because the server is stopping or the work panicked",
    )
    .set_source(lost)
}

/// Returns an opendal error with the key, the cause and, if known, the next step. The [`io::Error`] is its source.
pub(super) fn failure(action: &str, key: &str, error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, advice) = match error.kind() {
        Io::PermissionDenied => (ErrorKind::PermissionDenied, "; give the server's user access to it"),
        Io::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, "; mount it for writing"),
        Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Unexpected, "; free some space or give the storage more"),
        Io::FileTooLarge => (ErrorKind::Unexpected, "; raise the limit for the size of files"),
        Io::CrossesDevices => (ErrorKind::Unexpected, "; the whole storage directory must be one file system"),
        Io::NotFound => (ErrorKind::NotFound, ""),
        Io::IsADirectory => (ErrorKind::IsADirectory, ""),
        Io::NotADirectory => (ErrorKind::NotADirectory, ""),
        Io::AlreadyExists => (ErrorKind::AlreadyExists, ""),
        _ if too_many_files(&error) => (ErrorKind::Unexpected, "; raise the limit of open files"),
        _ => (ErrorKind::Unexpected, ""),
    };
    let temporary = matches!(error.kind(), Io::Interrupted | Io::TimedOut | Io::WouldBlock) || too_many_files(&error);
    let told = Error::new(kind, format!("cannot {action} {key:?}: {error}{advice}")).set_source(error);
    if temporary { told.set_temporary() } else { told }
}

fn too_many_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns the metadata of a file in opendal's form.
pub(super) fn file_metadata(size: u64, modified_seconds: i64, modified_nanoseconds: i32) -> Metadata {
    let mut metadata = MetadataBuilder::file(size);
    if let Ok(modified) = Timestamp::new(modified_seconds, modified_nanoseconds) {
        metadata.last_modified(modified);
    }
    metadata.build()
}

/// Returns [`file_metadata`] from the result of `fstat` and similar calls.
pub(super) fn stat_metadata(stat: &rustix::fs::Stat) -> Metadata {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    #[allow(clippy::useless_conversion, reason = "the widths differ between platforms")]
    file_metadata(size, i64::from(stat.st_mtime), i32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Creates the root and the missing directories above it. If `durable`, syncs the parent of each new directory, since a
/// new directory is an entry of its parent.
fn make_root(path: &Path, durable: bool) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(path)?;
    if durable {
        for made in missing {
            let above = made.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}
