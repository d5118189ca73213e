//! Limits the use of a token by scopes, in the words of Docker's token protocol ("Token Scope Documentation" of the
//! distribution project): `repository:team/app:pull,push`, `registry:catalog:*`.
//!
//! Scopes bind the token alone. Policy still decides, whatever a token's scope.

use std::collections::BTreeMap;
use std::fmt;

use crate::action::{Access, Action};
use crate::oci::{Name, name::NameError};

/// Most repositories that one token is for.
const MOST: usize = 100;

/// A set of scopes. Empty: for nothing but the question who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    repositories: BTreeMap<Name, Rights>,
    catalog: bool,
    metrics: bool,
}

/// Why a text is not a list of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not three parts.
    #[error("a scope is written as <type>:<name>:<actions>, such as repository:team/app:pull,push")]
    Form,
    /// A repository name that is none. With a port in it, too.
    #[error("a scope names a repository that cannot be: {0}; the registry's own address is no part of it")]
    Name(#[from] NameError),
    /// More than a token can carry.
    #[error("a token is for at most {MOST} repositories")]
    TooMany,
}

/// The rights in a repository: a set of the bits below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights(u8);

impl Rights {
    const PULL: Self = Self(1);
    const PUSH: Self = Self(2);
    const DELETE: Self = Self(4);
    const ALL: Self = Self(7);
    /// The words for them, in the order in which they are written.
    const WORDS: [(&'static str, Self); 3] = [("pull", Self::PULL), ("push", Self::PUSH), ("delete", Self::DELETE)];

    /// Words that are not known give no right.
    fn parse(words: &str) -> Self {
        let right = |word: &str| match word {
            "*" => Self::ALL,
            word => Self::WORDS.iter().find(|(known, _)| *known == word).map_or(Self(0), |(_, right)| *right),
        };
        words.split(',').map(right).fold(Self(0), Self::and)
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the rights that an access needs.
    fn for_access(access: Access) -> Self {
        if access == Access::Pull || access == Access::List {
            Self::PULL
        } else if access == Access::Push {
            Self::PUSH
        } else if access == Access::Delete {
            Self::DELETE
        } else {
            Self::ALL
        }
    }
}

/// The scope that an action needs.
enum Need<'a> {
    Nothing,
    Repository(&'a Name, Rights),
    Catalog,
    Metrics,
}

fn need(action: &Action) -> Need<'_> {
    match action.name() {
        Some(name) => Need::Repository(name, Rights::for_access(action.access())),
        None => match action.as_str() {
            "get-api-version" => Need::Nothing,
            "list-catalog" => Need::Catalog,
            _ => Need::Metrics,
        },
    }
}

/// Returns the source repository of an action, beside the repository in its path.
const fn source(action: &Action) -> Option<&Name> {
    match action {
        Action::MountBlob { from, .. } => from.as_ref(),
        _ => None,
    }
}

impl Scopes {
    /// Reads the values of `scope` parameters; each may hold several scopes with spaces between. Types and actions that are
    /// not known are left out, since nothing needs them: a token may be for less than was asked.
    pub fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let mut scopes = Self::default();
        for scope in values.flat_map(|value| value.split(' ')).filter(|scope| !scope.is_empty()) {
            let (kind, rest) = scope.split_once(':').ok_or(ScopeError::Form)?;
            let (name, actions) = rest.rsplit_once(':').ok_or(ScopeError::Form)?;
            // repository(plugin): a class, which says nothing about what may be done
            let kind = kind.split_once('(').filter(|(_, class)| class.ends_with(')')).map_or(kind, |(kind, _)| kind);
            match (kind, name, Rights::parse(actions)) {
                ("repository", name, rights) => {
                    let name: Name = name.parse()?;
                    if rights != Rights::default() {
                        let had = scopes.repositories.entry(name).or_default();
                        *had = had.and(rights);
                    }
                    if scopes.repositories.len() > MOST {
                        return Err(ScopeError::TooMany);
                    }
                }
                ("registry", "catalog", Rights::ALL) => scopes.catalog = true,
                ("registry", "metrics", Rights::ALL) => scopes.metrics = true,
                _ => {}
            }
        }
        Ok(scopes)
    }

    /// Returns true if a token of these scopes may be used for an action. The ping needs none.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        match need(action) {
            Need::Nothing => true,
            Need::Repository(name, rights) => {
                self.has(name, rights) && source(action).is_none_or(|from| self.has(from, Rights::PULL))
            }
            Need::Catalog => self.catalog,
            Need::Metrics => self.metrics,
        }
    }

    fn has(&self, name: &Name, rights: Rights) -> bool {
        self.repositories.get(name).is_some_and(|had| had.covers(rights))
    }

    /// Returns true if the scopes allow nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes that they take, about.
    pub(super) fn weight(&self) -> usize {
        self.repositories.keys().map(|name| name.as_str().len() + 64).sum()
    }
}

impl fmt::Display for Scopes {
    /// Scopes with spaces between, sorted, as [`Scopes::parse`] reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repositories = self.repositories.iter().map(|(name, rights)| {
            let words = Rights::WORDS.iter().filter(|(_, right)| rights.covers(*right)).map(|(word, _)| *word);
            format!("repository:{}:{}", name.as_str(), words.collect::<Vec<_>>().join(","))
        });
        let registry = [("catalog", self.catalog), ("metrics", self.metrics)];
        let registry = registry.iter().filter(|(_, has)| *has).map(|(name, _)| format!("registry:{name}:*"));
        f.write_str(&registry.chain(repositories).collect::<Vec<_>>().join(" "))
    }
}

/// Returns the scope that a client must ask for before an action, for the `scope` of a challenge. `None`: any token
/// will do.
///
/// For a push it is `pull,push`, although `push` is enough: clients look for existing blobs first.
#[must_use]
pub fn scope_needed(action: &Action) -> Option<String> {
    match need(action) {
        Need::Nothing => None,
        Need::Catalog => Some("registry:catalog:*".to_owned()),
        Need::Metrics => Some("registry:metrics:*".to_owned()),
        Need::Repository(name, rights) => {
            let words = match rights {
                Rights::PULL => "pull",
                Rights::PUSH => "pull,push",
                Rights::DELETE => "delete",
                _ => "*",
            };
            let mut scope = format!("repository:{name}:{words}");
            if let Some(from) = source(action).filter(|from| *from != name) {
                scope += " repository:";
                scope += from.as_str();
                scope += ":pull";
            }
            Some(scope)
        }
    }
}
