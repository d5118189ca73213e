//! The configuration: read from TOML files, checked whole, and then a value of plain types.
//!
//! Several files are laid over one another: tables merge, everything else is replaced by what comes later. Each file is
//! first checked on its own (syntax, unknown keys, types, limits), so that nothing wrong hides under a later file; then
//! the whole is. All problems are told at once, each with its place. The environment configures nothing.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `model` | the types |
//! | `decode`, `access` | every key with its default and limits |
//! | `keys` | which keys there are |
//! | `rule` | what a value may be: sizes, durations, words ... |
//! | `password` | what is accepted as the hash of a password |
//! | `section` | a table read key by key, and unknown keys |
//! | `document` | TOML with places; merging |
//! | `data_dir` | the configuration without a file |
//! | `covering` | which table gives each key of a repository |
//! | `immutable` | which tags of a repository are immutable |
//! | `changes` | which differences take effect after a restart |
//! | `error`, `mask` | what a person is shown, and what must not be |
//!
//! To add a key: a field in `model`, a line in `decode` or `access`, a row in `docs/reference/configuration.md` and a line
//! in `config.toml`; one in `changes` if it cannot change while the server runs; and another value for it in the test of
//! `changes`. The tests hold them together.

mod access;
mod changes;
mod covering;
mod data_dir;
mod decode;
mod document;
mod error;
mod immutable;
mod keys;
mod mask;
mod model;
mod password;
mod rule;
mod section;

use std::fs;
use std::path::{Path, PathBuf};

use document::Entries;
use error::{Problem, Snippet};
use section::Reading;

pub use data_dir::Login;
pub use error::{ConfigError, nearest};
pub use immutable::{ImmutableRule, ImmutableRules};
pub use model::*;
pub use password::check_password_hash;

/// One configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path, as it is shown in errors.
    pub name: String,
    /// The content of the file.
    pub text: String,
}

/// The facts about a key that need no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its path, such as `server.port` or `repository."<namespace>".access_policy.rules`.
    pub path: String,
    /// The description of its values: `an integer from 0 to 65535`.
    pub expects: String,
    /// Its default as it would be written in a file. None: there is none.
    pub default: Option<&'static str>,
}

impl Config {
    /// Reads files, a later one over those before it; no file at all means all defaults.
    ///
    /// # Errors
    /// All problems of all files: one that cannot be read, is not UTF-8 or not TOML; unknown keys, wrong types,
    /// impossible values; then what does not fit together.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        let mut unreadable: Option<ConfigError> = None;
        for path in paths {
            match read(path) {
                Ok(source) => sources.push(source),
                Err(error) => collect(&mut unreadable, error),
            }
        }
        match unreadable {
            None => Self::from_sources(&sources),
            Some(mut error) => {
                if let Err(more) = check_each(&sources) {
                    error.join(more);
                }
                Err(error)
            }
        }
    }

    /// Reads sources, a later one over those before it; no source at all means all defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_sources(sources: &[Source]) -> Result<Self, ConfigError> {
        let mut merged = Entries::new();
        for entries in check_each(sources)? {
            document::merge(&mut merged, entries);
        }
        let reading = Reading::new(sources, true);
        let config = decode::config(&reading, &merged);
        reading.finish().map(|_| config)
    }

    /// Returns every key, in the order of the reference.
    #[must_use]
    pub fn keys() -> &'static [KeyFacts] {
        &keys::KEYS
    }
}

impl Default for Config {
    fn default() -> Self {
        decode::config(&Reading::new(&[], false), &Entries::new())
    }
}

/// Checks each source on its own.
fn check_each(sources: &[Source]) -> Result<Vec<Entries>, ConfigError> {
    let mut trees = Vec::new();
    let mut wrong = None;
    for (index, source) in sources.iter().enumerate() {
        let tree = document::parse(index, source).and_then(|tree| {
            let reading = Reading::new(sources, false);
            decode::config(&reading, &tree);
            reading.finish().map(|_| tree)
        });
        match tree {
            Ok(tree) => trees.push(tree),
            Err(error) => collect(&mut wrong, error),
        }
    }
    wrong.map_or(Ok(trees), Err)
}

fn collect(errors: &mut Option<ConfigError>, error: ConfigError) {
    match errors {
        Some(errors) => errors.join(error),
        None => *errors = Some(error),
    }
}

fn read(path: &Path) -> Result<Source, ConfigError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| {
        let says = format!("{name} cannot be read: {error}");
        let help =
            "name a file that exists with `-c`; `simple-registry server --data-dir ./data` needs none".to_owned();
        ConfigError::new(vec![Problem { says, help, snippet: None }])
    })?;
    // Editors of some systems begin a file with a mark that is no part of its text.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).map(<[u8]>::to_vec).unwrap_or(bytes);
    String::from_utf8(bytes).map(|text| Source { name: name.clone(), text }).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let snippet = Some(Snippet::new(
            &Source { name: name.clone(), text },
            &(at..at + char::REPLACEMENT_CHARACTER.len_utf8()),
        ));
        let says = format!("{name} is not UTF-8: byte {at} begins no character");
        ConfigError::new(vec![Problem { says, help: "save the file as UTF-8".to_owned(), snippet }])
    })
}

/// Reads a duration as configuration files have it, `90s`, `15m` or `1 day`; nothing where it is none.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    rule::time_of(text)
}
