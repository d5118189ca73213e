//! Handshakes in memory: what the server and a client make of each other.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use simple_registry::tls::{ClientError, Tls};

use crate::shared::certificates::{Authority, Leaf};
use crate::tls::server_files::Files;

/// A client as it is about to connect.
pub(crate) struct Client {
    config: ClientConfig,
}

impl Client {
    /// Makes a client without a certificate, which trusts an authority.
    pub(crate) fn new(trusts: &Authority) -> Self {
        Self::of(trusts, None, &[&TLS13, &TLS12])
    }

    /// Makes a client with a certificate, and those after it.
    pub(crate) fn with(trusts: &Authority, leaf: &Leaf, more: &[&Authority]) -> Self {
        Self::of(trusts, Some(identity(leaf, more)), &[&TLS13, &TLS12])
    }

    fn of(
        trusts: &Authority,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        Self { config }
    }

    fn speaks(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }
}

fn identity(leaf: &Leaf, more: &[&Authority]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = std::iter::once(leaf.der.clone()).chain(more.iter().map(|more| more.issuer.der().clone())).collect();
    (chain, leaf.private_key())
}

/// The outcome of a handshake.
#[derive(Debug, PartialEq)]
pub(crate) struct Met {
    /// The common name of the client's certificate, as [`Tls::client`] reads it from the connection.
    pub(crate) client: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) version: ProtocolVersion,
    pub(crate) resumed: bool,
}

/// Shakes hands and sends a byte each way. Returns the knowledge of the server, or its error.
pub(crate) fn connect(tls: &Tls, client: Client) -> Result<Met, String> {
    connect_again(tls, &Arc::new(client.config))
}

fn connect_again(tls: &Tls, client: &Arc<ClientConfig>) -> Result<Met, String> {
    let mut server = ServerConnection::new(tls.server_config()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
    client.writer().write_all(b"?").unwrap();
    let mut answered = false;
    let mut buffer = [0];
    loop {
        let mut moved = false;
        while client.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            moved = true;
        }
        if !answered && server.reader().read(&mut buffer).is_ok_and(|count| count == 1) {
            server.writer().write_all(b"!").unwrap();
            answered = true;
        }
        while server.wants_write() {
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| format!("the client: {error}"))?;
            moved = true;
        }
        if !moved {
            break;
        }
    }
    assert!(
        answered && client.reader().read(&mut buffer).is_ok_and(|count| count == 1),
        "the handshake came to an end"
    );
    let chain = server.peer_certificates();
    let known = chain.map(|chain| tls.client(chain).unwrap().certificate.common_names[0].clone());
    Ok(Met {
        client: known,
        protocol: server.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap()),
        version: server.protocol_version().unwrap(),
        resumed: server.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}

#[test]
fn a_certificate_is_optional_or_required() {
    let ca = Authority::new("ca");
    let ci = ca.client("ci");
    let tls = Files::asking(&ca).load();
    assert!(tls.asks_for_certificates());
    assert_eq!(connect(&tls, Client::new(&ca)).unwrap().client, None);
    assert_eq!(connect(&tls, Client::with(&ca, &ci, &[])).unwrap().client.as_deref(), Some("ci"));
    let tls = Files::asking(&ca).required().load();
    assert!(tls.asks_for_certificates());
    let refused = connect(&tls, Client::new(&ca)).unwrap_err();
    assert!(refused.contains("peer sent no certificates"), "{refused}");
    assert_eq!(connect(&tls, Client::with(&ca, &ci, &[])).unwrap().client.as_deref(), Some("ci"));
}

#[test]
fn both_versions_and_both_protocols() {
    let ca = Authority::new("ca");
    let ci = ca.client("ci");
    let tls = Files::asking(&ca).load();
    for (versions, version) in [([&TLS12], ProtocolVersion::TLSv1_2), ([&TLS13], ProtocolVersion::TLSv1_3)] {
        for (offered, chosen) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let client = Client::of(&ca, Some(identity(&ci, &[])), &versions).speaks(offered);
            let met = connect(&tls, client).unwrap();
            let expected =
                Met { client: Some("ci".to_owned()), protocol: chosen.map(str::to_owned), version, resumed: false };
            assert_eq!(met, expected);
        }
    }
    let refused = connect(&tls, Client::new(&ca).speaks(&["spdy/3"])).unwrap_err();
    assert!(refused.contains("known protocol"), "{refused}");
}

#[test]
fn the_handshake_refuses_each_chain_that_client_refuses() {
    let ca = Authority::new("ca");
    let mut files = Files::asking(&ca);
    files.crl(&ca.list(&[7]));
    let tls = files.load();
    let revoked = ca.sign(|params| params.serial_number = Some(7_u64.into()));
    let expired = ca.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let wordy = ca.client(&"x".repeat(1025));
    let foreign = Authority::new("other").client("ci");
    let impostor = Authority::new("ca").client("ci");
    for (leaf, why, word) in [
        (revoked, ClientError::Revoked, "Revoked"),
        (expired, ClientError::Expired, "Expired"),
        (foreign, ClientError::UnknownIssuer, "UnknownIssuer"),
        (impostor, ClientError::UnknownIssuer, "UnknownIssuer"),
        (
            wordy,
            ClientError::Invalid("a common name of it has more than 1024 bytes".to_owned()),
            "more than 1024 bytes",
        ),
    ] {
        assert_eq!(tls.client(std::slice::from_ref(&leaf.der)).unwrap_err(), why);
        for versions in [[&TLS12], [&TLS13]] {
            let refused = connect(&tls, Client::of(&ca, Some(identity(&leaf, &[])), &versions)).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}

#[test]
fn a_session_is_resumed_within_a_set_and_not_across_two() {
    let ca = Authority::new("ca");
    let ci = ca.client("ci");
    for versions in [[&TLS12], [&TLS13]] {
        let files = Files::asking(&ca);
        let (old, same_files_again) = (files.load(), files.load());
        let mut client = Client::of(&ca, Some(identity(&ci, &[])), &versions).config;
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        let visit = |tls: &Tls| {
            let met = connect_again(tls, &client).unwrap();
            assert_eq!(met.client.as_deref(), Some("ci"), "a resumed session knows its client, too");
            met.resumed
        };
        assert!(!visit(&old));
        assert!(visit(&old));
        assert!(!visit(&same_files_again), "a session of an older set is not resumed under a newer one");
        assert!(visit(&same_files_again));
    }
}

#[test]
fn a_connection_of_an_older_set_is_judged_by_a_newer_one() {
    let ca = Authority::new("ca");
    let ci = ca.sign(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "ci");
        params.serial_number = Some(7_u64.into());
    });
    let mut files = Files::asking(&ca);
    let old = files.load();
    let chain = [ci.der.clone()];
    assert_eq!(connect(&old, Client::with(&ca, &ci, &[])).unwrap().client.as_deref(), Some("ci"));
    files.crl(&ca.list(&[7]));
    assert_eq!(files.load().client(&chain).unwrap_err(), ClientError::Revoked);
    files.options.client_crl = None;
    files.ca(&Authority::new("new").pem());
    assert_eq!(files.load().client(&chain).unwrap_err(), ClientError::UnknownIssuer);
    files.options.client_ca_bundle = None;
    assert_eq!(files.load().client(&chain).unwrap_err(), ClientError::UnknownIssuer);
    assert!(old.client(&chain).is_ok());
}
