//! Keeps what the process writes from others on the machine, and warns of secrets that others can read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

use crate::{
    config::{Config, FsStorage, Storage, Upstream},
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
    for file in files.iter().filter(|file| mode_of(file).is_some_and(|mode| mode & 0o004 != 0) && has_secrets(file)) {
        tracing::warn!("{} holds secrets and can be read by everybody on this machine: `chmod o-r` it", file.display());
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

/// Returns true if a file of the configuration has a secret: the hash of a password, a password or a key.
fn has_secrets(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|table| table.iter().any(|(key, value)| is_secret(key, value)))
}

/// Returns true if a value of a configuration is a secret, or has one.
fn is_secret(key: &str, value: &toml::Value) -> bool {
    match value {
        toml::Value::Table(table) => table.iter().any(|(key, value)| is_secret(key, value)),
        toml::Value::Array(values) => values.iter().any(|value| is_secret(key, value)),
        _ => matches!(key, "password" | "secret_key"),
    }
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.mode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_secret_is_told_from_one_without() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        for (text, has_a_secret) in [
            ("[identity.ana]\nusername = \"ana\"\npassword = \"$argon2id$...\"", true),
            ("[storage.s3]\nsecret_key = \"s\"", true),
            (
                "[[repository.hub.upstream]]\nurl = \"https://docker.io\"\n[[repository.hub.upstream]]\npassword = \"p\"",
                true,
            ),
            ("[[repository.hub.upstream]]\npassword_file = \"p\"", false),
            ("[identity.ci]\nusername = \"ci\"", false),
            ("[repository.\"*\".access_policy]\nrules = [\"identity.username == 'password'\"]", false),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(has_secrets(&file), has_a_secret, "{text}");
        }
    }
}
