//! Reads configuration files, checks them, and lays them over one another.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{decode, keys::KEYS, model::Config};
use crate::diagnostics::{self, Entries, KeyFacts, Keys, Problem, Problems, Reading, Source};

/// The largest file of configuration, in bytes.
const LARGEST: u64 = 16 << 20;

impl Config {
    /// Reads files, a later one over those before it; no file at all means all defaults.
    ///
    /// # Errors
    /// All problems of all files: one that cannot be read, is not UTF-8 or not TOML; unknown keys, wrong types,
    /// impossible values; then what does not fit together.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Problems> {
        let mut sources = Vec::new();
        let mut unreadable = Problems::default();
        for path in in_folders(paths) {
            match path.and_then(|path| read(&path)) {
                Ok(source) => sources.push(source),
                Err(problems) => unreadable.extend(problems),
            }
        }
        if unreadable.iter().next().is_none() {
            return Self::from_sources(&sources);
        }
        if let Err(more) = check_each(&hiding(&sources)) {
            unreadable.extend(more);
        }
        Err(unreadable)
    }

    /// Reads sources, a later one over those before it; no source at all means all defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_sources(sources: &[Source]) -> Result<Self, Problems> {
        let sources = hiding(sources);
        let mut merged = Entries::new();
        for entries in check_each(&sources)? {
            diagnostics::merge(&mut merged, entries);
        }
        let reading = Reading::new(&sources, &KEYS, true);
        let config = decode::config(&reading, &merged);
        reading.finish().map(|_| config)
    }

    /// Returns every key, in the order of the reference.
    #[must_use]
    pub fn keys() -> &'static [KeyFacts] {
        KEYS.facts()
    }
}

impl Default for Config {
    fn default() -> Self {
        decode::config(&Reading::new(&[], &Keys::default(), false), &Entries::new())
    }
}

/// Returns the sources as errors may show them: without secrets.
fn hiding(sources: &[Source]) -> Vec<Arc<Source>> {
    sources.iter().map(|source| Arc::new(source.clone().hiding(&KEYS))).collect()
}

/// Checks each source on its own.
fn check_each(sources: &[Arc<Source>]) -> Result<Vec<Entries>, Problems> {
    let mut trees = Vec::new();
    let mut problems = Problems::default();
    for (index, source) in sources.iter().enumerate() {
        let tree = diagnostics::parse(index, source, &KEYS).and_then(|tree| {
            let reading = Reading::new(sources, &KEYS, false);
            decode::config(&reading, &tree);
            reading.finish().map(|_| tree)
        });
        match tree {
            Ok(tree) => trees.push(tree),
            Err(error) => problems.extend(error),
        }
    }
    problems.or(trees)
}

/// Returns the configuration files: for each folder, the files in it that end in `.toml`, in the order of their names, and
/// every other path as it is.
///
/// # Errors
/// A folder that cannot be read, or that has no such file.
pub fn in_folders(paths: &[PathBuf]) -> Vec<Result<PathBuf, Problems>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(Ok(path.clone()));
            continue;
        }
        match diagnostics::toml_files(path) {
            Ok(files) if files.is_empty() => {
                let says = format!("{} has no file that ends in .toml", path.display());
                let help = "put a configuration file into it, or name one with `-c`";
                found.push(Err(Problem::without_place(says, help).into()));
            }
            Ok(files) => found.extend(files.into_iter().map(Ok)),
            Err(error) => {
                let says = format!("{} cannot be read: {error}", path.display());
                found.push(Err(Problem::without_place(says, "see that the server may read it").into()));
            }
        }
    }
    found
}

fn read(path: &Path) -> Result<Source, Problems> {
    let help = "name a file that exists with `-c`; `simple-registry server --data-dir ./data` needs none";
    diagnostics::read(path, LARGEST, Some(&KEYS), help)
}
