//! `certs/make.sh`: what it makes is what the server takes. Needs openssl, so these are run by their own
//! command (`cargo test --test library tls:: -- --ignored`), and fail where there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use simple_registry::config;
use simple_registry::tls::{ClientError, Tls};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

fn make(dir: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make.sh");
    Command::new("bash").arg(script).arg("-d").arg(dir).args(arguments).output().expect("bash is there")
}

/// Runs the script. Returns its words.
#[track_caller]
fn made(dir: &Path, arguments: &[&str]) -> String {
    let output = make(dir, arguments);
    assert!(output.status.success(), "certs/make.sh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the `[server.tls]` that the script proposes, read from its words.
fn proposed(said: &str) -> config::Tls {
    let (_, table) = said.split_once("[server.tls]\n").expect("a table to copy");
    let table: toml::Table = table.parse().unwrap();
    let path = |key: &str| PathBuf::from(table[key].as_str().unwrap());
    assert_eq!(table["client_auth"].as_str(), Some("optional"));
    config::Tls {
        server_certificate_bundle: path("server_certificate_bundle"),
        server_private_key: path("server_private_key"),
        client_ca_bundle: Some(path("client_ca_bundle")),
        client_auth: config::ClientAuth::Optional,
        client_crl: Some(path("client_crl")),
    }
}

fn chain(dir: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap()]
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn it_makes_what_the_server_takes() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("a place with spaces");
    let options = proposed(&made(&dir, &[]));
    assert_eq!(options.server_private_key, dir.canonicalize().unwrap().join("server-key.pem"));
    let tls = Tls::load(&options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tls.warnings(), [""; 0]);

    let said = made(&dir, &["client", "ci/ci/builds", "ana"]);
    assert!(said.contains("\n  ci.pem ") && said.contains("\n  ana.pem "), "{said}");
    let ci = tls.client(&chain(&dir, "ci")).unwrap().certificate;
    assert_eq!((&*ci.common_names, &*ci.organizations), (&["ci".to_owned()][..], &["ci".to_owned()][..]));
    assert_eq!(
        (&*ci.organizational_units, &*ci.uris),
        (&["builds".to_owned()][..], &["spiffe://registry.test/ci".to_owned()][..])
    );
    assert_eq!(tls.client(&chain(&dir, "ana")).unwrap().certificate.organizations, [""; 0]);

    let said = made(&dir, &["revoke", "ci"]);
    assert!(said.contains(" 1 revoked, "), "{said}");
    let tls = Tls::load(&options).unwrap();
    assert_eq!(tls.warnings(), [""; 0]);
    assert_eq!(tls.client(&chain(&dir, "ci")).unwrap_err(), ClientError::Revoked);
    assert!(tls.client(&chain(&dir, "ana")).is_ok());
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn it_names_the_server_certificate_after_the_first_name() {
    let place = tempfile::tempdir().unwrap();
    let long = format!("{}.example", "a".repeat(60));
    for (names, expected) in [
        (&["registry.example.com", "10.0.0.1"][..], "registry.example.com"),
        (&["10.0.0.1"], "10.0.0.1"),
        (&[], "localhost"),
        // longer than a common name may be
        (&[long.as_str()], "localhost"),
    ] {
        let dir = place.path().join(names.first().unwrap_or(&"none"));
        let said = made(&dir, &[&["init"], names].concat());
        assert!(
            said.lines().any(|line| line.starts_with(&format!("  server.pem           CN={expected}, until "))),
            "{said}"
        );
    }
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn it_changes_nothing_when_repeated() {
    let place = tempfile::tempdir().unwrap();
    let read = || {
        let mut files = Vec::new();
        for name in ["ca", "ca-key", "server", "server-key", "crl", "ci", "ci-key"] {
            files.push(std::fs::read_to_string(place.path().join(format!("{name}.pem"))).unwrap());
        }
        files
    };
    made(place.path(), &["client", "ci"]);
    let before = read();
    made(place.path(), &["init", "localhost"]);
    made(place.path(), &["client", "ci/other"]);
    assert_eq!(read(), before);
    made(place.path(), &["revoke", "ci"]);
    made(place.path(), &["revoke", "ci"]);
    made(place.path(), &["list"]);
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn its_server_has_the_names_that_were_asked_for() {
    let place = tempfile::tempdir().unwrap();
    made(place.path(), &[]);
    made(place.path(), &["init", "registry.example.com", "192.0.2.7"]);
    let expected = ["localhost", "127.0.0.1", "::1", "registry.example.com", "192.0.2.7"];
    assert_eq!(server_names(place.path()), expected);
    // another authority, so the certificate is made anew
    std::fs::remove_file(place.path().join("ca.pem")).unwrap();
    let said = made(place.path(), &["client", "ci"]);
    assert!(said.contains(" CN=registry.example.com, until "), "{said}");
    assert_eq!(server_names(place.path()), expected);
}

/// Returns the names in the server's certificate.
fn server_names(dir: &Path) -> Vec<String> {
    let der = chain(dir, "server").remove(0);
    let (_, server) = X509Certificate::from_der(&der).unwrap();
    let names = server.subject_alternative_name().unwrap().unwrap();
    let mut found = Vec::new();
    for name in &names.value.general_names {
        found.push(match name {
            GeneralName::DNSName(name) => ServerName::try_from(*name).unwrap().to_str().into_owned(),
            GeneralName::IPAddress(bytes) if bytes.len() == 4 => {
                std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).unwrap()).to_string()
            }
            GeneralName::IPAddress(bytes) => {
                std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).unwrap()).to_string()
            }
            other => panic!("{other:?}"),
        });
    }
    found
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn its_keys_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    made(place.path(), &["client", "ci"]);
    for name in ["ca-key.pem", "server-key.pem", "ci-key.pem"] {
        let mode = place.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
#[ignore = "needs openssl: cargo test --test library tls:: -- --ignored"]
fn it_says_what_it_cannot_do() {
    let place = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["revoke", "nobody"][..], "there is no certificate of nobody"),
        (&["client", "a b"], "cannot be the name of a client"),
        (&["client", "ca"], "is taken"),
        (&["client"], "name at least one client"),
        (&["init", "a name"], "neither a host name nor an address"),
        (&["fly"], "usage: certs/make.sh"),
    ] {
        let output = make(place.path(), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
