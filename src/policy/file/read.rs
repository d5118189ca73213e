//! Reads policy files.

use std::{io, path::Path};

use super::limits::MAX_FILE;
use crate::diagnostics::{self, Problem, Problems, Source};

/// Reads the policy files of a directory: those directly in it that end in `.toml`, in the order of their names. Hidden
/// ones are left out, and so are subdirectories.
///
/// # Errors
/// A directory that is not there, a directory or file that cannot be read, a file that is not UTF-8 or larger than 256 KiB.
pub fn read_dir(dir: &Path) -> Result<Vec<Source>, Problems> {
    let failed = |error: &io::Error| {
        let help =
            "see that the server may read it; `policy_dir` names the directory of policies, and an empty one has none";
        Problem::without_place(format!("{} cannot be read: {error}", dir.display()), help)
    };
    let (mut files, mut problems) = (Vec::new(), Problems::default());
    for path in diagnostics::toml_files(dir).map_err(|error| failed(&error))? {
        match read_file(&path) {
            Ok(file) => files.push(file),
            Err(error) => problems.extend(error),
        }
    }
    problems.or(files)
}

/// Reads one policy file.
///
/// # Errors
/// A file that cannot be read, is not UTF-8 or larger than 256 KiB.
pub fn read_file(path: &Path) -> Result<Source, Problems> {
    diagnostics::read(path, MAX_FILE, None, "name a file that exists and may be read")
}
