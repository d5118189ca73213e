//! Decides which tags are immutable.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::covering::covering;
use super::model::{Config, ImmutableTags};
use crate::oci::{Name, Tag};

/// The immutable tags of one repository, and whether they may be deleted. Each of the two keys is taken from the
/// table with the longest prefix that states it.
#[derive(Clone, Debug, Default)]
pub struct ImmutableRule {
    tags: Arc<Tags>,
    allow_delete: bool,
}

/// `immutable_tags` of one table.
#[derive(Debug, Default)]
struct Tags {
    /// The table's key in the configuration.
    table: String,
    matcher: TagMatcher,
}

#[derive(Debug, Default)]
enum TagMatcher {
    #[default]
    None,
    All,
    Matching(Vec<Regex>),
}

/// The rules of all repositories, their patterns compiled: part of what requests are decided by.
#[derive(Clone, Debug, Default)]
pub struct ImmutableRules {
    /// By the table's name: a prefix, or `*`.
    tables: BTreeMap<String, ImmutableRule>,
}

/// Patterns of tags, compiled.
#[derive(Debug)]
pub struct TagPatterns(Vec<Regex>);

impl TagPatterns {
    /// Compiles patterns. A wrong one, of a configuration made by hand, covers no tag.
    #[must_use]
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().filter_map(|text| pattern(text).ok()).collect())
    }

    /// Returns true if one of the patterns is found in a tag.
    #[must_use]
    pub fn cover(&self, tag: &Tag) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(tag.as_str()))
    }
}

/// Compiles a pattern of tags; the error is why it is none.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).build()
}

impl Config {
    /// Finds the immutable tags of a repository. Compiles the patterns: to ask often, use [`ImmutableRules`].
    #[must_use]
    pub fn immutable_tags(&self, name: &Name) -> ImmutableRule {
        let tags = self.stated(name.as_str(), |table| table.immutable_tags.as_ref());
        let tags = tags.map(|(prefix, stated)| Arc::new(Tags::new(prefix, stated))).unwrap_or_default();
        ImmutableRule { tags, allow_delete: self.allow_delete(name.as_str()) }
    }

    fn allow_delete(&self, name: &str) -> bool {
        self.stated(name, |table| table.allow_delete.as_ref()).is_some_and(|(_, allow)| *allow)
    }
}

impl ImmutableRules {
    /// Builds the rules of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let stating = config.repository.iter().filter_map(|(prefix, table)| {
            let stated = table.immutable_tags.as_ref()?;
            Some((prefix.as_str(), Arc::new(Tags::new(prefix, stated))))
        });
        // The patterns are compiled once, for all tables with a longer prefix that leave the key to this one.
        let stating: BTreeMap<&str, Arc<Tags>> = stating.collect();
        let rule = |prefix: &String| {
            let tags = covering(prefix).find_map(|prefix| stating.get(prefix)).cloned().unwrap_or_default();
            (prefix.clone(), ImmutableRule { tags, allow_delete: config.allow_delete(prefix) })
        };
        Self { tables: config.repository.keys().map(rule).collect() }
    }

    /// Returns that of a repository.
    #[must_use]
    pub fn of(&self, name: &Name) -> ImmutableRule {
        covering(name.as_str()).find_map(|prefix| self.tables.get(prefix)).cloned().unwrap_or_default()
    }
}

impl Tags {
    fn new(prefix: &str, stated: &ImmutableTags) -> Self {
        let matcher = match stated {
            ImmutableTags::None => TagMatcher::None,
            ImmutableTags::All => TagMatcher::All,
            ImmutableTags::Matching(texts) => TagMatcher::Matching(texts.iter().map(|text| compiled(text)).collect()),
        };
        Self { table: prefix.to_owned(), matcher }
    }
}

impl ImmutableRule {
    /// Returns true if a tag is immutable.
    #[must_use]
    pub fn covers(&self, tag: &Tag) -> bool {
        match &self.tags.matcher {
            TagMatcher::None => false,
            TagMatcher::All => true,
            TagMatcher::Matching(patterns) => patterns.iter().any(|pattern| pattern.is_match(tag.as_str())),
        }
    }

    /// Returns true if no tag can be immutable.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.tags.matcher, TagMatcher::None)
    }

    /// Returns true if immutable tags, and manifests that they mean, may be deleted by clients whom policy lets
    /// delete.
    #[must_use]
    pub fn allow_delete(&self) -> bool {
        self.allow_delete
    }

    /// Returns the configuration's key that covers `tag`, and its value, for messages.
    #[must_use]
    pub fn says(&self, tag: &Tag) -> String {
        let key = format!("[repository.\"{}\"] immutable_tags", self.tags.table);
        match &self.tags.matcher {
            TagMatcher::None => key,
            TagMatcher::All => format!("{key} = true"),
            TagMatcher::Matching(patterns) => {
                let found = patterns.iter().find(|pattern| pattern.is_match(tag.as_str()));
                format!("{key}: {}", found.map_or("", Regex::as_str))
            }
        }
    }
}

/// Compiles a pattern that was checked when the configuration was read. A wrong pattern of a configuration made by
/// hand covers all tags, so no tag loses its protection.
fn compiled(text: &str) -> Regex {
    let everything = || Regex::new("").unwrap_or_else(|error| unreachable!("the empty pattern is one: {error}"));
    pattern(text).unwrap_or_else(|_| everything())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Source;

    fn config(text: &str) -> Config {
        Config::from_sources(&[Source::new("config.toml", text)]).unwrap()
    }

    #[test]
    fn each_key_is_taken_from_the_table_with_the_longest_prefix_that_states_it() {
        let config = config(
            r#"
            [repository."*"]
            immutable_tags = true
            [repository."team"]
            immutable_tags = ["^v[0-9]", "-final$"]
            allow_delete = true
            [repository."team/free"]
            immutable_tags = false
            [repository."team/free/strict"]
            allow_delete = false
            [repository."team/limited".access_policy]
            default_allow = true
            "#,
        );
        let rules = ImmutableRules::new(&config);
        for (name, tag, covered, deletable) in [
            ("other/app", "latest", true, false),
            ("teams/app", "latest", true, false),
            ("team", "v1", true, true),
            ("team/app", "v1.2.3", true, true),
            ("team/app/deep", "x-final", true, true),
            ("team/app", "latest", false, true),
            ("team/app", "xv1", false, true),
            ("team/free", "v1", false, true),
            ("team/free/er", "v1", false, true),
            ("team/free/strict", "v1", false, false),
            // A table with other keys leaves these keys to the next shorter prefix.
            ("team/limited", "v1", true, true),
            ("team/limited/app", "latest", false, true),
        ] {
            let (name, tag) = (name.parse().unwrap(), tag.parse().unwrap());
            for rule in [rules.of(&name), config.immutable_tags(&name)] {
                assert_eq!((rule.covers(&tag), rule.allow_delete()), (covered, deletable), "{name}:{tag}");
            }
        }
        let says = rules.of(&"team/limited/app".parse().unwrap()).says(&"v1".parse().unwrap());
        assert_eq!(says, "[repository.\"team\"] immutable_tags: ^v[0-9]");
    }

    #[test]
    fn without_a_table_no_tag_is_immutable() {
        assert!(!config("").immutable_tags(&"a".parse().unwrap()).covers(&"v1".parse().unwrap()));
    }
}
