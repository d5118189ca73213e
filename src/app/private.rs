//! Keeps what the process writes from others on the machine, and warns of secrets that others can read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

use crate::{
    config::{Config, FsStorage, Storage, Upstream, UpstreamPassword},
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
    let own = config.server.tls.iter().map(|tls| (&tls.server_private_key, "server.tls.server_private_key".to_owned()));
    let of_upstreams = config.upstreams().flat_map(Upstream::secret_files);
    for (file, key) in own.chain(of_upstreams) {
        if mode_of(file).is_some_and(|mode| mode & EVERYBODY != 0) {
            tracing::warn!("{} (`{key}`) can be read by everybody on this machine: `chmod 600` it", file.display());
        }
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
    let mut passwords = config.upstreams().filter_map(|upstream| Some(&upstream.login.as_ref()?.password));
    !config.identity.is_empty()
        || matches!(config.storage, Storage::S3(_))
        || passwords.any(|password| matches!(password, UpstreamPassword::Text(_)))
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.mode())
}
