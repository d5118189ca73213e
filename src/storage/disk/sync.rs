//! Syncs directories until a new name is on the disk.
//!
//! A name is on the disk once its directory is synced, and so is each directory above whose own entry may not be on the
//! disk yet, whoever created it.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::core::{Core, is_absent};
use super::durable::Identity;
use super::key;

/// Syncs directories until the new name `key` survives a power cut. If somebody has removed the directory meanwhile,
/// nothing is left to sync.
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

/// Syncs the directory `path`, so that removals from it survive a power cut.
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
        // Some network file systems cannot sync a directory. Their names are on the server as soon as the creating call
        // returns.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
