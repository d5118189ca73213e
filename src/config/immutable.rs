//! Which tags keep the meaning that they were first given.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::model::{Config, ImmutableTags, Repository};
use crate::oci::{Name, Tag};

/// Which tags of one repository are immutable: what the table with the longest prefix that covers it says.
#[derive(Clone, Debug, Default)]
pub struct ImmutableRule(Arc<Rule>);

#[derive(Debug, Default)]
struct Rule {
    /// The table's key in the configuration.
    table: String,
    covers: Covers,
    allow_delete: bool,
}

#[derive(Debug, Default)]
enum Covers {
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

/// Compiles a pattern of `immutable_tags`; the error is why it is none.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).build()
}

impl Config {
    /// Which tags of a repository are immutable. Compiles the patterns: [`ImmutableRules`] is for who asks often.
    #[must_use]
    pub fn immutable_tags(&self, name: &Name) -> ImmutableRule {
        let covering = covering(name).find_map(|prefix| self.repository.get_key_value(prefix));
        covering.map_or_else(ImmutableRule::default, |(prefix, table)| ImmutableRule::new(prefix, table))
    }
}

impl ImmutableRules {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let rule = |(prefix, table): (&String, &Repository)| (prefix.clone(), ImmutableRule::new(prefix, table));
        Self { tables: config.repository.iter().map(rule).collect() }
    }

    /// That of a repository.
    #[must_use]
    pub fn of(&self, name: &Name) -> ImmutableRule {
        covering(name).find_map(|prefix| self.tables.get(prefix)).cloned().unwrap_or_default()
    }
}

impl ImmutableRule {
    fn new(prefix: &str, table: &Repository) -> Self {
        let covers = match &table.immutable_tags {
            ImmutableTags::None => Covers::None,
            ImmutableTags::All => Covers::All,
            ImmutableTags::Matching(texts) => Covers::Matching(texts.iter().map(|text| compiled(text)).collect()),
        };
        Self(Arc::new(Rule { table: prefix.to_owned(), covers, allow_delete: table.allow_delete }))
    }

    /// Whether a tag keeps the meaning that it was first given.
    #[must_use]
    pub fn covers(&self, tag: &Tag) -> bool {
        match &self.0.covers {
            Covers::None => false,
            Covers::All => true,
            Covers::Matching(patterns) => patterns.iter().any(|pattern| pattern.is_match(tag.as_str())),
        }
    }

    /// Whether there is any tag that it could cover.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.0.covers, Covers::None)
    }

    /// Whether such tags, and manifests that they mean, may be deleted by whoever policy lets delete.
    #[must_use]
    pub fn allow_delete(&self) -> bool {
        self.0.allow_delete
    }

    /// The configuration's key that says so of `tag`, and what it says there, for messages.
    #[must_use]
    pub fn says(&self, tag: &Tag) -> String {
        let key = format!("[repository.\"{}\"] immutable_tags", self.0.table);
        match &self.0.covers {
            Covers::None => key,
            Covers::All => format!("{key} = true"),
            Covers::Matching(patterns) => {
                let found = patterns.iter().find(|pattern| pattern.is_match(tag.as_str()));
                format!("{key}: {}", found.map_or("", Regex::as_str))
            }
        }
    }
}

/// A pattern that was checked when the configuration was read. One of a configuration made by hand that is none covers all:
/// what was meant to be kept is not lost.
fn compiled(text: &str) -> Regex {
    let everything = || Regex::new("").unwrap_or_else(|error| unreachable!("the empty pattern is one: {error}"));
    pattern(text).unwrap_or_else(|_| everything())
}

/// The tables that cover a repository, the longest prefix first.
fn covering(name: &Name) -> impl Iterator<Item = &str> {
    let whole = name.as_str();
    let shorter = whole.rmatch_indices('/').map(|(at, _)| &whole[..at]);
    std::iter::once(whole).chain(shorter).chain(["*"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn config(text: &str) -> Config {
        Config::from_sources(&[Source { name: "config.toml".to_owned(), text: text.to_owned() }]).unwrap()
    }

    #[test]
    fn the_table_with_the_longest_prefix_says_which_tags_are_immutable() {
        let config = config(
            r#"
            [repository."*"]
            immutable_tags = true
            [repository."team"]
            immutable_tags = ["^v[0-9]", "-final$"]
            allow_delete = true
            [repository."team/free"]
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
            ("team/free", "v1", false, false),
            ("team/free/er", "v1", false, false),
        ] {
            let (name, tag) = (name.parse().unwrap(), tag.parse().unwrap());
            for rule in [rules.of(&name), config.immutable_tags(&name)] {
                assert_eq!((rule.covers(&tag), rule.allow_delete()), (covered, deletable), "{name}:{tag}");
            }
        }
        let says = rules.of(&"team/app".parse().unwrap()).says(&"v1".parse().unwrap());
        assert_eq!(says, "[repository.\"team\"] immutable_tags: ^v[0-9]");
    }

    #[test]
    fn without_a_table_no_tag_is_immutable() {
        assert!(!config("").immutable_tags(&"a".parse().unwrap()).covers(&"v1".parse().unwrap()));
    }
}
