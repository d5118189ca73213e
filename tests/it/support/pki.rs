//! Certificate authorities, and what they issue.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

const DAY: Duration = Duration::from_hours(24);

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
    serial: SerialNumber,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name, &[], Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server's certificate for this machine.
    pub(crate) fn server(&self) -> Issued {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.issue(params("a registry", &[], names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(crate) fn client(&self, common_name: &str, organizations: &[&str]) -> Issued {
        self.issue(params(common_name, organizations, Vec::new()), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A client's certificate that expired yesterday.
    pub(crate) fn expired_client(&self, common_name: &str) -> Issued {
        let mut params = params(common_name, &[], Vec::new());
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Issued {
        let serial = SerialNumber::from_slice(&rand::random::<[u8; 8]>().map(|byte| byte & 0x7f | 1));
        params.serial_number = Some(serial.clone());
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate, key, serial }
    }

    /// A revocation list, PEM.
    pub(crate) fn revocation_list(&self, revoked: &[&Issued]) -> String {
        let now = rcgen::date_time_ymd(2024, 1, 1);
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + DAY * 36_500,
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a revocation list").pem().expect("PEM")
    }

    /// What a client needs to trust this authority, with a certificate of its own or without.
    pub(crate) fn client_config(&self, own: Option<&Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
                builder.with_client_auth_cert(vec![own.der()], key).expect("a key of its own")
            }
        };
        Arc::new(config)
    }
}

impl Issued {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// Writes `<name>.pem` and `<name>.key` into `directory`; their paths.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        std::fs::write(&certificate, self.certificate.pem()).expect("write a certificate");
        std::fs::write(&key, self.key.serialize_pem()).expect("write a key");
        (certificate, key)
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

fn params(common_name: &str, organizations: &[&str], names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("names");
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    for organization in organizations {
        subject.push(DnType::OrganizationName, *organization);
    }
    params.distinguished_name = subject;
    params
}
