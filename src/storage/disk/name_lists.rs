//! Holds sorted names of a directory, and caches the lists of a few large directories, and the first files of small
//! ones.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

use crate::memory::{Memory, Part};

/// The least number of names in a cached list. Shorter lists are read each time, and so are directories that one system
/// call returns whole.
const CACHED_FROM: usize = 512;
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

    /// Returns the names of files, in byte order.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|span| self.slice(*span)).filter(|name| !name.ends_with('/'))
    }

    /// Returns the number of names that do not come after `name`.
    pub(super) fn up_to(&self, name: &str) -> usize {
        self.spans.partition_point(|span| self.slice(*span) <= name)
    }

    fn slice(&self, (start, length): (u32, u32)) -> &str {
        &self.text[start as usize..start as usize + length as usize]
    }

    /// Adds a name. The names are in order after [`Names::sort`] alone.
    pub(super) fn push(&mut self, name: &str, directory: bool) -> io::Result<()> {
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

    pub(super) fn sort(&mut self) {
        let text = &self.text;
        self.spans.sort_unstable_by_key(|(start, length)| &text[*start as usize..*start as usize + *length as usize]);
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.spans.capacity() * size_of::<(u32, u32)>()
    }
}

/// The identity of a directory, with the times of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
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
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Returns whether any later change is sure to give another version.
    pub(super) fn settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        [self.modified, self.changed].into_iter().all(|(seconds, nanoseconds)| {
            let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
                return false;
            };
            now.checked_sub(Duration::new(seconds, nanoseconds)).is_some_and(|age| age >= SETTLED)
        })
    }
}

/// The lists of large directories, by device and inode.
#[derive(Debug)]
pub(super) struct NameCache {
    lists: Part<(u64, u64), (Version, Arc<Names>)>,
}

impl NameCache {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self { lists: Part::new(memory, |_, (_, names)| names.bytes()) }
    }

    pub(super) fn get(&self, version: Version) -> Option<Arc<Names>> {
        let (known, names) = self.lists.get(&(version.device, version.inode))?;
        (known == version).then_some(names)
    }

    /// Keeps the names that a reader began to read at `began`, if the list is long and a later change would show.
    pub(super) fn offer(&self, version: Version, names: &Arc<Names>, began: SystemTime) {
        if names.spans.len() >= CACHED_FROM && version.settled(began) {
            self.lists.insert((version.device, version.inode), (version, names.clone()));
        }
    }
}

/// The first files of directories, for lists that need nothing else of a directory, by device and inode.
#[derive(Debug)]
pub(super) struct FirstFiles {
    files: Part<(u64, u64), FirstFile>,
}

/// The version of a directory, and the name of its first file; `None` if the directory has no file.
type FirstFile = (Version, Option<Box<str>>);

impl FirstFiles {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        let weigh = |_: &(u64, u64), (_, name): &FirstFile| name.as_ref().map_or(0, |name| name.len()) + 80;
        Self { files: Part::new(memory, weigh) }
    }

    /// Calls `found` with the index and the first file of each directory that is still as it was.
    pub(super) fn look_up(&self, versions: &[Version], mut found: impl FnMut(usize, Option<&str>)) {
        for (index, version) in versions.iter().enumerate() {
            let known = self.files.get(&(version.device, version.inode));
            if let Some((_, name)) = known.filter(|(known, _)| known == version) {
                found(index, name.as_deref());
            }
        }
    }

    /// Keeps the first files that were read from `began` on, where a later change would show.
    pub(super) fn keep(&self, files: Vec<FirstFile>, began: SystemTime) {
        for (version, name) in files.into_iter().filter(|(version, _)| version.settled(began)) {
            self.files.insert((version.device, version.inode), (version, name));
        }
    }
}
