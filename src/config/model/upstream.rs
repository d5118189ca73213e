//! The registries that a cached repository comes from.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::Config;
use crate::diagnostics::Text;

/// `[[repository."<namespace>".upstream]]`: a registry that repositories are cached from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The path of this table, for problems: `repository.library.upstream[0]`.
    pub table: String,
    /// The address: an `http` or `https` URL without a user, a query or a fragment. `upstream` checks its path.
    pub url: Text,
    /// The number of redirects that are followed.
    pub max_redirect: usize,
    /// The authorities that the upstream's certificate may come from, PEM. None: those of the system.
    pub server_ca_bundle: Option<NamedFile>,
    /// The client certificate. None: there is none.
    pub client: Option<ClientFiles>,
    /// The login. None: anonymous.
    pub login: Option<UpstreamLogin>,
    /// The time to the first byte of an answer, and the longest silence within one.
    pub timeout: Duration,
    /// Hosts that may see the login, beside those of the upstream's registrable domain.
    pub token_hosts: Vec<String>,
    /// Hosts that a redirect may lead to, whatever their address.
    pub redirect_hosts: Vec<String>,
}

/// `[repository."<namespace>".refresh]`: tags of a cache that the server pulls now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The regular expressions: tags in which one is found are pulled. Empty: none are.
    pub tags: Vec<String>,
    /// The time between two pulls. At least a minute.
    pub interval: Duration,
    /// The platforms of an index that are fetched. Empty: all.
    pub platforms: Vec<String>,
}

/// A file that is read, with the place that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The path.
    pub path: PathBuf,
    /// The path as it is written.
    pub written: Text,
}

/// `client_certificate` and `client_private_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate and those between it and its authority, PEM.
    pub certificate: NamedFile,
    /// Its private key, PEM.
    pub private_key: NamedFile,
}

/// `username`, with `password` or `password_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLogin {
    /// The user name: without a colon.
    pub username: String,
    /// The password.
    pub password: UpstreamPassword,
}

/// A password, or the file that has it. `Debug` leaves the password out.
#[derive(Debug, Clone)]
pub enum UpstreamPassword {
    /// `password`
    Text(SecretString),
    /// `password_file`
    File(NamedFile),
}

impl PartialEq for UpstreamPassword {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.expose_secret() == other.expose_secret(),
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for UpstreamPassword {}

impl Config {
    /// Returns the upstreams of all namespaces.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.repository.values().filter_map(|table| table.upstream.as_ref()).flatten()
    }
}

impl Upstream {
    /// Returns every file that the table names.
    pub fn files(&self) -> impl Iterator<Item = &NamedFile> {
        let client = self.client.iter().flat_map(|client| [&client.certificate, &client.private_key]);
        self.server_ca_bundle.iter().chain(client).chain(self.password_file())
    }

    /// Returns each file with a secret, and the path of the key that names it.
    pub fn secret_files(&self) -> impl Iterator<Item = (&PathBuf, String)> {
        let key = self.client.iter().map(|client| (&client.private_key.path, "client_private_key"));
        let password = self.password_file().map(|file| (&file.path, "password_file"));
        key.chain(password).map(|(path, key)| (path, format!("{}.{key}", self.table)))
    }

    fn password_file(&self) -> Option<&NamedFile> {
        match &self.login.as_ref()?.password {
            UpstreamPassword::Text(_) => None,
            UpstreamPassword::File(file) => Some(file),
        }
    }
}
