//! Holds a password that waits to be verified.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::hash::{CannotVerify, Hash};

/// A credential of one version of an account, under a key that only this process knows.
pub(super) type Key = [u8; 32];

/// A password, and the hash that it is compared with.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) hash: Arc<Hash>,
    pub(super) password: SecretString,
}

impl Job {
    /// Checks the password. Blocks for as long as its hash takes.
    pub(super) fn verify(&self) -> Result<bool, CannotVerify> {
        self.hash.verify(self.password.expose_secret().as_bytes())
    }
}
