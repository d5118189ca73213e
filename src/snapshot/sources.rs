//! Reads the files of a snapshot, and hashes them to detect changes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::SnapshotError;
use crate::{
    config::{self, Config, Upstream},
    diagnostics::{self, Problems, Source},
    policy,
    tls::Tls,
};

/// The largest file that is hashed, in bytes. Each kind of file has a limit of its own, which is no larger.
const LARGEST: u64 = 64 << 20;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum Sources {
    /// Files and folders of files, a later one over those before it.
    Files(Vec<PathBuf>),
    /// The command line: nothing is read again.
    Fixed(Box<Config>),
}

impl Sources {
    pub(super) fn config(&self) -> Result<Config, SnapshotError> {
        match self {
            Self::Files(files) => Ok(Config::load(files)?),
            Self::Fixed(config) => Ok((**config).clone()),
        }
    }

    /// Returns a hash of the files, and of all files that they name, as they are now.
    pub(super) fn inputs(&self) -> Hash {
        inputs(self.files(), self.config().ok().as_ref())
    }

    /// Returns the configuration files.
    pub(super) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Fixed(_) => &[],
        }
    }
}

/// Returns the policy files that a configuration names; an absent default directory has none.
///
/// # Errors
///
/// A file or directory that cannot be read.
pub fn policy_files(config: &Config) -> Result<Vec<Source>, Problems> {
    match &config.policy_dir {
        Some(dir) if dir.must_exist || is_there(&dir.path) => policy::read_dir(&dir.path),
        _ => Ok(Vec::new()),
    }
}

/// Returns true if something is at a path, or may be. An unreadable path is not absent.
pub(super) fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Returns all files and directories that a configuration names and that may be edited while the server runs.
pub(super) fn named(config: &Config) -> BTreeSet<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = config.server.tls.iter().flat_map(Tls::files).collect();
    paths.extend(config.policy_dir.iter().map(|dir| dir.path.clone()));
    paths.extend(config.upstreams().flat_map(Upstream::files).map(|file| file.path.clone()));
    paths
}

/// Returns a hash of the configuration files, and of all files that a configuration names.
fn inputs(files: &[PathBuf], config: Option<&Config>) -> Hash {
    let mut hash = Sha256::new();
    for file in config::in_folders(files).iter().flatten() {
        add(&mut hash, file);
    }
    if let Some(config) = config {
        for path in named(config) {
            if path.is_dir() {
                for file in diagnostics::toml_files(&path).unwrap_or_default() {
                    add(&mut hash, &file);
                }
            } else {
                add(&mut hash, &path);
            }
        }
    }
    hash.finalize().into()
}

/// Returns a hash of `[server.tls]` and its files.
pub(super) fn tls_inputs(config: &Config) -> Hash {
    let mut hash = Sha256::new();
    if let Some(options) = &config.server.tls {
        hash.update(format!("{:?}", options.client_auth));
        for file in Tls::files(options) {
            add(&mut hash, &file);
        }
    }
    hash.finalize().into()
}

/// Adds a file's name and content to a hash. An unreadable file counts as other content.
fn add(hash: &mut Sha256, path: &Path) {
    hash.update(path.as_os_str().as_encoded_bytes());
    match diagnostics::read_plain(path, LARGEST) {
        Ok(content) => {
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(&content);
        }
        Err(error) => hash.update(format!("\0{:?}", error.kind())),
    }
}
