//! Reads a file.

use std::{fs, io::Read, path::Path};

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
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes));
    read.map_err(|error| Problem::without_place(format!("{name} cannot be read: {error}"), help))?;
    if bytes.len() as u64 > most {
        let says = format!("{name} is larger than {most} bytes");
        return Err(Problem::without_place(says, "split it into several files").into());
    }
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
