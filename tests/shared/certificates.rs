//! Authorities for TLS, their certificates and their revocation lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// An authority that signs.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
    serial: SerialNumber,
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

    /// Makes an authority below this one.
    pub(crate) fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        params.serial_number = Some(SerialNumber::from(77_u64));
        change(&mut params);
        Self { issuer: CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn sign_for(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 8]>().map(|byte| byte & 0x7f | 1)));
        change(&mut params);
        let serial = params.serial_number.clone().expect("nobody takes it away");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { der: certificate.der().clone(), pem: certificate.pem(), key, serial }
    }

    pub(crate) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.sign_for(KeyPair::generate().unwrap(), change)
    }

    /// Signs a client's certificate of that common name.
    pub(crate) fn client(&self, name: &str) -> Leaf {
        self.client_of(name, &[])
    }

    /// Signs a client's certificate of that common name and those organizations.
    pub(crate) fn client_of(&self, name: &str, organizations: &[&str]) -> Leaf {
        self.sign(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            for organization in organizations {
                params.distinguished_name.push(DnType::OrganizationName, *organization);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// Signs a client's certificate that expired in 2020.
    pub(crate) fn expired_client(&self, name: &str) -> Leaf {
        self.sign(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        })
    }

    /// Signs a server's certificate for this machine.
    pub(crate) fn server(&self) -> Leaf {
        self.sign(localhost)
    }

    /// Returns a revocation list in PEM, valid until 4095, with these certificates.
    pub(crate) fn revoked(&self, leaves: &[&Leaf]) -> String {
        self.list_of(leaves.iter().map(|leaf| leaf.serial.clone()), |_| {})
    }

    /// Returns a revocation list in PEM, valid until 4095, with these serial numbers.
    pub(crate) fn list(&self, serials: &[u64]) -> String {
        self.list_with(serials, |_| {})
    }

    pub(crate) fn list_with(
        &self,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        self.list_of(serials.iter().map(|serial| SerialNumber::from(*serial)), change)
    }

    fn list_of(
        &self,
        serials: impl Iterator<Item = SerialNumber>,
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let revoked = |serial_number| RevokedCertParams {
            serial_number,
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4095, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Returns a configuration of a client that trusts this authority, with a certificate of its own or without.
    pub(crate) fn client_config(&self, own: Option<&Leaf>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(vec![own.der.clone()], own.private_key()).unwrap(),
        })
    }
}

impl Leaf {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// Writes `<name>.pem` and `<name>.key` into `directory`, and returns their paths.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        fs::write(&certificate, &self.pem).unwrap();
        fs::write(&key, self.key.serialize_pem()).unwrap();
        (certificate, key)
    }
}

/// Makes a certificate one of a server on this machine.
pub(crate) fn localhost(params: &mut CertificateParams) {
    let name = SanType::DnsName("localhost".try_into().unwrap());
    params.subject_alt_names = vec![name, SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}
