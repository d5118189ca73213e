//! Verifies client certificates and reads their facts.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{certificate::X509Certificate, time::ASN1Time};

use super::{
    error::{ClientError, Problem},
    facts,
    pem::Source,
    provider::provider,
    revoked::{Revoked, parse_all},
};
use crate::{
    config::{self, ClientAuth},
    identity::Certificate,
};

/// A client whose certificate was verified.
#[derive(Clone, Debug)]
pub struct Client {
    /// The facts in its certificate.
    pub certificate: Arc<Certificate>,
    /// The time until which the outcome may be remembered: the first expiry among the sent certificates. The dates of
    /// authorities do not count (RFC 5280, section 6.1).
    pub valid_until: SystemTime,
}

/// The authorities, their revocation lists, and the demand for a certificate. This type alone judges chains, in the
/// handshake and after it.
pub(super) struct Clients {
    chains: Arc<dyn ClientCertVerifier>,
    revoked: Revoked,
    /// The names of the authorities.
    authorities: Vec<String>,
}

impl Clients {
    /// Loads the authorities and lists. `None` means that clients are not asked for a certificate.
    pub(super) fn load(options: &config::Tls, warnings: &mut Vec<String>) -> Result<Option<Self>, Vec<Problem>> {
        let Some(file) = &options.client_ca_bundle else {
            return without_authorities(options).map(|()| None);
        };
        let source = Source { key: "client_ca_bundle", file };
        let one = |problem| vec![problem];
        let certificates = source.certificates().map_err(one)?;
        let authorities = parse_all(source, &certificates).map_err(one)?;
        let mut problems = Vec::new();
        let mut anchors = RootCertStore::empty();
        for (index, (der, parsed)) in certificates.iter().zip(&authorities).enumerate() {
            let name = format!("certificate {}, {},", index + 1, parsed.subject());
            if !may_sign(parsed) {
                let says = format!(
                    "cannot be used: {name} is no authority, yet whoever has its key could sign certificates of any name"
                );
                problems.push(source.problem(
                    says,
                    "take it out, and put in the authority that signed it; or make it an authority: basicConstraints \
                     CA:TRUE, and keyCertSign if it has a keyUsage",
                ));
            } else if let Err(error) = anchors.add(der.clone()) {
                problems.push(source.problem(format_args!("cannot be used: {name} {error}"), "replace it"));
            }
            let until = parsed.validity().not_after;
            if until < ASN1Time::now() {
                warnings.push(format!(
                    "server.tls.client_ca_bundle: {}: {name} has expired on {}; certificates signed by it are accepted \
                     all the same, until they expire themselves; take it out if they should not be",
                    file.display(),
                    facts::rfc3339(until)
                ));
            }
        }
        let revoked = options.client_crl.as_ref().map_or_else(
            || Ok(Revoked::default()),
            |file| Revoked::load(Source { key: "client_crl", file }, &authorities, warnings),
        );
        let revoked = match revoked {
            Ok(revoked) if problems.is_empty() => revoked,
            Ok(_) => return Err(problems),
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let builder = WebPkiClientVerifier::builder_with_provider(anchors.into(), provider());
        let builder = match options.client_auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let chains = builder.build().map_err(|error| {
            vec![source.problem(format_args!("cannot be used: {error}"), "replace its certificates")]
        })?;
        let authorities = authorities.iter().map(|authority| facts::name(authority.subject())).collect();
        Ok(Some(Self { chains, revoked, authorities }))
    }

    pub(super) fn authorities(&self) -> &[String] {
        &self.authorities
    }

    /// Verifies a chain, the client's own certificate first, at a moment.
    pub(super) fn verify(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Client, ClientError> {
        self.chains.verify_client_cert(own, between, now).map_err(why)?;
        let mut valid_until = None;
        for (index, der) in std::iter::once(own).chain(between).enumerate() {
            let parsed = match facts::parse(der) {
                Ok(parsed) => parsed,
                // Clients may send certificates outside of the chain, and those may be anything.
                Err(_) if index > 0 => continue,
                Err(what) => return Err(ClientError::Invalid(what)),
            };
            if self.revoked.names(&parsed) {
                return Err(ClientError::Revoked);
            }
            let until = facts::moment(parsed.validity().not_after);
            let expired = until.duration_since(UNIX_EPOCH).is_ok_and(|until| until.as_secs() < now.as_secs());
            // An expired certificate is no part of the chain, which was just found valid.
            if !expired {
                valid_until = Some(valid_until.map_or(until, |earliest: SystemTime| earliest.min(until)));
            }
        }
        let certificate = Arc::new(facts::of(own).map_err(ClientError::Invalid)?);
        Ok(Client { certificate, valid_until: valid_until.unwrap_or(UNIX_EPOCH) })
    }
}

/// Refuses keys that mean nothing without authorities.
fn without_authorities(options: &config::Tls) -> Result<(), Vec<Problem>> {
    let help = "name the authorities of client certificates in server.tls.client_ca_bundle, or leave this key out";
    let mut problems = Vec::new();
    if options.client_auth == ClientAuth::Required {
        problems.push(Problem::of_key("client_auth", "is \"required\" without server.tls.client_ca_bundle", help));
    }
    if options.client_crl.is_some() {
        problems.push(Problem::of_key("client_crl", "is set without server.tls.client_ca_bundle", help));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Returns true if this certificate may sign others (RFC 5280, sections 4.2.1.3 and 4.2.1.9).
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage();
    certificate.is_ca() && usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// Translates an error of the library.
fn why(error: Error) -> ClientError {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => ClientError::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => ClientError::NotYetValid,
            CertificateError::Revoked => ClientError::Revoked,
            // An authority of the right name that has another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => ClientError::UnknownIssuer,
            CertificateError::BadEncoding => ClientError::Invalid("it is not an X.509 certificate".to_owned()),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                ClientError::Invalid("its extendedKeyUsage does not allow clientAuth".to_owned())
            }
            other => ClientError::Invalid(other.to_string()),
        },
        other => ClientError::Invalid(other.to_string()),
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self::InvalidCertificate(match error {
            ClientError::Expired => CertificateError::Expired,
            ClientError::NotYetValid => CertificateError::NotValidYet,
            ClientError::Revoked => CertificateError::Revoked,
            ClientError::UnknownIssuer => CertificateError::UnknownIssuer,
            invalid @ ClientError::Invalid(_) => CertificateError::Other(OtherError(Arc::new(invalid))),
        })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
