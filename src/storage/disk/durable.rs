//! Remembers the directories whose own names are on the disk.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, StatxFlags};

/// The most directories in each half of [`DurableDirectories`].
const REMEMBERED: usize = 4096;

/// The identity of a directory, different from that of any directory that is later created under the same name. Inode
/// numbers are used again, so the identity includes the time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

impl Identity {
    /// Returns the identity of a directory; `None` if the file system does not record the time of its birth.
    pub(super) fn of(directory: &OwnedFd) -> io::Result<Option<Self>> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, wanted)?;
        let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted);
        Ok(known.then_some(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }))
    }
}

/// The directories whose own entries are known to be on the disk, all the way up to the root.
///
/// A writer creates a directory and then syncs the one above. Between the two steps another writer, in this process or
/// another one, may find the directory. So the existence of a directory does not show that its entry is on the disk.
/// Each process therefore syncs upwards once from each directory that it writes to, and remembers that directory. If a
/// remembered directory is still the same, it has existed all the time. So have the directories above it, since only
/// empty directories are ever removed.
#[derive(Debug, Default)]
pub(super) struct DurableDirectories {
    /// Two generations, the young one first. When the young one is full, the old one is forgotten. Forgetting costs a
    /// few syncs, and no guarantee.
    generations: Mutex<[HashMap<Box<str>, Identity>; 2]>,
}

impl DurableDirectories {
    pub(super) fn contains(&self, path: &str, identity: Identity) -> bool {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations[0].get(path) == Some(&identity) {
            return true;
        }
        let known = generations[1].get(path) == Some(&identity);
        if known {
            remember(&mut generations, path, identity);
        }
        known
    }

    pub(super) fn insert(&self, path: &str, identity: Identity) {
        remember(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner), path, identity);
    }
}

fn remember(generations: &mut [HashMap<Box<str>, Identity>; 2], path: &str, identity: Identity) {
    if generations[0].len() >= REMEMBERED {
        generations[1] = std::mem::take(&mut generations[0]);
    }
    generations[0].insert(path.into(), identity);
}
