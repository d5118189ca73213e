//! Limits the use of a token by scopes, in the words of Docker's token protocol ("Token Scope Documentation" of the
//! distribution project): `repository:team/app:pull,push`, `registry:catalog:*`.
//!
//! Scopes bind the token alone. Policy still decides, whatever a token's scope.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::action::{ACTIONS, Access, Action, Scope};
use crate::oci::Name;

/// The most repositories that one token is for.
const MOST: usize = 100;

/// A set of scopes. An empty set allows nothing but to prove an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    repositories: BTreeMap<Name, Rights>,
    /// The names behind `registry:`.
    registry: BTreeSet<&'static str>,
}

/// The reason why a text is not a list of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// More repositories than a token can name.
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

    /// Parses the words of a scope. An unknown word gives no right.
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
    const fn for_access(access: Access) -> Self {
        match access {
            Access::Pull | Access::List => Self::PULL,
            Access::Push => Self::PUSH,
            Access::Delete => Self::DELETE,
            Access::Admin => Self::ALL,
        }
    }
}

impl Scopes {
    /// Reads the values of `scope` parameters; each may hold several scopes with spaces between. Leaves out scopes that
    /// cannot be read, and types and actions that are not known: a token may be for less than was asked, and a client learns
    /// from the challenge of its next request what the token lacks.
    pub fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let mut scopes = Self::default();
        for scope in values.flat_map(|value| value.split(' ')).filter(|scope| !scope.is_empty()) {
            let Some((kind, rest)) = scope.split_once(':') else { continue };
            let Some((name, actions)) = rest.rsplit_once(':') else { continue };
            // repository(plugin): a class, which says nothing about what may be done
            let kind = kind.split_once('(').filter(|(_, class)| class.ends_with(')')).map_or(kind, |(kind, _)| kind);
            match (kind, name, Rights::parse(actions)) {
                ("repository", name, rights) => {
                    let Ok(name) = name.parse::<Name>() else { continue };
                    if rights != Rights::default() {
                        let had = scopes.repositories.entry(name).or_default();
                        *had = had.and(rights);
                    }
                    if scopes.repositories.len() > MOST {
                        return Err(ScopeError::TooMany);
                    }
                }
                ("registry", name, Rights::ALL) => {
                    scopes.registry.extend(ACTIONS.iter().filter_map(|row| match row.scope {
                        Scope::Registry(known) if known == name => Some(known),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        Ok(scopes)
    }

    /// Returns true if a token of these scopes may be used for an action. The ping needs none.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        self.cover(action, action.name())
    }

    /// Returns the same for a client that calls the action's repository `name`.
    #[must_use]
    pub fn covers_as(&self, action: &Action, name: &Name) -> bool {
        self.cover(action, Some(name))
    }

    fn cover(&self, action: &Action, name: Option<&Name>) -> bool {
        let (row, target) = (action.row(), action.target());
        let has = |name, rights| self.repositories.get(name).is_some_and(|had: &Rights| had.covers(rights));
        match (row.scope, name) {
            (Scope::Any, _) => true,
            (Scope::Registry(name), _) => self.registry.contains(name),
            (Scope::Repository, name) => {
                name.is_some_and(|name| has(name, Rights::for_access(row.access)))
                    && target.from.is_none_or(|from| has(from, Rights::PULL))
            }
        }
    }

    /// Returns true if the scopes allow nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns about how many bytes the scopes take.
    pub(super) fn weight(&self) -> usize {
        self.repositories.keys().map(|name| name.as_str().len() + 64).sum()
    }
}

impl fmt::Display for Scopes {
    /// Writes the scopes with spaces between, sorted, as [`Scopes::parse`] reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repositories = self.repositories.iter().map(|(name, rights)| {
            let words = Rights::WORDS.iter().filter(|(_, right)| rights.covers(*right)).map(|(word, _)| *word);
            format!("repository:{}:{}", name.as_str(), words.collect::<Vec<_>>().join(","))
        });
        let registry = self.registry.iter().map(|name| format!("registry:{name}:*"));
        f.write_str(&registry.chain(repositories).collect::<Vec<_>>().join(" "))
    }
}

/// Returns the scope that a client must ask for before an action, for the `scope` of a challenge. `None` means that any
/// token will do. `name` is the client's name for the action's repository.
///
/// A push gets `pull,push`, although `push` is enough: clients look for existing blobs first.
#[must_use]
pub fn scope_needed(action: &Action, name: Option<&Name>) -> Option<String> {
    let (row, target) = (action.row(), action.target());
    let name = match (row.scope, name) {
        (Scope::Registry(name), _) => return Some(format!("registry:{name}:*")),
        (Scope::Repository, Some(name)) => name,
        _ => return None,
    };
    let words = match row.access {
        Access::Pull | Access::List => "pull",
        Access::Push => "pull,push",
        Access::Delete => "delete",
        Access::Admin => "*",
    };
    let mut scope = format!("repository:{name}:{words}");
    if let Some(from) = target.from.filter(|from| *from != name) {
        scope += " repository:";
        scope += from.as_str();
        scope += ":pull";
    }
    Some(scope)
}
