//! Passwords, tokens, scopes and the `Authorization` header, from outside; and the commands that make hashes.

mod accounts;
mod command;
mod header;
mod logins;
mod scopes;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use simple_registry::config::Identity;
use simple_registry::credentials::Accounts;

/// Returns a hash that takes no time.
fn quick_hash(password: &str) -> String {
    let params = Params::new(8, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).unwrap().to_string()
}

fn identity(username: &str, hash: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Identity { username: username.to_owned(), password: hash.into(), groups }
}

/// Identities whose ids are `id-<username>`.
fn identities(all: &[(&str, &str)]) -> BTreeMap<String, Identity> {
    all.iter().map(|(username, hash)| (format!("id-{username}"), identity(username, hash, &[]))).collect()
}

fn accounts(all: &[(&str, &str)]) -> Arc<Accounts> {
    Arc::new(Accounts::new(&identities(all)).unwrap())
}
