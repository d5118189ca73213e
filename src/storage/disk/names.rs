//! Reads the sorted names of a directory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use super::core::{Core, is_absent, open_directory_in};
use super::name_lists::{Names, Version};

/// The bytes of names and their headers that one system call returns: about 200 of the longest names, or 1,000 of the
/// shortest.
const AT_ONCE: usize = 32 * 1024;
/// Opens the directory `path` and reads its names. The path is relative to `above`, or to the root for `None`; an empty
/// path means that directory itself.
///
/// Returns `None` if there is no such directory, or if somebody removes it meanwhile, since it was empty then.
pub(super) fn read(
    core: &Core,
    above: Option<BorrowedFd<'_>>,
    path: &str,
) -> io::Result<Option<(OwnedFd, Arc<Names>)>> {
    let opened = open_directory_in(above.unwrap_or(core.root.as_fd()), path);
    let read = opened.and_then(|directory| Ok((read_open(core, &directory)?, directory)));
    match read {
        Ok((names, directory)) => Ok(Some((directory, names))),
        Err(error) if is_absent(&error) => core.check_root().map(|()| None),
        Err(error) => Err(error),
    }
}

/// Reads the names in an open directory. Fails with `NotFound` if the directory was removed since it was opened.
fn read_open(core: &Core, directory: &OwnedFd) -> io::Result<Arc<Names>> {
    // Most directories are small. One read gives all of their names, so the cache would not save anything.
    if let Some(names) = read_sorted(directory, Extent::Small)? {
        core.stats.count_directory_read();
        return Ok(Arc::new(names));
    }
    // Take the version before reading the names that the cache keeps under it.
    let version = Version::of(&rustix::fs::fstat(directory)?);
    if let Some(names) = core.names.get(version) {
        return Ok(names);
    }
    let began = SystemTime::now();
    core.stats.count_directory_read();
    rustix::fs::seek(directory, SeekFrom::Start(0))?;
    let names = Arc::new(read_sorted(directory, Extent::Any)?.unwrap_or_default());
    core.names.offer(version, &names, began);
    Ok(names)
}

/// The size of a directory up to which its names are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All names, but only if one system call returns them.
    Small,
    /// All names.
    Any,
}

/// Reads the sorted names of a directory. Returns `None` if the directory is larger than `extent`.
fn read_sorted(directory: &OwnedFd, extent: Extent) -> io::Result<Option<Names>> {
    let mut names = Names::default();
    let mut buffer = Vec::with_capacity(AT_ONCE);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut calls = 0;
    loop {
        calls += usize::from(entries.is_buffer_empty());
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        if calls > 1 && extent == Extent::Small {
            return Ok(None);
        }
        // A name that is not UTF-8 cannot be a key, and our own rule excludes names that begin with a dot.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => match resolve(directory, name)? {
                Some(is_directory) => is_directory,
                None => continue,
            },
        };
        names.push(name, is_directory)?;
    }
    names.sort();
    Ok(Some(names))
}

/// Returns whether `name` is a directory, if reading its parent did not tell: for symbolic links, and on some file
/// systems always. Returns `None` if the name has vanished.
fn resolve(parent: impl AsFd, name: &str) -> io::Result<Option<bool>> {
    match rustix::fs::statat(parent, name, AtFlags::empty()) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode).is_dir())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::DiskOptions;

    #[test]
    fn a_directory_that_was_removed_while_it_was_open_is_absent_and_a_removed_root_is_a_fault() {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("root");
        let core = Core::open(&root, DiskOptions::default()).unwrap();
        std::fs::create_dir(root.join("empty")).unwrap();
        let empty = core.open_directory("empty").unwrap();
        std::fs::remove_dir(root.join("empty")).unwrap();
        // a walk may hold the directory above and open this one by its name, or by its descriptor as here
        assert!(read(&core, Some(empty.as_fd()), "").unwrap().is_none());
        assert!(is_absent(&read_open(&core, &empty).unwrap_err()), "the system says so when it is read, too");
        std::fs::remove_dir_all(&root).unwrap();
        assert!(read(&core, None, "").is_err());
    }
}
