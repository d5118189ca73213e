//! stub
#![allow(missing_docs, clippy::all, clippy::pedantic, unused)]
use crate::identity::User;
use std::{collections::BTreeMap, path::Path, sync::Arc};
pub struct Accounts;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AccountsError;
pub struct Account {
    pub user: Arc<User>,
}
impl Account {
    pub fn version(&self) -> &str {
        ""
    }
}
impl Accounts {
    pub fn new(i: &BTreeMap<String, crate::config::Identity>) -> Result<Self, AccountsError> {
        Ok(Self)
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn user(&self, id: &str) -> Option<&Account> {
        None
    }
}
pub struct Logins;
impl Logins {
    pub fn new() -> Self {
        Self
    }
    pub async fn verify(&self, a: &Arc<Accounts>, u: &str, p: &str) -> Result<Arc<User>, LoginError> {
        Err(LoginError::Wrong)
    }
}
pub enum LoginError {
    Wrong,
    Busy,
}
pub struct Signer;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct KeyError;
impl Signer {
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        Ok(Self)
    }
    pub fn issue(&self, c: &Claims) -> String {
        String::new()
    }
    pub fn verify(&self, t: &str) -> Result<Arc<Claims>, TokenError> {
        Err(TokenError::Expired)
    }
}
#[derive(Debug)]
pub struct Claims {
    pub account: Option<(String, String)>,
    pub certificates: Vec<Vec<u8>>,
    pub scopes: Scopes,
    pub issued: u64,
    pub expires: u64,
}
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("x")]
    Expired,
}
#[derive(Debug, Clone)]
pub struct Scopes;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ScopeError;
impl Scopes {
    pub fn parse<'a>(v: impl Iterator<Item = &'a str>) -> Result<Self, ScopeError> {
        Ok(Self)
    }
    pub fn covers(&self, a: &crate::action::Action) -> bool {
        true
    }
}
impl std::fmt::Display for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
pub fn scope_needed(a: &crate::action::Action) -> Option<String> {
    None
}
pub enum Authorization {
    Basic { username: String, password: secrecy::SecretString },
    Bearer(String),
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AuthorizationError;
pub fn parse_authorization(v: &http::HeaderValue) -> Result<Authorization, AuthorizationError> {
    Err(AuthorizationError)
}
