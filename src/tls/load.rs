//! Loads the server's own certificate and key, and joins the whole set.

use std::sync::Arc;

use rustls::{
    Error, InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, time::ASN1Time};

use super::{
    clients::Clients,
    error::{Problem, TlsError},
    facts,
    pem::Source,
    provider::provider,
    revoked::parse_all,
};
use crate::config;

/// The protocols for ALPN (RFC 7301), most preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The result of loading a set of files.
pub(super) struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    pub(super) clients: Option<Arc<Clients>>,
    /// The first expiry among the server's own certificates, in seconds since 1970.
    pub(super) expires: Option<u64>,
    pub(super) warnings: Vec<String>,
}

/// Reads everything, and returns all faults at once.
pub(super) fn load(options: &config::Tls) -> Result<Loaded, TlsError> {
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let mut collect = |found: Vec<Problem>| problems.extend(found);
    let own = own(options, &mut warnings).map_err(&mut collect).ok();
    let clients = Clients::load(options, &mut warnings).map_err(&mut collect).ok();
    let (Some(own), Some(clients)) = (own, clients) else { return Err(TlsError::new(problems)) };
    let clients = clients.map(Arc::new);
    let expires =
        own.cert.iter().filter_map(|der| facts::parse(der).ok()).map(|own| own.validity().not_after.timestamp());
    let expires = expires.min().and_then(|expires| u64::try_from(expires).ok());
    let server = server_config(own, clients.clone()).map_err(|error| {
        let help = "this is no matter of the files; see whether the system has random numbers";
        TlsError::new(vec![Problem::of_key(
            "server_certificate_bundle",
            format_args!("TLS cannot start: {error}"),
            help,
        )])
    })?;
    Ok(Loaded { server: Arc::new(server), clients, expires, warnings })
}

/// Loads the server's certificates and the key of the first.
fn own(options: &config::Tls, warnings: &mut Vec<String>) -> Result<CertifiedKey, Vec<Problem>> {
    let bundle = Source { key: "server_certificate_bundle", file: &options.server_certificate_bundle };
    let key_file = Source { key: "server_private_key", file: &options.server_private_key };
    let (certificates, key) = match (bundle.certificates(), key_file.private_key()) {
        (Ok(certificates), Ok(key)) => (certificates, key),
        (certificates, key) => return Err(certificates.err().into_iter().chain(key.err()).collect()),
    };
    check_own(bundle, &certificates, warnings).map_err(|problem| vec![problem])?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        // The library's message may quote the key.
        vec![key_file.problem(
            "holds no key that can be used",
            "make an RSA key of 2048 bits or more, an ECDSA key (P-256, P-384 or P-521) or an Ed25519 key",
        )]
    })?;
    let own = CertifiedKey::new(certificates, key);
    match own.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(own),
        Err(Error::InconsistentKeys(_)) => Err(vec![key_file.problem(
            format_args!("does not belong to the first certificate of {}", bundle.file.display()),
            "name the key of that certificate; in the bundle the server's own certificate comes first, and those \
             between it and its authority follow",
        )]),
        Err(_) => Err(vec![bundle.problem(
            "begins with a certificate that TLS cannot use",
            "make a version 3 certificate with a subjectAltName",
        )]),
    }
}

/// Checks readable certificates. A certificate that clients will refuse is a warning, since a server that does not
/// start serves no client.
fn check_own(
    bundle: Source<'_>,
    certificates: &[CertificateDer<'static>],
    warnings: &mut Vec<String>,
) -> Result<(), Problem> {
    let parsed = parse_all(bundle, certificates)?;
    let mut warn = |says: String| {
        warnings.push(format!("server.tls.server_certificate_bundle: {}: {says}", bundle.file.display()));
    };
    let now = ASN1Time::now();
    for (index, certificate) in parsed.iter().enumerate() {
        let name = format!("certificate {}, {},", index + 1, certificate.subject());
        let validity = certificate.validity();
        if validity.not_after < now {
            warn(format!(
                "{name} has expired on {}; clients refuse it; replace it",
                facts::rfc3339(validity.not_after)
            ));
        } else if now < validity.not_before {
            warn(format!("{name} is not valid before {}; clients refuse it", facts::rfc3339(validity.not_before)));
        }
    }
    if parsed.first().is_some_and(names_no_host) {
        warn(
            "the first certificate has no subjectAltName; most clients refuse it, whatever its common name".to_owned(),
        );
    }
    Ok(())
}

fn names_no_host(certificate: &X509Certificate<'_>) -> bool {
    !matches!(certificate.subject_alternative_name(), Ok(Some(_)))
}

fn server_config(own: CertifiedKey, clients: Option<Arc<Clients>>) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients as Arc<dyn ClientCertVerifier>),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    // A session that is resumed is not verified again. So it is resumed by tickets alone, and no other set can read those
    // of this one: they are encrypted under a key that is made here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
