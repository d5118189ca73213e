//! TLS: the server's certificate, and who its clients are by theirs.
//!
//! A [`Tls`] is everything that `[server.tls]` names, read and checked at one moment. A changed file means a new one.
//! Sessions are resumed within one, never across two, and [`Tls::client`] verifies any chain against this one, so that a
//! connection that was opened under an older one can be held to this.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `pem` | files to certificates, keys and lists |
//! | `load` | the server's own half, and the whole |
//! | `clients` | the judge of clients' chains |
//! | `revoked` | revocation lists |
//! | `facts` | what a certificate says |
//! | `error` | what a person is told |

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

/// One set of certificates, keys and revocation lists, loaded and checked.
pub struct Tls {
    server: Arc<ServerConfig>,
    clients: Option<Arc<clients::Clients>>,
    warnings: Vec<String>,
}

impl Tls {
    /// Reads the files and checks them, each and together.
    ///
    /// # Errors
    /// All problems at once: a file that cannot be read, is not PEM, or holds nothing or something else than it should; a
    /// key that is encrypted, of no kind that TLS knows, or not that of the first certificate; an authority that is none;
    /// a revocation list that is not signed by its authority; keys of the configuration that need `client_ca_bundle`.
    pub fn load(options: &config::Tls) -> Result<Self, TlsError> {
        let load::Loaded { server, clients, warnings } = load::load(options)?;
        Ok(Self { server, clients, warnings })
    }

    /// Returns the settings for connections: TLS 1.2 and 1.3, `h2` and `http/1.1` by ALPN, client certificates as
    /// configured. The handshake refuses every client that [`Tls::client`] refuses.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Verifies a chain, the client's own certificate first, as it was sent in a handshake or is in a token.
    ///
    /// Needs no proof of the private key: that was the handshake's. The clock is the system's.
    ///
    /// # Errors
    /// [`ClientError`], where the authorities, the revocation lists or the clock do not let the client in, or its
    /// certificate has a name that cannot be read, is longer than 1 KiB, or is one of more than 64 of its kind.
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

/// Reads the first certificate of a PEM file for a person, whatever its issuer and its age. It
/// proves nothing.
///
/// # Errors
/// A file that cannot be read or begins with no certificate; a certificate that no client could show. In words.
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
