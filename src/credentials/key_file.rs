//! Reads and makes the file of the key that signs tokens: 32 random bytes, as base64 in one line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::RngCore as _;
use zeroize::Zeroizing;

use crate::diagnostics;

/// A key of HMAC-SHA256 (RFC 2104, section 3: as long as its output).
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The reason why there is no key for tokens.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key that tokens are signed with, {} (`token.signing_key`), cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// There is none, and none can be made.
    #[error(
        "there is no key to sign tokens with, and none can be made at {} (`token.signing_key`): {error}; name a place that \
         can be written to",
        path.display()
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} (`token.signing_key`) is not a key, which is 32 random bytes as base64 in one line (`openssl rand -base64 32`); \
         move it away, and a new one is made at the next start, for which everybody logs in again",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Loads the key of a file, and returns a warning about the file. Makes a missing file, readable by its owner alone.
pub(super) fn load_or_create(path: &Path) -> Result<(Key, Option<String>), KeyError> {
    match diagnostics::open_plain(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|error| KeyError::Create { path: path.to_owned(), error })?;
            // read, not remembered: another server that starts on the same file may have been first
            diagnostics::open_plain(path)
                .map_err(|error| KeyError::Read { path: path.to_owned(), error })
                .and_then(|file| load(path, file))
        }
        Err(error) => Err(KeyError::Read { path: path.to_owned(), error }),
    }
}

fn load(path: &Path, file: File) -> Result<(Key, Option<String>), KeyError> {
    let wrong = |error| KeyError::Read { path: path.to_owned(), error };
    let malformed = || KeyError::Malformed { path: path.to_owned() };
    let mode = file.metadata().map_err(wrong)?.mode();
    let mut text = Zeroizing::new(String::with_capacity(128));
    match file.take(128).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(malformed()),
        Err(error) => return Err(wrong(error)),
    }
    let mut key = Key::default();
    let mut bytes = Zeroizing::new([0; 96]);
    let length = STANDARD.decode_slice(text.trim_end(), bytes.as_mut()).map_err(|_| malformed())?;
    if length != key.len() {
        return Err(malformed());
    }
    key.copy_from_slice(&bytes[..length]);
    // Secrets that are mounted into a container often are readable by a group, so this is not refused.
    let warning = (mode & 0o007 != 0).then(|| {
        format!(
            "{} (`token.signing_key`) can be read by everybody on this machine, who can make themselves tokens with it: \
             `chmod 600` it",
            path.display()
        )
    });
    Ok((key, warning))
}

/// Creates the file of a key, whole and on the disk. A file that another process has created first is no error.
fn create(path: &Path) -> io::Result<()> {
    let mut key = Key::default();
    rand::rng().fill_bytes(key.as_mut());
    let text = Zeroizing::new(STANDARD.encode(key.as_slice()) + "\n");
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = dir.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    let removed = fs::remove_file(&temporary);
    written?;
    removed?;
    File::open(dir)?.sync_all()
}
