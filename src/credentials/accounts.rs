//! Holds the accounts that can log in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::hash::Hash;
use crate::config;
use crate::identity::User;

/// Everybody who can log in with a password, as one configuration says. Immutable, and cheap to share behind an `Arc`.
#[derive(Default)]
pub struct Accounts {
    by_id: BTreeMap<String, Arc<Account>>,
    by_username: HashMap<String, Arc<Account>>,
    /// The hash that stands in for an unknown user's, as costly as the most costly of all. `None`: there is no user at all.
    dummy: Option<Arc<Hash>>,
}

/// Somebody who can log in with a password.
pub struct Account {
    /// The user, as policies see it.
    pub user: Arc<User>,
    version: String,
    pub(super) hash: Arc<Hash>,
}

/// The reason why a configuration has no valid accounts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// A password is not a hash.
    #[error("`identity.{id}.password` {rule}; make one with `simple-registry hash-password`")]
    Hash {
        /// The identity.
        id: String,
        /// The fault, in words that follow the key.
        rule: &'static str,
    },
    /// Two identities have one username.
    #[error("`identity.{id}.username` is {username:?}, as is `identity.{other}.username`; give one another username")]
    Twins {
        /// An account of the configuration.
        id: String,
        /// The other.
        other: String,
        /// Their username.
        username: String,
    },
}

impl Accounts {
    /// Builds the accounts of a configuration, by id.
    pub fn new(identities: &BTreeMap<String, config::Identity>) -> Result<Self, AccountsError> {
        let mut accounts = Self::default();
        for (id, identity) in identities {
            let account = Arc::new(Account::new(id, identity)?);
            let twin = accounts.by_username.insert(identity.username.clone(), Arc::clone(&account));
            if let Some(twin) = twin {
                let (other, username) = (twin.user.id.clone(), identity.username.clone());
                return Err(AccountsError::Twins { id: id.clone(), other, username });
            }
            accounts.by_id.insert(id.clone(), account);
        }
        let most_costly = accounts.by_id.values().map(|account| &account.hash).max_by_key(|hash| hash.work());
        accounts.dummy = most_costly.map(|hash| Arc::new(hash.dummy()));
        Ok(accounts)
    }

    /// Returns true if there is no account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the account of `[identity.<id>]`.
    #[must_use]
    pub fn user(&self, id: &str) -> Option<&Account> {
        self.by_id.get(id).map(Arc::as_ref)
    }

    pub(super) fn named(&self, username: &str) -> Option<&Arc<Account>> {
        self.by_username.get(username)
    }

    pub(super) fn dummy(&self) -> Option<&Arc<Hash>> {
        self.dummy.as_ref()
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_id.values()).finish()
    }
}

impl Account {
    fn new(id: &str, identity: &config::Identity) -> Result<Self, AccountsError> {
        let config::Identity { username, password, groups } = identity;
        let text = password.expose_secret();
        let hash = Hash::parse(text).map_err(|rule| AccountsError::Hash { id: id.to_owned(), rule })?;
        let mut digest = Sha256::new();
        for part in [username.as_str(), text] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let version = digest.iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte));
        let version = format!("{version:016x}");
        let user = User { id: id.to_owned(), username: username.clone(), groups: groups.clone() };
        Ok(Self { user: Arc::new(user), version, hash: Arc::new(hash) })
    }

    /// Returns a version that changes with the username or password: 16 hex digits of a SHA-256 over both. Tokens
    /// carry it, so a token for an old password is void.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_costs_what_the_most_costly_hash_costs() {
        let argon2 = |m: u32| format!("$argon2id$v=19$m={m},t=2,p=1$c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b2PQw");
        let bcrypt = "$2b$12$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy".to_owned();
        let cheap = ["ana", "bob", "cid"].map(|id| (id, argon2(19_456)));
        for costly in [argon2(262_144), bcrypt] {
            let all = cheap.iter().cloned().chain([("dan", costly)]).map(|(id, password)| {
                let (username, password) = (id.to_owned(), password.into());
                (id.to_owned(), config::Identity { username, password, groups: Vec::new() })
            });
            let accounts = Accounts::new(&all.collect()).unwrap();
            let work = |hash: &Arc<Hash>| hash.work();
            assert_eq!(accounts.dummy().map(work), accounts.named("dan").map(|account| work(&account.hash)));
            assert_ne!(accounts.dummy().map(work), accounts.named("ana").map(|account| work(&account.hash)));
        }
    }
}
