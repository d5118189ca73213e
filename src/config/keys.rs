//! Lists the keys of the configuration, from the code that reads them, so the list is never out of date.

use std::sync::LazyLock;

use super::section::Reading;
use super::{KeyFacts, Source, decode, document};

/// All keys, found by reading a configuration that has each table.
pub(super) static KEYS: LazyLock<Vec<KeyFacts>> = LazyLock::new(|| {
    let text = "storage.s3 = {}\nrepository.namespace = {}\nidentity.id = {}".to_owned();
    let sources = [Source { name: String::new(), text }];
    let entries = document::parse(0, &sources[0]).unwrap_or_default();
    let reading = Reading::new(&[], false);
    decode::config(&reading, &entries);
    let keys = reading.finish().unwrap_or_default().into_iter();
    let any = |path: &str| path.replace("repository.namespace", ANY_REPOSITORY).replace("identity.id.", ANY_IDENTITY);
    keys.map(|key| KeyFacts { path: any(&key.path), ..key }).collect()
});

/// How the free key of `[repository."..."]` is written in the path of a key.
const ANY_REPOSITORY: &str = "repository.\"<namespace>\"";
/// The same for `[identity.<id>]`.
const ANY_IDENTITY: &str = "identity.<id>.";

/// Returns the parts of all paths. A namespace is no key, nor is an id.
fn paths() -> impl Iterator<Item = Vec<&'static str>> {
    KEYS.iter().map(|key| key.path.split('.').collect())
}

/// Returns true if some table has a key, or is a table, of this name.
pub(super) fn is_key(name: &str) -> bool {
    paths().any(|path| path.contains(&name))
}

/// Returns the names of all keys.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    paths().filter_map(|path| path.last().copied())
}

/// Returns true if there is such a key or table.
pub(super) fn is_path(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path || key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Returns the names of the keys and tables in a table.
pub(super) fn children(table: &[String]) -> Vec<String> {
    let matches = |part: &str, name: &str| part == name || part.starts_with(['"', '<']);
    let mut names: Vec<String> = paths()
        .filter(|path| path.len() > table.len() && path.iter().zip(table).all(|(part, name)| matches(part, name)))
        .map(|path| path[table.len()].to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the tables that have a key of this name, as they are shown.
pub(super) fn tables_with(key: &str) -> Vec<String> {
    let owners = paths().filter(|path| path.last() == Some(&key));
    owners
        .map(|path| match &path[..path.len() - 1] {
            [] => "the top of the file, before the first table".to_owned(),
            table => format!("`[{}]`", table.join(".")),
        })
        .collect()
}

/// Writes a path as in a file: parts that are no bare keys are quoted.
pub(super) fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let quote = |part: &str| match part {
        bare if !bare.is_empty() && bare.chars().all(is_bare) => bare.to_owned(),
        part => format!("{part:?}"),
    };
    parts.into_iter().map(quote).collect::<Vec<_>>().join(".")
}
