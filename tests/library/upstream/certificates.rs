//! The client certificate of an upstream.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use simple_registry::upstream::{Base, ClientIdentity, Settings};

use super::{
    digest,
    hostile::{Hostile, answer},
    settings, upstreams,
};
use crate::shared::certificates::Authority;

/// Returns a configuration of a server that asks for a client certificate and can do without.
fn asks(authority: &Authority) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let clients = clients.allow_unauthenticated().build().unwrap();
    let leaf = authority.server();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_client_cert_verifier(clients).with_single_cert(vec![leaf.der.clone()], leaf.private_key()).unwrap()
}

#[tokio::test]
async fn the_upstream_sees_the_client_certificate_and_the_host_behind_its_redirect_does_not() {
    let authority = Authority::new("hub");
    let store = Hostile::start_with_tls(asks(&authority), |_| answer(200, &[], b"bytes")).await;
    let place = format!("https://127.0.0.1:{}/stored", store.port);
    let hub = Hostile::start_with_tls(asks(&authority), move |_| answer(307, &[("location", &place)], b"")).await;
    let leaf = authority.client("ana");
    let one = upstreams([Settings {
        base: Base::parse(&format!("https://127.0.0.1:{}/v2/hub", hub.port)).unwrap(),
        server_ca_bundle: Some(authority.pem().into_bytes()),
        client_identity: Some(ClientIdentity::new(leaf.pem.as_bytes(), leaf.key.serialize_pem().as_bytes())),
        ..settings(hub.port)
    }]);
    one.blob("app", &digest(b"bytes"), 0).await.unwrap();
    assert_eq!([hub, store].map(|host| host.seen()[0].has_certificate), [true, false]);
}
