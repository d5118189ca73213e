//! Holds the identity of a client: several facts at once, each with its own proof.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Serialize};

/// The proven facts about a request's client.
///
/// No fact is secret, and no fact is a mere claim. A user has proven a password or token; the certificate authority in
/// force vouches for a certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The address that the request comes from.
    pub client_ip: IpAddr,
    /// The configured identity whose password or token came with the request.
    pub user: Option<Arc<User>>,
    /// The client's certificate, of the connection or of the token.
    pub certificate: Option<Arc<Certificate>>,
}

/// A configured identity, `[identity.<id>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The key of the table.
    pub id: String,
    /// The name for logins.
    pub username: String,
    /// The groups in the configuration.
    pub groups: Vec<String>,
}

/// The facts of a client certificate for policies (RFC 5280). A missing value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certificate {
    /// The subject's common names (CN).
    pub common_names: Vec<String>,
    /// The organizations (O).
    pub organizations: Vec<String>,
    /// The organizational units (OU).
    pub organizational_units: Vec<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// URIs of the subject alternative name; a SPIFFE id is one.
    pub uris: Vec<String>,
    /// The serial number in lower-case hex, without separators.
    pub serial: String,
    /// The SHA-256 of the whole certificate (DER) in lower-case hex.
    pub fingerprint: String,
    /// The begin of its validity, as RFC 3339 writes it.
    pub not_before: String,
    /// The end of its validity, as RFC 3339 writes it.
    pub not_after: String,
    /// The issuer and subject as RFC 4514 writes them, with a semicolon between. They identify the owner of an upload,
    /// and are no variable of policies.
    #[serde(skip)]
    pub issuer_and_subject: String,
}

/// An identity in the form of records, policy tests and `policy explain --as`. CEL knows it as `identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// `identity.id`
    pub id: String,
    /// `identity.username`
    pub username: String,
    /// `identity.groups`
    pub groups: Vec<String>,
    /// `identity.client_ip`
    pub client_ip: String,
    /// `identity.certificate`
    pub certificate: Certificate,
}

/// One of the clients that share what a server has: an identity, or else an address. The 64 bits of a network of IPv6 are one
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// The hash of an identity's name, which nobody can choose: its key differs in each process.
    Identity(u64),
    /// The address without the part that a client of IPv6 chooses.
    Address(u128),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::Address(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self::Address(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

impl From<&Identity> for Client {
    fn from(identity: &Identity) -> Self {
        static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match (&identity.user, &identity.certificate) {
            (Some(user), _) => Self::Identity(HASHES.hash_one((0, &user.id))),
            (None, Some(certificate)) => Self::Identity(HASHES.hash_one((1, &certificate.issuer_and_subject))),
            (None, None) => identity.client_ip.into(),
        }
    }
}

impl Identity {
    /// Returns the identity of a client with a known address and nothing else.
    #[must_use]
    pub const fn anonymous(client_ip: IpAddr) -> Self {
        Self { client_ip, user: None, certificate: None }
    }

    /// Returns true if only the address is known.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        self.user.is_none() && self.certificate.is_none()
    }

    /// Returns the owner of an upload that this identity begins: the username, else `certificate:` with issuer and
    /// subject. Empty for an anonymous client. No username has a colon in it.
    #[must_use]
    pub fn upload_owner(&self) -> String {
        match (&self.user, &self.certificate) {
            (Some(user), _) => user.username.clone(),
            (None, Some(certificate)) => format!("certificate:{}", certificate.issuer_and_subject),
            (None, None) => String::new(),
        }
    }

    /// Returns all facts, as policies see them.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let (id, username, groups) = match &self.user {
            Some(user) => (user.id.clone(), user.username.clone(), user.groups.clone()),
            None => Default::default(),
        };
        let certificate = self.certificate.as_deref().cloned().unwrap_or_default();
        Facts { id, username, groups, client_ip: self.client_ip.to_string(), certificate }
    }
}

impl fmt::Display for Identity {
    /// Writes the name of this identity for records and logs: its user, or else its certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.certificate) {
            (Some(user), _) => f.write_str(&user.username),
            (None, Some(certificate)) => {
                let name = certificate.common_names.first().or_else(|| certificate.uris.first());
                write!(f, "certificate:{}", name.unwrap_or(&certificate.fingerprint))
            }
            (None, None) => f.write_str("anonymous"),
        }
    }
}
