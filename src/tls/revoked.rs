//! Reads revocation lists (RFC 5280, section 5).

use std::collections::{HashMap, HashSet};

use rustls::{
    RootCertStore,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    asn1_rs::FromDer as _, certificate::X509Certificate, error::X509Error, revocation_list::CertificateRevocationList,
    time::ASN1Time,
};

use super::{
    error::Problem,
    facts::{self, rfc3339, significant},
    pem::Source,
    provider::provider,
};

/// The serial numbers that the lists name, by issuer.
///
/// If any list of its issuer names a certificate, the certificate is revoked. A newer list of the same issuer, or the
/// age of the list, does not change that. The signatures of lists are checked once, when the lists are read. `webpki`
/// would hash the whole list with every handshake, and take the first list of an issuer alone.
#[derive(Default)]
pub(super) struct Revoked {
    /// Both in DER; the serial numbers without leading zeros.
    by_issuer: HashMap<Vec<u8>, HashSet<Box<[u8]>>>,
}

impl Revoked {
    /// Returns true if a list of its issuer names this certificate.
    pub(super) fn names(&self, certificate: &X509Certificate<'_>) -> bool {
        self.by_issuer
            .get(certificate.issuer().as_raw())
            .is_some_and(|serials| serials.contains(significant(certificate.raw_serial())))
    }

    /// Reads lists and checks each against the authorities. Oddities that are no reason to refuse a list go to
    /// `warnings`.
    pub(super) fn load(
        source: Source<'_>,
        authorities: &[X509Certificate<'_>],
        warnings: &mut Vec<String>,
    ) -> Result<Self, Problem> {
        let mut revoked = Self::default();
        for (index, der) in source.lists()?.iter().enumerate() {
            let number = index + 1;
            let list = parse(der).map_err(|why| {
                source.problem(
                    format_args!("cannot be used: list {number} {why}"),
                    "have the authority issue a complete version 2 list of its own certificates (RFC 5280, section 5)",
                )
            })?;
            let issuer = list.issuer();
            let name = format!("list {number}, of {issuer},");
            match signed(&list, authorities) {
                Signed::Yes => {}
                Signed::Unknown => warnings.push(format!(
                    "server.tls.client_crl: {}: {name} is believed unchecked: its authority is not in \
                     server.tls.client_ca_bundle, or signs by an algorithm unknown here",
                    source.file.display()
                )),
                Signed::No => {
                    return Err(source.problem(
                        format_args!("cannot be used: {name} is not signed by the authority of that name in server.tls.client_ca_bundle"),
                        "fetch the list again from that authority; if the authority has a new key, put both certificates into the bundle",
                    ));
                }
            }
            if let Some(next) = list.next_update().filter(|next| *next < ASN1Time::now()) {
                warnings.push(format!(
                    "server.tls.client_crl: {}: {name} is out of date since {}; what it names stays revoked, what was \
                     revoked later is not known; fetch the next one",
                    source.file.display(),
                    rfc3339(next)
                ));
            }
            let serials = revoked.by_issuer.entry(issuer.as_raw().to_owned()).or_default();
            serials.extend(list.iter_revoked_certificates().map(|entry| significant(entry.raw_serial()).into()));
        }
        Ok(revoked)
    }
}

/// Parses a list. Returns the reason if the list has a part that is not understood here.
fn parse<'a>(der: &'a CertificateRevocationListDer<'static>) -> Result<CertificateRevocationList<'a>, String> {
    // `webpki` knows which critical extensions a reader must understand, and refuses deltas and indirect lists.
    strictly(der)?;
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        _ => Err("is not a revocation list of X.509".to_owned()),
    }
}

/// Has `webpki` read the list, which it does only for a verifier; the authority in that verifier plays no part.
fn strictly(der: &CertificateRevocationListDer<'static>) -> Result<(), String> {
    let mut anchors = RootCertStore::empty();
    let provider = provider();
    anchors.roots.push(rustls_pki_types::TrustAnchor {
        subject: Vec::new().into(),
        subject_public_key_info: Vec::new().into(),
        name_constraints: None,
    });
    let builder = WebPkiClientVerifier::builder_with_provider(anchors.into(), provider).with_crls([der.clone()]);
    match builder.build() {
        Ok(_) => Ok(()),
        Err(VerifierBuilderError::InvalidCrl(error)) => Err(format!("is refused: {error:?}")),
        Err(error) => Err(format!("is refused: {error}")),
    }
}

enum Signed {
    Yes,
    No,
    Unknown,
}

/// Checks that an authority of the issuer's name signed the list. There may be several, with an old key and a new
/// one.
fn signed(list: &CertificateRevocationList<'_>, authorities: &[X509Certificate<'_>]) -> Signed {
    let mut answer = Signed::Unknown;
    for authority in authorities.iter().filter(|authority| authority.subject().as_raw() == list.issuer().as_raw()) {
        match list.verify_signature(authority.public_key()) {
            Ok(()) => return Signed::Yes,
            Err(X509Error::SignatureUnsupportedAlgorithm) => {}
            Err(_) => answer = Signed::No,
        }
    }
    answer
}

/// Parses certificates. An error names the first that cannot be parsed.
pub(super) fn parse_all<'a>(
    source: Source<'_>,
    certificates: &'a [CertificateDer<'static>],
) -> Result<Vec<X509Certificate<'a>>, Problem> {
    let mut parsed = Vec::new();
    for (index, der) in certificates.iter().enumerate() {
        parsed.push(facts::parse(der).map_err(|why| {
            let says = format!("cannot be used: certificate {}: {why}", index + 1);
            source.problem(says, "replace it; `openssl x509 -in FILE -noout -text` shows what can be read of it")
        })?);
    }
    Ok(parsed)
}
