//! Reads the sorted names of a directory, and caches the lists of a few large directories.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, Stat};
use rustix::io::Errno;

use super::core::{Core, is_absent, open_directory_in};

/// The bytes of names and their headers that one system call returns: about 200 of the longest names, or 1,000 of the
/// shortest.
const AT_ONCE: usize = 32 * 1024;
/// The least number of names in a cached list. Shorter lists are read each time, and so are directories that one system
/// call returns whole.
const CACHED_FROM: usize = 512;
/// The most lists in the cache.
const CACHED_LISTS: usize = 8;
/// The most bytes of all lists in the cache together.
const CACHED_BYTES: usize = 32 * 1024 * 1024;
/// The age of a directory's last change from which any later change is sure to have another time. File systems take
/// times from a clock that moves in steps.
const SETTLED: Duration = Duration::from_secs(2);

/// Names in byte order, where the name of a directory ends in `/`. A walk in this order, with each directory's names in
/// its place, gives full keys in byte order: `a!` comes before `a/b`, and `a0` after.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    spans: Vec<(u32, u32)>,
}

impl Names {
    pub(super) fn get(&self, index: usize) -> &str {
        self.slice(self.spans[index])
    }

    /// Returns the indexes of the names that begin with `beginning`.
    pub(super) fn beginning_with(&self, beginning: &str) -> Range<usize> {
        let start = self.spans.partition_point(|span| self.slice(*span) < beginning);
        let length = self.spans[start..].partition_point(|span| self.slice(*span).starts_with(beginning));
        start..start + length
    }

    /// Returns the number of names that do not come after `name`.
    pub(super) fn up_to(&self, name: &str) -> usize {
        self.spans.partition_point(|span| self.slice(*span) <= name)
    }

    fn slice(&self, (start, length): (u32, u32)) -> &str {
        &self.text[start as usize..start as usize + length as usize]
    }

    fn push(&mut self, name: &str, directory: bool) -> io::Result<()> {
        let start = u32::try_from(self.text.len()).map_err(|_| io::Error::other("the directory has too many names"))?;
        self.text.push_str(name);
        if directory {
            self.text.push('/');
        }
        // Does not fail: a name is at most 255 bytes long.
        let length = u32::try_from(name.len() + usize::from(directory)).map_err(io::Error::other)?;
        self.spans.push((start, length));
        Ok(())
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.spans.sort_unstable_by_key(|(start, length)| &text[*start as usize..*start as usize + *length as usize]);
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.spans.capacity() * size_of::<(u32, u32)>()
    }
}

/// The identity of a directory, with the times of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    /// The time of the last status change. Tools that restore files can set the modification time at will, but not this
    /// time.
    changed: (i64, i64),
}

impl Version {
    #[allow(
        clippy::useless_conversion,
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "the types differ between platforms"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Returns whether any later change is sure to give another version.
    fn settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        [self.modified, self.changed].into_iter().all(|(seconds, nanoseconds)| {
            let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
                return false;
            };
            now.checked_sub(Duration::new(seconds, nanoseconds)).is_some_and(|age| age >= SETTLED)
        })
    }
}

/// The lists of large directories, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    lists: Mutex<Vec<(Version, Arc<Names>)>>,
}

impl NameCache {
    fn get(&self, version: Version) -> Option<Arc<Names>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let index = lists.iter().position(|(cached, _)| *cached == version)?;
        let entry = lists.remove(index);
        let names = entry.1.clone();
        lists.push(entry);
        Some(names)
    }

    fn insert(&self, version: Version, names: Arc<Names>) {
        if names.bytes() > CACHED_BYTES {
            return;
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|(cached, _)| (cached.device, cached.inode) != (version.device, version.inode));
        lists.push((version, names));
        while lists.len() > CACHED_LISTS || lists.iter().map(|(_, names)| names.bytes()).sum::<usize>() > CACHED_BYTES {
            lists.remove(0);
        }
    }
}

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
    if names.spans.len() >= CACHED_FROM && version.settled(began) {
        core.names.insert(version, names.clone());
    }
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
