//! Writes files that nobody can see until they are whole.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use bytes::Bytes;
use opendal::Metadata;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::core::{Core, TEMPORARY, stat_metadata};
use super::key;

/// The tries of a name whose directory is removed between its creation and its use. Each failure takes a removal in
/// exactly that moment, so this many in a row have another reason.
const ATTEMPTS: usize = 1000;

/// The most pieces that one system call writes.
const PIECES: usize = 64;

/// A file below [`TEMPORARY`], which is removed on drop. The drop makes a system call, so it belongs on the blocking
/// pool.
#[derive(Debug)]
pub(super) struct Temporary {
    core: Arc<Core>,
    /// The path relative to the root; `None` after the file was renamed.
    name: Option<String>,
    file: Arc<File>,
}

impl Temporary {
    pub(super) fn create(core: Arc<Core>) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut outcome = Errno::NOENT;
        for _ in 0..ATTEMPTS {
            let name = core.temporary_names.next();
            outcome = match rustix::fs::openat(&core.root, &*name, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => return Ok(Self { core, name: Some(name), file: Arc::new(file.into()) }),
                Err(Errno::NOENT) => {
                    core.check_root()?;
                    make_directory(&core, TEMPORARY)?;
                    Errno::NOENT
                }
                Err(Errno::EXIST) => Errno::EXIST,
                Err(errno) => return Err(errno.into()),
            };
        }
        Err(outcome.into())
    }

    /// Returns the open file, to sync it beside further writes.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Appends all of `pieces`.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for group in pieces.chunks(PIECES) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match (&*self.file).write_vectored(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => IoSlice::advance_slices(&mut left, written),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Returns the file's metadata, with the time of its last change by the file system's clock: that of its bytes, or
    /// the later one of its name.
    fn published(&self) -> io::Result<Metadata> {
        let mut stat = rustix::fs::fstat(&*self.file)?;
        if (stat.st_ctime, stat.st_ctime_nsec) > (stat.st_mtime, stat.st_mtime_nsec) {
            (stat.st_mtime, stat.st_mtime_nsec) = (stat.st_ctime, stat.st_ctime_nsec);
        }
        Ok(stat_metadata(&stat))
    }

    /// Gives the file its name. Replaces an existing file of that name, or with `exclusive` fails with
    /// [`io::ErrorKind::AlreadyExists`]. Returns the file's metadata, with the time when it got its name.
    ///
    /// Creates missing directories, and creates them again if somebody removes them. Syncs nothing.
    pub(super) fn publish(mut self, key: &str, exclusive: bool) -> io::Result<Metadata> {
        let Some(name) = self.name.clone() else {
            return Err(io::Error::other("a temporary file was published twice"));
        };
        let root = &self.core.root;
        for _ in 0..ATTEMPTS {
            let outcome = if exclusive {
                rustix::fs::linkat(root, &*name, root, key, AtFlags::empty())
            } else {
                rustix::fs::renameat(root, &*name, root, key)
            };
            match outcome {
                Ok(()) if exclusive => return self.published(),
                Ok(()) => {
                    self.name = None;
                    return self.published();
                }
                Err(Errno::NOENT) => {
                    self.core.check_root()?;
                    if rustix::fs::fstat(&*self.file)?.st_nlink == 0 {
                        return Err(io::Error::other(format!(
                            "its temporary file {name} was removed by somebody else"
                        )));
                    }
                    make_directory(&self.core, key::parent(key))?;
                }
                Err(Errno::EXIST) if exclusive && is_directory(&self.core, key) => return Err(Errno::ISDIR.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other(
            "its directory was removed each time it was made; stop what removes directories so eagerly",
        ))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // A failure is ignored: a file in this directory is garbage, which the sweep removes.
            let _ = rustix::fs::unlinkat(&self.core.root, &**name, AtFlags::empty());
        }
    }
}

fn is_directory(core: &Core, key: &str) -> bool {
    rustix::fs::statat(&core.root, key, AtFlags::empty())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Creates the directory `path` and those above it. If somebody removes one of them meanwhile, it may be missing
/// afterwards; the caller notices and tries again.
fn make_directory(core: &Core, path: &str) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    match rustix::fs::mkdirat(&core.root, path, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            make_directory(core, key::parent(path))?;
            match rustix::fs::mkdirat(&core.root, path, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        }
        Err(errno) => Err(errno.into()),
    }
}
