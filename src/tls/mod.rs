//! Loads the server's certificate, and verifies those of clients.
//!
//! A [`Tls`] is everything that `[server.tls]` names, read and checked at one moment. A changed file means a new value.
//! A session is resumed only under the value that began it. [`Tls::client`] verifies any chain against its own value,
//! so an older connection can be held to the newest one.
//!
//! | file | content |
//! | --- | --- |
//! | `pem` | files to certificates, keys and lists |
//! | `load` | the server's own half, and the whole |
//! | `clients` | the judge of clients' chains |
//! | `revoked` | revocation lists |
//! | `facts` | the facts in a certificate |
//! | `error` | faults, in words |
//! | `provider` | the choice of cryptography |

mod clients;
mod error;
mod facts;
mod load;
mod pem;
mod provider;
mod revoked;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

use crate::{config, identity};

pub use clients::Client;
pub use error::{ClientError, TlsError};

/// Certificates, keys and revocation lists, loaded and checked together.
pub struct Tls {
    server: Arc<ServerConfig>,
    clients: Option<Arc<clients::Clients>>,
    expires: Option<u64>,
    warnings: Vec<String>,
}

impl Tls {
    /// Reads the files and checks them, each and together.
    ///
    /// # Errors
    /// All faults at once: a file that cannot be read, is not PEM, is empty or holds another kind of thing; an
    /// encrypted or unknown key, or a key that does not belong to the first certificate; an authority that is none; a
    /// revocation list without its authority's signature; keys of the configuration that need `client_ca_bundle`.
    pub fn load(options: &config::Tls) -> Result<Self, TlsError> {
        let load::Loaded { server, clients, expires, warnings } = load::load(options)?;
        Ok(Self { server, clients, expires, warnings })
    }

    /// Returns the settings for connections: TLS 1.2 and 1.3, `h2` and `http/1.1` by ALPN, client certificates as
    /// configured. The handshake refuses every client that [`Tls::client`] refuses.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Verifies a chain from a handshake or a token, the client's own certificate first.
    ///
    /// Needs no proof of the private key, since the handshake had it. The clock is the system's.
    ///
    /// # Errors
    /// [`ClientError`] if the authorities, the revocation lists or the clock do not accept the certificate, or one of
    /// its names cannot be read, is longer than 1 KiB, or is one of more than 64 of its kind.
    pub fn client(&self, chain: &[CertificateDer<'_>]) -> Result<Client, ClientError> {
        let clients = self.clients.as_ref().ok_or(ClientError::UnknownIssuer)?;
        match chain {
            [own, between @ ..] => clients.verify(own, between, UnixTime::now()),
            [] => Err(ClientError::Invalid("there is none".to_owned())),
        }
    }

    /// Returns true if clients are asked for a certificate: if `client_ca_bundle` is set.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        self.clients.is_some()
    }

    /// Returns a hint for a client that presented no certificate, if this server accepts any. Clients leave theirs out
    /// without a word if the server's list does not name its authority.
    #[must_use]
    pub fn hint_without_certificate(&self) -> Option<String> {
        const MOST: usize = 3;
        let authorities = self.clients.as_ref()?.authorities();
        let named = authorities.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = match authorities.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("no client certificate was presented; this server accepts those of {named}{more}"))
    }

    /// Returns the time at which the first of the server's own certificates expires, in seconds since 1970.
    #[must_use]
    pub const fn expires(&self) -> Option<u64> {
        self.expires
    }

    /// Returns warnings about usable files: expired certificates, and lists that were not checked.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns every file that the options name.
    #[must_use]
    pub fn files(options: &config::Tls) -> Vec<PathBuf> {
        let config::Tls { server_certificate_bundle, server_private_key, client_ca_bundle, client_auth: _, client_crl } =
            options;
        let mut files = vec![server_certificate_bundle.clone(), server_private_key.clone()];
        files.extend(client_ca_bundle.iter().chain(client_crl).cloned());
        files
    }
}

/// Reads the first certificate of a PEM file for a person. It checks neither issuer nor age, so the certificate proves
/// nothing.
///
/// # Errors
/// The fault in words: a file that cannot be read or begins with no certificate, or a certificate that no client could
/// show.
pub fn read_certificate(file: &Path) -> Result<identity::Certificate, String> {
    let der =
        CertificateDer::from_pem_file(file).map_err(|error| format!("no certificate can be read from it: {error}"))?;
    facts::of(&der)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("asks_for_certificates", &self.asks_for_certificates()).finish_non_exhaustive()
    }
}
