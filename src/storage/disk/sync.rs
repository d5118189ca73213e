//! When a new name is on the disk: once the directory that holds it is synced, and so is every directory above it that was made
//! not long ago, by whomever.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use super::core::{Core, is_absent};
use super::key;

/// How many directories are remembered in each half of [`DurableDirectories`].
const REMEMBERED: usize = 4096;

/// Tells a directory from another that was later made under the same name. Inode numbers are used again, hence the time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

impl Identity {
    /// Returns the identity of a directory; `None` if the file system does not record the time of its birth.
    fn of(directory: &OwnedFd) -> io::Result<Option<Self>> {
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

/// The directories whose own entries, all the way up to the root, are known to be on the disk.
///
/// Making a directory and syncing the one above are two steps, and a second writer that finds the directory made may come between
/// them, from this process or another one. So "it exists" is not enough: each process syncs upwards once from each directory that
/// it writes to, and remembers it. A directory that is remembered and still the same has been there all the time, and so have
/// those above it, since only empty directories are ever removed.
#[derive(Debug, Default)]
pub(super) struct DurableDirectories {
    /// Two generations, the young one first: when it is full the old one is forgotten. That costs a few syncs, no promise.
    generations: Mutex<[HashMap<Box<str>, Identity>; 2]>,
}

impl DurableDirectories {
    fn contains(&self, path: &str, identity: Identity) -> bool {
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

    fn insert(&self, path: &str, identity: Identity) {
        remember(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner), path, identity);
    }
}

fn remember(generations: &mut [HashMap<Box<str>, Identity>; 2], path: &str, identity: Identity) {
    if generations[0].len() >= REMEMBERED {
        generations[1] = std::mem::take(&mut generations[0]);
    }
    generations[0].insert(path.into(), identity);
}

/// Returns once the name `key`, that was just made, survives a power cut. Where somebody has removed it meanwhile there is
/// nothing left to keep.
pub(super) fn sync_name(core: &Core, key: &str) -> io::Result<()> {
    if !core.options.is_durable(key) {
        return Ok(());
    }
    let mut synced = Vec::new();
    let mut path = key::parent(key);
    loop {
        let directory = match core.open_directory(path) {
            Ok(directory) => directory,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        sync_directory(core, &directory)?;
        if path.is_empty() {
            break;
        }
        if let Some(identity) = Identity::of(&directory)? {
            if core.durable_directories.contains(path, identity) {
                break;
            }
            synced.push((path, identity));
        }
        path = key::parent(path);
    }
    for (path, identity) in synced {
        core.durable_directories.insert(path, identity);
    }
    Ok(())
}

/// Returns once removals from the directory `path` survive a power cut.
pub(super) fn sync_removals(core: &Core, path: &str) -> io::Result<()> {
    if !core.options.is_durable(path) {
        return Ok(());
    }
    match core.open_directory(path) {
        Ok(directory) => sync_directory(core, &directory),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_directory(core: &Core, directory: impl AsFd) -> io::Result<()> {
    core.stats.count_directory_sync();
    match rustix::fs::fsync(directory) {
        // Some network file systems have no such thing: names are on the server as soon as the call that makes them returns.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
