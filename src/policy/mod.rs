//! Who may do what.
//!
//! The one way to an operation of the registry is through a [`Permit`], and only this module makes one: a dispatch that
//! was not authorized does not compile.

use std::collections::BTreeMap;

use crate::{action::Action, identity::Identity, oci::Name};

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The default of the top-level access policy: for requests about no repository.
    default_allow: Option<bool>,
    /// What covers repositories, by prefix.
    repositories: BTreeMap<String, Option<bool>>,
}

/// An action that policy allowed.
#[derive(Debug)]
pub struct Permit {
    action: Action,
}

/// Why policy did not allow an action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No table of the configuration covers the repository.
    #[error("there is no repository {0}: no [repository.\"...\"] of the configuration covers it")]
    NotCovered(Name),
    /// No rule allows it, and the default does not.
    #[error("{action} is not allowed: {default}")]
    Denied {
        /// The action's name.
        action: &'static str,
        /// The default that decided.
        default: String,
    },
}

impl Permit {
    /// The action that is allowed.
    #[must_use]
    pub const fn action(&self) -> &Action {
        &self.action
    }

    /// The action that is allowed, to do it.
    #[must_use]
    pub fn into_action(self) -> Action {
        self.action
    }
}

impl Policy {
    /// The policy of a default for requests about no repository, and of one for each prefix of repository names
    /// (`*` covers the rest).
    #[must_use]
    pub fn new(default_allow: Option<bool>, repositories: impl IntoIterator<Item = (String, Option<bool>)>) -> Self {
        Self { default_allow, repositories: repositories.into_iter().collect() }
    }

    /// Decides about an action.
    pub fn authorize(&self, identity: &Identity, action: Action) -> Result<Permit, Refusal> {
        self.decide(identity, &action).map(|()| Permit { action })
    }

    fn decide(&self, _identity: &Identity, action: &Action) -> Result<(), Refusal> {
        let (allowed, default) = match action.name() {
            // the ping tells no more than that this is a registry, and no client goes on without it
            None if matches!(action, Action::GetApiVersion) => (true, String::new()),
            None => (self.default_allow.unwrap_or(false), "[access_policy] default_allow".to_owned()),
            Some(name) => {
                let (prefix, default) = self.covering(name).ok_or_else(|| Refusal::NotCovered(name.clone()))?;
                (default.unwrap_or(false), format!("[repository.\"{prefix}\".access_policy] default_allow"))
            }
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::Denied { action: action.as_str(), default: default + " is not true" })
        }
    }

    /// The longest prefix of whole components that covers a name, and its default.
    fn covering(&self, name: &Name) -> Option<(&str, Option<bool>)> {
        let mut prefix = name.as_str();
        loop {
            if let Some((prefix, default)) = self.repositories.get_key_value(prefix) {
                return Some((prefix, *default));
            }
            match prefix.rsplit_once('/') {
                Some((shorter, _)) => prefix = shorter,
                None => {
                    return self.repositories.get_key_value("*").map(|(prefix, default)| (prefix.as_str(), *default));
                }
            }
        }
    }

    /// Prefixes whose default lets everyone in, for the line that says at start what is open to whom.
    pub fn open_to_everyone(&self) -> impl Iterator<Item = &str> {
        self.repositories.iter().filter(|(_, default)| **default == Some(true)).map(|(prefix, _)| prefix.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorize(policy: &Policy, path: &str) -> Result<Permit, Refusal> {
        let identity = Identity::anonymous([127, 0, 0, 1].into());
        policy.authorize(&identity, Action::parse("GET", path, None).unwrap())
    }

    #[test]
    fn the_longest_prefix_of_whole_components_decides() {
        let policy = Policy::new(
            None,
            [("prod".into(), Some(false)), ("prod/open".into(), Some(true)), ("team".into(), Some(true))],
        );
        assert!(authorize(&policy, "/v2/prod/open/app/tags/list").is_ok());
        assert!(matches!(authorize(&policy, "/v2/prod/app/tags/list"), Err(Refusal::Denied { .. })));
        assert!(matches!(authorize(&policy, "/v2/teams/app/tags/list"), Err(Refusal::NotCovered(_))));
    }

    #[test]
    fn nothing_is_allowed_that_is_not_said() {
        let policy = Policy::new(None, [("*".into(), None)]);
        assert!(authorize(&policy, "/v2/a/tags/list").is_err());
        assert!(authorize(&policy, "/v2/_catalog").is_err());
        assert!(authorize(&policy, "/v2/").is_ok());
    }
}
