//! The configuration: read from TOML files, checked whole, and then a value of plain types.
//!
//! Several files are laid over one another: tables merge, a later file replaces everything else. Each file is first checked
//! on its own (syntax, unknown keys, types, limits), so nothing wrong hides under a later file; then the whole is. All
//! problems are told at once, each with its place. The environment configures nothing.
//!
//! | file | content |
//! | --- | --- |
//! | `model` | the types |
//! | `load` | reads files, checks them, and lays them over one another |
//! | `decode`, `access`, `upstream` | every key with its default and limits |
//! | `paths`, `password` | texts that are checked: paths, names of buckets, hashes of passwords |
//! | `keys`, `schema` | list the keys, for errors and for editors |
//! | `data_dir` | the configuration without a file |
//! | `covering` | finds the table that gives each key of a repository |
//! | `immutable` | decides which tags of a repository are immutable |
//! | `mirrors` | finds the repository that a client means by a name of another registry |
//! | `changes` | finds the differences that take effect after a restart |
//!
//! To add a key: a field in `model`, a line in `decode` or `access`, a row in `docs/reference/configuration.md` and a line
//! in `config.toml`; one in `changes` if it cannot change while the server runs; and another value for it in the test of
//! `changes`. The tests hold them together.

mod access;
mod changes;
mod covering;
mod data_dir;
mod decode;
mod immutable;
mod keys;
mod load;
mod mirrors;
mod model;
mod password;
mod paths;
mod schema;
mod upstream;

use crate::diagnostics::rule;

pub(crate) use self::covering::covering;
pub use self::{
    data_dir::Login,
    immutable::{ImmutableRule, ImmutableRules, TagPatterns},
    load::in_folders,
    mirrors::{Meant, Mirrors, NotMirrored},
    model::*,
    password::check_password_hash,
};

/// Reads a duration as configuration files have it, `90s`, `15m` or `1 day`. Returns nothing if it is none.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    rule::time_of(text)
}
