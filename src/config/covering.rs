//! Finds the `[repository."..."]` table that gives each key of a repository: the one with the longest prefix that states it.

use super::model::{Config, Repository};

impl Config {
    /// Returns what `key` gives for the table with the longest prefix that covers a name and states the key, with that
    /// prefix. `name` may be a prefix itself, `*` included.
    pub fn stated<'c, T: ?Sized>(
        &'c self,
        name: &str,
        key: impl Fn(&'c Repository) -> Option<&'c T>,
    ) -> Option<(&'c str, &'c T)> {
        let mut tables = covering(name).filter_map(|prefix| self.repository.get_key_value(prefix));
        tables.find_map(|(prefix, table)| Some((prefix.as_str(), key(table)?)))
    }

    /// Returns for each key of `[repository."..."]` the prefix of the table that gives it to a repository. `None`: no
    /// table that covers the repository states the key.
    #[must_use]
    pub fn stating(&self, name: &str) -> [(&'static str, Option<&str>); 10] {
        let by = |states: fn(&Repository) -> bool| {
            self.stated(name, |table| states(table).then_some(&())).map(|(prefix, ())| prefix)
        };
        [
            ("access_policy", by(|table| table.access_policy.is_some())),
            ("retention_policy", by(|table| table.retention_rules.is_some())),
            ("immutable_tags", by(|table| table.immutable_tags.is_some())),
            ("allow_delete", by(|table| table.allow_delete.is_some())),
            ("upstream", by(|table| table.upstream.is_some())),
            ("manifest_ttl", by(|table| table.manifest_ttl.is_some())),
            ("cooldown", by(|table| table.cooldown.is_some())),
            ("stale_if_error", by(|table| table.stale_if_error.is_some())),
            ("cooldown_exceptions", by(|table| table.cooldown_exceptions.is_some())),
            ("refresh", by(|table| table.refresh.is_some())),
        ]
    }
}

/// Returns the prefixes that cover a repository, the longest first.
pub(crate) fn covering(name: &str) -> impl Iterator<Item = &str> {
    let shorter = name.rmatch_indices('/').map(|(at, _)| &name[..at]);
    std::iter::once(name).chain(shorter).chain(["*"])
}
