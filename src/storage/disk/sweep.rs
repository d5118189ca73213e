//! Removes empty directories and abandoned temporary files, while writers work.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::core::{Core, TEMPORARY, is_absent, open_directory_in};
use super::temporary::Temporary;

/// The age of an abandoned temporary file. Between two blocks, its writer may wait for a slow client.
const ABANDONED: Duration = Duration::from_hours(24);

/// The counts of what a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Empty directories.
    pub directories: u64,
    /// Temporary files that their writers left behind.
    pub files: u64,
    /// The bytes of those files.
    pub bytes: u64,
}

/// A handle to a directory store, for work that is no operation of opendal.
#[derive(Clone, Debug)]
pub struct Directory(pub(super) Arc<Core>);

impl Directory {
    /// Removes empty directories below `prefixes` that did not change since `before_ms`. Removes temporary files that
    /// changed neither after `before_ms` nor in the day before `now_ms`. Both times are milliseconds since 1970 by the
    /// file system's clock.
    ///
    /// Sweeping beside writers is safe: only empty directories can be removed, and writers create missing directories
    /// again. This looks at nothing else in the root. Blocks.
    ///
    /// # Errors
    /// A directory cannot be read or removed.
    pub fn sweep(&self, prefixes: &[&str], before_ms: u64, now_ms: u64) -> io::Result<Swept> {
        self.0.check_root()?;
        let mut swept = Swept::default();
        let abandoned = before_ms.min(now_ms.saturating_sub(u64::try_from(ABANDONED.as_millis()).unwrap_or(u64::MAX)));
        remove_files(&self.0, abandoned, &mut swept)?;
        for prefix in prefixes {
            remove_if_empty(self.0.root.as_fd(), prefix.trim_end_matches('/').as_bytes(), before_ms, &mut swept)?;
        }
        Ok(swept)
    }

    /// Returns the file system's time in milliseconds since 1970, by a file that this creates and removes. Blocks.
    ///
    /// # Errors
    /// No file can be created.
    pub fn time_ms(&self) -> io::Result<u64> {
        let file = Temporary::create(Arc::clone(&self.0))?;
        Ok(changed_ms(&rustix::fs::fstat(&*file.file())?))
    }
}

/// Sweeps the directory `name`, and removes it if it is empty and old. Returns whether it is gone.
fn remove_if_empty(above: BorrowedFd<'_>, name: &[u8], before_ms: u64, swept: &mut Swept) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(above, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(true),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    // read the time first: removing entries changes it
    let old = changed_ms(&rustix::fs::fstat(&directory)?) <= before_ms;
    let mut empty = true;
    for (name, kind) in names(&directory)? {
        // names that begin with a dot do not belong to the store
        let may_go = name.first() != Some(&b'.') && matches!(kind, FileType::Directory | FileType::Unknown);
        empty &= may_go && remove_if_empty(directory.as_fd(), &name, before_ms, swept)?;
    }
    if !empty || !old {
        return Ok(false);
    }
    drop(directory);
    match rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) => {
            swept.directories += 1;
            Ok(true)
        }
        Err(Errno::NOENT) => Ok(true),
        // a writer has put something there meanwhile
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn remove_files(core: &Core, before_ms: u64, swept: &mut Swept) -> io::Result<()> {
    let directory = match open_directory_in(&core.root, TEMPORARY) {
        Ok(directory) => directory,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for (name, _) in names(&directory)? {
        let stat = match rustix::fs::statat(&directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if !FileType::from_raw_mode(stat.st_mode).is_file() || changed_ms(&stat) > before_ms {
            continue;
        }
        match rustix::fs::unlinkat(&directory, &*name, AtFlags::empty()) {
            Ok(()) => {
                swept.files += 1;
                // a file that was linked into place keeps its bytes under its key
                swept.bytes += if stat.st_nlink == 1 { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

type Name = Vec<u8>;

/// Returns the names in a directory, all of them before any is removed. A directory that was removed a moment ago has
/// none.
fn names(directory: impl AsFd) -> io::Result<Vec<(Name, FileType)>> {
    match read_names(directory) {
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        names => names,
    }
}

fn read_names(directory: impl AsFd) -> io::Result<Vec<(Name, FileType)>> {
    // open it again, since reading goes on at the position of the descriptor
    let directory: OwnedFd = open_directory_in(directory, "")?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

fn changed_ms(stat: &Stat) -> u64 {
    #[allow(clippy::useless_conversion, reason = "the widths differ between platforms")]
    let (seconds, nanoseconds) = (i64::from(stat.st_mtime), i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    u64::try_from(seconds.saturating_mul(1000) + nanoseconds / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_removed_while_it_was_open_has_no_names() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("empty");
        std::fs::create_dir(&path).unwrap();
        let directory = std::fs::File::open(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(names(&directory).unwrap(), []);
    }
}
