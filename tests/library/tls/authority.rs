//! Authorities, certificates and lists made for a test, and the directory that they are in.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use simple_registry::config::{self, ClientAuth};
use simple_registry::tls::Tls;
use tempfile::TempDir;

/// An authority that signs.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        params.serial_number = Some(SerialNumber::from(77_u64));
        change(&mut params);
        Self { issuer: CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap() }
    }

    pub(crate) fn sign_for(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.sign_for(KeyPair::generate().unwrap(), change)
    }

    /// A client's certificate of that common name.
    pub(crate) fn client(&self, name: &str) -> Leaf {
        self.sign(|params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// A server's certificate for localhost.
    pub(crate) fn server(&self) -> Leaf {
        self.sign(localhost)
    }

    /// A revocation list, valid until 4095, that names these serial numbers.
    pub(crate) fn list(&self, serials: &[u64]) -> String {
        self.list_with(serials, |_| {})
    }

    pub(crate) fn list_with(
        &self,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4095, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(|serial| revoked(*serial)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn revoked(serial: u64) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    }
}

pub(crate) fn localhost(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
}

/// The files of one `[server.tls]`, which begin as a server's certificate with its key and nothing else.
pub(crate) struct Files {
    dir: TempDir,
    pub(crate) options: config::Tls,
}

impl Files {
    pub(crate) fn new(server: &Leaf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Self { dir, options: config::Tls::default() };
        files.options.server_certificate_bundle = files.write("server.pem", &server.pem);
        files.options.server_private_key = files.write("server.key", &server.key.serialize_pem());
        files
    }

    /// A server of `authority`'s, which asks for certificates of the same.
    pub(crate) fn asking(authority: &Authority) -> Self {
        let mut files = Self::new(&authority.server());
        files.ca(&authority.issuer.pem());
        files
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn ca(&mut self, pem: &str) {
        self.options.client_ca_bundle = Some(self.write("ca.pem", pem));
    }

    pub(crate) fn crl(&mut self, pem: &str) {
        self.options.client_crl = Some(self.write("crl.pem", pem));
    }

    pub(crate) fn required(mut self) -> Self {
        self.options.client_auth = ClientAuth::Required;
        self
    }

    #[track_caller]
    pub(crate) fn load(&self) -> Tls {
        Tls::load(&self.options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said of files that cannot be used.
    #[track_caller]
    pub(crate) fn refused(&self) -> String {
        Tls::load(&self.options).expect_err("these files cannot be used").to_string()
    }
}
