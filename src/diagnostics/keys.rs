//! The keys that a kind of file has.

/// The end of a part of a path that is a list of tables: `upstream[]`.
pub(crate) const LIST: &str = "[]";

/// The facts about a key that need no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// The path of the key, such as `server.port` or `repository."<namespace>".upstream[].url`.
    pub path: String,
    /// The description of its values: `an integer from 0 to 65535`.
    pub expects: String,
    /// The default as it would be written in a file. None: there is none.
    pub default: Option<&'static str>,
    /// True if a file must give the key where it gives its table.
    pub required: bool,
    /// A JSON schema of its values, which may accept more than the registry does.
    pub schema: serde_json::Value,
}

/// All keys of a kind of file, which errors suggest and whose values they show. Empty: no key is suggested.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<KeyFacts>);

impl Keys {
    pub(crate) const fn new(keys: Vec<KeyFacts>) -> Self {
        Self(keys)
    }

    /// Returns the keys, in the order in which they were read.
    pub(crate) fn facts(&self) -> &[KeyFacts] {
        &self.0
    }

    fn paths(&self) -> impl Iterator<Item = Vec<&str>> {
        self.0.iter().map(|key| key.path.split('.').collect())
    }

    /// Returns the names of all keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.paths().filter_map(|path| path.last().copied())
    }

    /// Returns true if some table has a key, or is a table, of this name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|key| key.path.split('.').any(|part| part.strip_suffix(LIST).unwrap_or(part) == name))
    }

    /// Returns true if there is such a key or table.
    pub(super) fn has_path(&self, path: &str) -> bool {
        let is_in = |key: &KeyFacts| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.0.iter().any(|key| key.path == path || is_in(key))
    }

    /// Returns the tables that have a key of this name, as errors show them.
    pub(super) fn tables_with(&self, key: &str) -> Vec<String> {
        let owners = self.paths().filter(|path| path.last() == Some(&key));
        owners
            .map(|path| match &path[..path.len() - 1] {
                [] => "the top of the file, before the first table".to_owned(),
                table => match table.join(".").strip_suffix(LIST) {
                    Some(list) => format!("`[[{list}]]`"),
                    None => format!("`[{}]`", table.join(".")),
                },
            })
            .collect()
    }
}
