//! Reads files. Opens plain files alone: reading a pipe may wait for ever, and a device may have no end.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    keys::Keys,
    problem::{Problem, Problems},
    source::Source,
};

/// Reads a file of up to `most` bytes. With `keys`, errors hide what [`Source::hiding`] says.
///
/// # Errors
/// The file cannot be read, is too large or is not UTF-8. `help` is the next step if there is no such file.
pub(crate) fn read(path: &Path, most: u64, keys: Option<&'static Keys>, help: &str) -> Result<Source, Problems> {
    let name = path.display().to_string();
    let bytes = read_plain(path, most).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            let says = format!("{name} is larger than {most} bytes");
            Problem::without_place(says, "split it into several files")
        }
        _ => Problem::without_place(format!("{name} cannot be read: {error}"), help),
    })?;
    // Editors of some systems begin a file with a mark that is no part of its text.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).map(<[u8]>::to_vec).unwrap_or(bytes);
    let source = |text: String| {
        let source = Source::new(&name, text);
        keys.map_or(source.clone(), |keys| source.hiding(keys))
    };
    String::from_utf8(bytes).map(source).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let source = source(String::from_utf8_lossy(error.as_bytes()).into_owned());
        let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        let says = format!("{name} is not UTF-8: byte {at} begins no character");
        Problem::new(&source, &span, says, "save the file as UTF-8").into()
    })
}

/// Reads a plain file of up to `most` bytes.
///
/// # Errors
/// Those of [`open_plain`], and [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
    let file = open_plain(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large());
    }
    // at once, so that a secret is not copied while the buffer grows
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default().saturating_add(1));
    // a file may grow while it is read
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// Opens a plain file for reading. Does not wait for another process.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a directory, a pipe, a device or a socket, and those of the system.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    // before it is opened, since opening a device may do something
    check_plain(&path.metadata()?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    check_plain(&file.metadata()?)?;
    Ok(file)
}

fn check_plain(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let message = format!("it is {}, and only plain files are read", kind(metadata.file_type()));
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Returns the files of a folder that end in `.toml`, in the order of their names: those directly in it. Hidden ones are left
/// out.
///
/// # Errors
/// Those of the system.
pub(crate) fn toml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
