//! Shows for `policy explain` the table of the configuration that gives each key of a repository.

use std::fmt::Write;

use serde_json::Value;

use crate::config::Config;

/// Returns the table that gives a key, as it is written in the configuration.
fn table(prefix: &str) -> String {
    format!("[repository.{prefix:?}]")
}

/// Returns a line for each key of `[repository."..."]`: its table, or that none states it.
pub(super) fn text(config: &Config, repository: &str) -> String {
    let mut text = format!("tables of {repository}\n");
    for (key, prefix) in config.stating(repository) {
        let from = prefix.map_or_else(|| "not stated".to_owned(), table);
        let _ = writeln!(text, "   {key:<16} {from}");
    }
    text
}

/// Returns the same by key; `null` where no table states it.
pub(super) fn json(config: &Config, repository: &str) -> Value {
    config.stating(repository).into_iter().map(|(key, prefix)| (key, Value::from(prefix.map(table)))).collect()
}
