//! The types of values, and all variables and functions.

use std::fmt;

use super::evaluate::FIRST_SEEN;
use crate::policy::input::{LISTS, TEXTS, TIMES};

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Text,
    /// A point in time.
    Time,
    /// A length of time.
    Span,
    List(Box<Type>),
    /// Tags of a repository in their order, by the time at this path. It is no `List`, since the
    /// functions on it cost the same for any number of tags.
    Tags(&'static str),
    /// Texts by text.
    Map,
    /// A type that fits everything: of an empty list, or of a part that has a fault already.
    Any,
}

impl Type {
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    /// Returns the type that is both.
    pub(super) fn unify(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, known) | (known, Self::Any) => Some(known.clone()),
            (Self::List(one), Self::List(two)) => one.unify(two).map(Self::list),
            (one, two) if one == two => Some(one.clone()),
            _ => None,
        }
    }

    /// Returns true if a value of this type may stand for one of the other.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.unify(other).is_some()
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "a boolean",
            Self::Int => "a number",
            Self::Text => "a text",
            Self::Time => "a time",
            Self::Span => "a duration",
            Self::List(of) => match **of {
                Self::Text => "a list of texts",
                Self::Bool => "a list of booleans",
                Self::Int => "a list of numbers",
                Self::List(_) => "a list of lists",
                _ => "a list",
            },
            Self::Tags(_) => "a list of tags",
            Self::Map => "a map of texts",
            Self::Any => "a value",
        })
    }
}

/// The kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Scope {
    /// Requests.
    Access,
    /// Images.
    Retention,
}

/// The variables of retention rules.
pub(super) const IMAGES: [(&str, Type); 10] = [
    ("image.tag", Type::Text),
    ("image.digest", Type::Text),
    ("image.media_type", Type::Text),
    ("image.size", Type::Int),
    (PUSHED_AT, Type::Time),
    (LAST_PULLED_AT, Type::Time),
    ("image.annotations", Type::Map),
    ("image.immutable", Type::Bool),
    ("last_pushed", Type::Tags(PUSHED_AT)),
    ("last_pulled", Type::Tags(LAST_PULLED_AT)),
];

/// The time that `last_pushed` is ordered by.
pub(super) const PUSHED_AT: &str = "image.pushed_at";
/// The time that `last_pulled` is ordered by.
pub(super) const LAST_PULLED_AT: &str = "image.last_pulled_at";

impl Scope {
    /// Returns the paths of all variables.
    pub(in crate::policy) fn variables(self) -> Vec<&'static str> {
        match self {
            Self::Access => TEXTS.into_iter().chain(LISTS).chain(TIMES).collect(),
            Self::Retention => IMAGES.iter().map(|(path, _)| *path).collect(),
        }
    }

    /// Returns the type of a variable, and the name by which evaluation knows it.
    pub(super) fn variable(self, path: &str) -> Option<(Type, String)> {
        if self == Self::Retention {
            let index = IMAGES.iter().position(|(known, _)| *known == path)?;
            return Some((IMAGES[index].1.clone(), format!("$i{index}")));
        }
        let text = TEXTS.iter().position(|known| *known == path).map(|index| (Type::Text, format!("$t{index}")));
        let list = || {
            LISTS.iter().position(|known| *known == path).map(|index| (Type::list(Type::Text), format!("$l{index}")))
        };
        let time =
            || TIMES.iter().position(|known| *known == path).map(|index| (Type::Time, format!("{FIRST_SEEN}{index}")));
        text.or_else(list).or_else(time)
    }

    /// Returns true if variables begin with this path and a dot.
    pub(super) fn is_group(self, path: &str) -> bool {
        self.variables().iter().any(|known| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Returns the names right below a group of variables.
    pub(super) fn members(self, group: &str) -> Vec<&'static str> {
        let below = self.variables().into_iter().filter_map(|known| {
            let rest = if group.is_empty() { known } else { known.strip_prefix(group)?.strip_prefix('.')? };
            rest.split('.').next()
        });
        let mut names: Vec<&str> = below.collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns all functions.
    pub(in crate::policy) fn functions(self) -> impl Iterator<Item = &'static Function> {
        FUNCTIONS.iter().filter(move |function| self == Self::Retention || !function.retention)
    }
}

/// The time at which the rules are asked, as it is written.
pub(in crate::policy) const NOW: &str = "now()";

/// A function, as it is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Function {
    pub(in crate::policy) name: &'static str,
    pub(in crate::policy) usage: &'static str,
    /// True if only retention rules have it.
    pub(in crate::policy) retention: bool,
}

const fn function(name: &'static str, usage: &'static str) -> Function {
    Function { name, usage, retention: false }
}

const fn keeping(name: &'static str, usage: &'static str) -> Function {
    Function { name, usage, retention: true }
}

/// All functions and macros.
const FUNCTIONS: [Function; 16] = [
    function("contains", "text.contains(\"part\") or list.contains(\"entry\")"),
    function("startsWith", "text.startsWith(\"begin\")"),
    function("endsWith", "text.endsWith(\"end\")"),
    function("matches", "text.matches(r'^pattern$')"),
    function("size", "size(text) or size(list)"),
    function("all", "list.all(x, condition)"),
    function("exists", "list.exists(x, condition)"),
    function("exists_one", "list.exists_one(x, condition)"),
    function("filter", "list.filter(x, condition)"),
    function("map", "list.map(x, value)"),
    function("now", NOW),
    function("timestamp", "timestamp('2026-12-24T00:00:00Z')"),
    function("days", "days(7)"),
    function("hours", "hours(12)"),
    function("minutes", "minutes(30)"),
    keeping("top", "top(image.tag, last_pushed, 10)"),
];

/// Everything that the rules of one kind of policy can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The paths of variables.
    pub variables: Vec<&'static str>,
    /// The names of functions.
    pub functions: Vec<&'static str>,
}

/// Returns the words of access rules, and those of retention rules.
#[must_use]
pub fn vocabularies() -> [Vocabulary; 2] {
    [Scope::Access, Scope::Retention].map(|scope| Vocabulary {
        variables: scope.variables(),
        functions: scope.functions().map(|function| function.name).collect(),
    })
}
