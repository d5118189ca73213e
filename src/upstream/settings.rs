//! The settings of one upstream, and the HTTP client that they make.

use std::{fmt, time::Duration};

use reqwest::Client;

use super::{addresses::Resolver, base::Base, failure::cause, login::Credentials};

/// The settings of one upstream. `Debug` leaves secrets out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address.
    pub base: Base,
    /// The number of redirects that are followed.
    pub max_redirect: usize,
    /// The authorities that the upstream's certificate may come from, PEM. `None`: those of the system.
    pub server_ca_bundle: Option<Vec<u8>>,
    /// The client certificate with those between it and its authority, and its private key, PEM.
    pub client_identity: Option<ClientIdentity>,
    /// The login. `None`: anonymous.
    pub credentials: Option<Credentials>,
    /// The time to the first byte of an answer, and the longest silence within one.
    pub timeout: Duration,
    /// Hosts of realms that may see the credentials, beside those of the upstream's registrable domain.
    pub token_hosts: Vec<String>,
    /// Hosts that a redirect may lead to, whatever their address.
    pub redirect_hosts: Vec<String>,
}

/// A client certificate and its private key. `Debug` leaves both out.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity(Vec<u8>);

impl ClientIdentity {
    /// Joins a certificate, with those between it and its authority, and its private key. Both are PEM.
    #[must_use]
    pub fn new(certificate: &[u8], key: &[u8]) -> Self {
        Self([certificate, b"\n", key].concat())
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

/// The reason why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The authorities.
    #[error("it holds no usable certificate of an authority: {0}")]
    Bundle(String),
    /// The client certificate, or its private key.
    #[error("it and its private key are no client certificate: {0}")]
    Identity(String),
    /// The system.
    #[error("{0}")]
    Other(String),
}

impl Settings {
    /// Returns whether an upstream sees the same client in both: one host and port, asked with one login.
    pub(super) fn is_same_client(&self, other: &Self) -> bool {
        self.base.root() == other.base.root()
            && self.credentials == other.credentials
            && self.client_identity == other.client_identity
    }
}

/// Prepares a client that asks only the addresses that a resolver finds.
pub(super) fn client(
    settings: &Settings,
    resolver: Resolver,
    identity: Option<&ClientIdentity>,
) -> Result<Client, Unusable> {
    let mut client = Client::builder()
        .user_agent(concat!("simple-registry/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // a proxy would resolve the names, and nobody would look at the addresses
        .no_proxy()
        .referer(false)
        .dns_resolver(resolver)
        // a limit of reads would run on while a slow store keeps nobody reading: those who read bound their wait
        .connect_timeout(settings.timeout);
    if let Some(bundle) = &settings.server_ca_bundle {
        let bundle = reqwest::Certificate::from_pem_bundle(bundle);
        let bundle = bundle.map_err(|error| Unusable::Bundle(cause(&error)))?;
        if bundle.is_empty() {
            return Err(Unusable::Bundle("it is no PEM, or has no certificate".to_owned()));
        }
        client = client.tls_certs_only(bundle);
    }
    if let Some(ClientIdentity(pem)) = identity {
        let identity = reqwest::Identity::from_pem(pem).map_err(|error| Unusable::Identity(cause(&error)))?;
        client = client.identity(identity);
    }
    client.build().map_err(|error| match (identity, &settings.server_ca_bundle) {
        (Some(_), _) => Unusable::Identity(cause(&error)),
        (None, Some(_)) => Unusable::Bundle(cause(&error)),
        (None, None) => Unusable::Other(cause(&error)),
    })
}
