//! Files of `[server.tls]`: the forms that are read, and those that are refused.

use base64::Engine as _;
use rcgen::{BasicConstraints, IsCa, KeyPair, KeyUsagePurpose, RsaKeySize, date_time_ymd};
use simple_registry::config::ClientAuth;
use simple_registry::tls::Tls;

use crate::shared::certificates::{Authority, localhost};
use crate::tls::handshake::{Client, connect};
use crate::tls::server_files::Files;

/// Returns the contents of the OCTET STRING in a PKCS#8 key (RFC 5958): the key in its older form.
fn inside_of_pkcs8(der: &[u8]) -> Vec<u8> {
    use x509_parser::der_parser::der::parse_der;
    let (_, info) = parse_der(der).unwrap();
    info.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Says each of the words, and nothing of the key.
#[track_caller]
fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    assert!(error.contains("\nhelp: "), "{error}");
    // A line of PEM has 64 characters of base64.
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    assert!(!error.split(|c| !base64(c)).any(|word| word.len() >= 60), "{error}");
}

#[test]
fn every_kind_and_form_of_key_serves() {
    let keys = [
        (KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), Some("RSA PRIVATE KEY")),
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(), Some("EC PRIVATE KEY")),
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(), Some("EC PRIVATE KEY")),
        (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap(), Some("EC PRIVATE KEY")),
        (KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), None),
    ];
    let authority = Authority::new("ca");
    for (key, older) in keys {
        let name = format!("{:?}", key.algorithm());
        let server = authority.sign_for(key, localhost);
        let mut forms = vec![server.key.serialize_pem()];
        forms.extend(older.map(|label| pem(label, &inside_of_pkcs8(&server.key.serialize_der()))));
        for form in forms {
            let files = Files::new(&server);
            // Windows' line ends do no harm.
            files.write("server.key", &form.replace('\n', "\r\n"));
            let tls = files.load();
            assert_eq!(tls.warnings(), [""; 0], "{name}");
            assert!(!tls.asks_for_certificates());
            let met = connect(&tls, Client::new(&authority)).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(met.client, None);
        }
    }
}

#[test]
fn a_bundle_may_have_text_and_several_certificates() {
    let root = Authority::new("root");
    let below = root.intermediate("below", |_| {});
    let server = below.server();
    let files = Files::new(&server);
    files.write("server.pem", &format!("subject=localhost\n\n{}issuer:\n{}", server.pem, below.pem()));
    let tls = files.load();
    connect(&tls, Client::new(&root)).expect("the client trusts the root alone, so the bundle must have been sent");
}

#[test]
fn all_files_are_named_for_whoever_watches_them() {
    let mut files = Files::asking(&Authority::new("ca"));
    assert_eq!(Tls::files(&files.options), ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name)));
    files.crl("");
    assert_eq!(
        Tls::files(&files.options),
        ["server.pem", "server.key", "ca.pem", "crl.pem"].map(|name| files.path(name))
    );
}

#[test]
fn a_file_that_is_missing_is_named_with_its_key() {
    let mut files = Files::asking(&Authority::new("ca"));
    files.options.server_certificate_bundle = files.path("nowhere.pem");
    files.options.server_private_key = files.path("nowhere.key");
    files.options.client_ca_bundle = Some(files.path("no-ca.pem"));
    let error = files.refused();
    says(&error, &["server.tls.server_certificate_bundle: ", "nowhere.pem cannot be read: ", "No such file"]);
    says(&error, &["server.tls.server_private_key: ", "nowhere.key", "server.tls.client_ca_bundle: ", "no-ca.pem"]);
    files.options.client_ca_bundle = Some(files.dir().to_owned());
    says(&files.refused(), &["server.tls.client_ca_bundle: ", "directory"]);
}

#[test]
fn a_file_holds_what_its_key_is_for() {
    let authority = Authority::new("ca");
    let server = authority.server();
    let key = server.key.serialize_pem();
    let der = String::from_utf8_lossy(&server.der).into_owned();
    let cut = &server.pem[..server.pem.len() - 30];
    let cases: [(&str, String, &[&str]); 14] = [
        (
            "server.pem",
            String::new(),
            &["server_certificate_bundle", "holds no certificate", "-----BEGIN CERTIFICATE-----"],
        ),
        ("server.pem", der, &["holds no certificate", "openssl x509 -inform der"]),
        ("server.pem", key.clone(), &["server_certificate_bundle", "`PRIVATE KEY`", "`CERTIFICATE`"]),
        ("server.pem", server.pem.replace(" CERTIFICATE", " TRUSTED CERTIFICATE"), &["`TRUSTED CERTIFICATE`"]),
        ("server.pem", cut.to_owned(), &["server_certificate_bundle", "cut off"]),
        ("server.pem", format!("{cut}\n{}", server.pem), &["server_certificate_bundle"]),
        ("server.pem", server.pem.replace("MII", "!!!"), &["not base64"]),
        ("server.pem", pem("CERTIFICATE", b"nothing"), &["certificate 1", "not an X.509 certificate"]),
        ("server.pem", server.pem.clone() + &pem("CERTIFICATE", b"nothing"), &["certificate 2", "not an X.509"]),
        ("server.key", server.pem.clone(), &["server_private_key", "`CERTIFICATE`"]),
        (
            "server.key",
            pem("PRIVATE KEY", b"nothing"),
            &["server_private_key", "holds no key that can be used", "ECDSA"],
        ),
        ("server.key", pem("ENCRYPTED PRIVATE KEY", b"nothing"), &["server_private_key", "passphrase", "openssl pkey"]),
        ("server.key", format!("{key}{key}"), &["server_private_key", "more than one"]),
        (
            "server.key",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                .to_owned(),
            &["passphrase"],
        ),
    ];
    for (file, text, words) in cases {
        let files = Files::new(&server);
        if file == "server.pem" && text.contains('\u{fffd}') {
            std::fs::write(files.path(file), &server.der).unwrap();
        } else {
            files.write(file, &text);
        }
        let error = files.refused();
        says(&error, words);
        says(&error, &[files.path(file).to_str().unwrap()]);
        assert!(!error.contains("nothing"), "{error}");
    }
    let mut files = Files::asking(&authority);
    files.ca(&server.key.serialize_pem());
    says(&files.refused(), &["server.tls.client_ca_bundle", "`PRIVATE KEY`"]);
    files.ca("");
    says(&files.refused(), &["server.tls.client_ca_bundle", "holds no certificate"]);
    files.ca(&authority.pem());
    files.crl(&authority.pem());
    says(&files.refused(), &["server.tls.client_crl", "`CERTIFICATE`", "`X509 CRL`"]);
    files.crl("");
    says(&files.refused(), &["server.tls.client_crl", "holds no revocation list"]);
    files.crl(&pem("X509 CRL", b"nothing"));
    says(&files.refused(), &["server.tls.client_crl", "list 1"]);
}

