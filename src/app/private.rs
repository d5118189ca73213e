//! Keeps what the process writes from others on the machine, and warns of secrets that others can read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

use crate::{
    config::{Config, FsStorage, Storage},
    storage::Location,
};

/// The bits of a mode that are those of everybody.
const EVERYBODY: u32 = 0o007;

/// Makes everything private that this process creates from now on, whatever umask it was started with: directories get the
/// mode of `storage.fs.mode`, files the same without execution.
pub fn keep_private(config: &Config) {
    let mode = match &config.storage {
        Storage::Fs(fs) => fs.mode,
        Storage::S3(_) => FsStorage::default().mode,
    };
    rustix::process::umask(Mode::from_raw_mode(0o777 & !mode));
}

/// Logs a warning for each secret that everybody on the machine can read, and for a store that everybody may enter although
/// it should be private.
pub(super) fn warn(config: &Config, files: &[PathBuf], location: &Location) {
    if has_secrets(config) {
        for file in files.iter().filter(|file| mode_of(file).is_some_and(|mode| mode & 0o004 != 0)) {
            tracing::warn!(
                "{} holds secrets and can be read by everybody on this machine: `chmod o-r` it",
                file.display()
            );
        }
    }
    if let Some(tls) = &config.server.tls
        && mode_of(&tls.server_private_key).is_some_and(|mode| mode & EVERYBODY != 0)
    {
        let key = tls.server_private_key.display();
        tracing::warn!(
            "{key} (`server.tls.server_private_key`) can be read by everybody on this machine: `chmod 600` it"
        );
    }
    if let (Location::Directory { root, .. }, Storage::Fs(fs)) = (location, &config.storage)
        && mode_of(root).is_some_and(|mode| mode & EVERYBODY & !fs.mode != 0)
    {
        tracing::warn!(
            "everybody on this machine may enter the store {}: `chmod o-rwx` it, or set storage.fs.mode = \"0755\"",
            root.display()
        );
    }
}

/// Returns true if the configuration itself has a secret.
fn has_secrets(config: &Config) -> bool {
    !config.identity.is_empty() || matches!(config.storage, Storage::S3(_))
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.mode())
}
