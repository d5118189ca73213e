//! Appends lines to a file or to standard output.

use std::{fs::File, io, os::fd::AsFd as _};

use jiff::Timestamp;

use super::file;

/// The destination of lines.
pub(super) enum Sink {
    Stdout { file: File, torn: bool },
    File(Box<file::Log>),
}

impl Sink {
    /// Opens standard output, by a descriptor of its own: `io::stdout` would buffer.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned().map(File::from)?;
        Ok(Self::Stdout { file, torn: false })
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        match self {
            Self::File(log) => log.append(line, now),
            Self::Stdout { file, torn } => {
                // Bytes that were written to a pipe cannot be taken back.
                let whole;
                let bytes = if *torn {
                    whole = [b"\n", line].concat();
                    &whole
                } else {
                    line
                };
                let outcome = file::write_all(file, bytes);
                *torn = outcome.as_ref().map_or_else(|(written, _)| *written > 0 || *torn, |()| false);
                outcome.map_err(|(_, error)| error)
            }
        }
    }
}