#[test]
fn a_key_belongs_to_the_first_certificate() {
    let authority = Authority::new("ca");
    let server = authority.server();
    let files = Files::new(&server);
    files.write("server.key", &authority.server().key.serialize_pem());
    says(
        &files.refused(),
        &["server.tls.server_private_key", "server.key does not belong", "server.pem", "comes first"],
    );
    let files = Files::new(&server);
    files.write("server.pem", &format!("{}{}", authority.pem(), server.pem));
    says(&files.refused(), &["server.tls.server_private_key", "does not belong", "comes first"]);
}

#[test]
fn keys_for_client_certificates_need_authorities() {
    let authority = Authority::new("ca");
    let mut files = Files::new(&authority.server());
    files.options.client_auth = ClientAuth::Required;
    files.crl(&authority.list(&[]));
    says(&files.refused(), &["server.tls.client_auth: is \"required\" without server.tls.client_ca_bundle"]);
    says(&files.refused(), &["server.tls.client_crl: is set without server.tls.client_ca_bundle"]);
}

#[test]
fn an_authority_is_one() {
    let authority = Authority::new("ca");
    let mut files = Files::asking(&authority);
    files.ca(&format!("{}{}", authority.pem(), authority.client("ci").pem));
    says(&files.refused(), &["server.tls.client_ca_bundle", "certificate 2, CN=ci,", "no authority", "CA:TRUE"]);
    let wrong_usage = Authority::with("wrong", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    files.ca(&wrong_usage.pem());
    says(&files.refused(), &["certificate 1", "no authority", "keyCertSign"]);
    let no_usage = Authority::with("plain", |params| {
        params.key_usages = Vec::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    files.ca(&no_usage.pem());
    files.load();
}

#[test]
fn a_certificate_that_clients_will_refuse_is_a_warning() {
    let authority = Authority::with("old", |params| params.not_after = date_time_ymd(2001, 1, 1));
    let expired = authority.sign(|params| {
        localhost(params);
        params.not_after = date_time_ymd(2001, 2, 3);
    });
    let mut files = Files::new(&expired);
    files.ca(&authority.pem());
    let tls = files.load();
    let warnings = tls.warnings().join("\n");
    assert!(warnings.contains("server.tls.server_certificate_bundle: "), "{warnings}");
    assert!(warnings.contains("has expired on 2001-02-03T00:00:00Z"), "{warnings}");
    assert!(warnings.contains("server.tls.client_ca_bundle: "), "{warnings}");
    assert!(warnings.contains("has expired on 2001-01-01T00:00:00Z"), "{warnings}");

    let later = authority.sign(|params| params.not_before = date_time_ymd(4000, 1, 1));
    let tls = Files::new(&later).load();
    let warnings = tls.warnings().join("\n");
    assert!(warnings.contains("not valid before 4000-01-01T00:00:00Z"), "{warnings}");
    assert!(warnings.contains("no subjectAltName"), "{warnings}");
}

#[test]
fn a_list_that_is_not_its_authoritys_is_refused() {
    let authority = Authority::new("ca");
    let mut files = Files::asking(&authority);
    files.crl(&Authority::new("ca").list(&[1]));
    says(&files.refused(), &["server.tls.client_crl", "list 1, of CN=ca,", "not signed by the authority of that name"]);
    files.crl(&(authority.list(&[1]) + &Authority::new("ca").list(&[1])));
    says(&files.refused(), &["list 2, of CN=ca,"]);
}

#[test]
fn an_odd_list_is_a_warning() {
    let authority = Authority::new("ca");
    let mut files = Files::asking(&authority);
    files.crl(&authority.list_with(&[], |params| params.next_update = date_time_ymd(2021, 1, 1)));
    let warnings = files.load().warnings().join("\n");
    assert!(warnings.contains("list 1, of CN=ca, is out of date since 2021-01-01T00:00:00Z"), "{warnings}");
    files.crl(&authority.intermediate("below", |_| {}).list(&[]));
    let warnings = files.load().warnings().join("\n");
    assert!(warnings.contains("list 1, of CN=below, is believed unchecked"), "{warnings}");
}

#[test]
fn debug_tells_nothing() {
    let tls = Files::asking(&Authority::new("ca")).load();
    assert_eq!(format!("{tls:?}"), "Tls { asks_for_certificates: true, .. }");
}
