//! `Tls::client`: who is let in, and what is known of them.

use std::fmt::Write as _;
use std::slice;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use rcgen::string::{BmpString, PrintableString, TeletexString, UniversalString};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, SanType,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use simple_registry::identity::Certificate;
use simple_registry::tls::{ClientError, Tls};

use crate::shared::certificates::{Authority, Leaf};
use crate::tls::server_files::Files;

const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

fn verdict(tls: &Tls, leaf: &Leaf) -> Result<Certificate, ClientError> {
    tls.client(slice::from_ref(&leaf.der)).map(|client| (*client.certificate).clone())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn at(year: i32, month: u8, day: u8) -> SystemTime {
    let seconds = date_time_ymd(year, month, day).unix_timestamp();
    UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap())
}

fn invalid(error: ClientError) -> String {
    match error {
        ClientError::Invalid(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_is_known_by_all_that_it_says() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    let leaf = ca.sign(|params| {
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "ci-17");
        name.push(DnType::OrganizationName, "ci");
        // The same attribute again: the library knows each of its own names once.
        name.push(DnType::CustomDnType(ORGANIZATION.to_vec()), "Ünïcode & Söhne");
        name.push(DnType::OrganizationalUnitName, "builds");
        params.subject_alt_names = vec![
            uri("spiffe://example.org/ns/ci/sa/builder"),
            dns("runner.example.org"),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::Rfc822Name("ci@example.org".try_into().unwrap()),
            dns("*.example.org"),
        ];
        params.serial_number = Some(vec![0x00, 0xc0, 0xff, 0xee, 0x00].into());
        params.not_before = date_time_ymd(2020, 2, 29);
        params.not_after = date_time_ymd(2099, 12, 31);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let client = tls.client(slice::from_ref(&leaf.der)).unwrap();
    let whose = client.certificate.issuer_and_subject.clone();
    assert!(whose.contains(';') && whose.contains("CN=ci-17") && whose.contains("O=Ünïcode & Söhne"), "{whose}");
    let expected = Certificate {
        common_names: vec!["ci-17".to_owned()],
        organizations: vec!["ci".to_owned(), "Ünïcode & Söhne".to_owned()],
        organizational_units: vec!["builds".to_owned()],
        dns_names: vec!["runner.example.org".to_owned(), "*.example.org".to_owned()],
        uris: vec!["spiffe://example.org/ns/ci/sa/builder".to_owned()],
        serial: "c0ffee00".to_owned(),
        fingerprint: hex(&Sha256::digest(&leaf.der)),
        not_before: "2020-02-29T00:00:00Z".to_owned(),
        not_after: "2099-12-31T00:00:00Z".to_owned(),
        issuer_and_subject: whose,
    };
    assert_eq!(*client.certificate, expected);
    assert_eq!(client.valid_until, at(2099, 12, 31));
}

/// Uploads belong to a certificate by its issuer and subject.
#[test]
fn no_two_names_are_written_alike() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    let whose = |names: &[(DnType, &str)]| {
        let leaf = ca.sign(|params| {
            for (kind, name) in names {
                params.distinguished_name.push(kind.clone(), *name);
            }
        });
        verdict(&tls, &leaf).unwrap().issuer_and_subject
    };
    let two = whose(&[(DnType::CommonName, "ann"), (DnType::OrganizationName, "x")]);
    assert!(two.ends_with(";CN=ann,O=x"), "{two}");
    let one = whose(&[(DnType::CommonName, "ann,O=x")]);
    assert!(one.ends_with(";CN=ann\\2cO=x"), "{one}");
    let signs = whose(&[(DnType::CommonName, "#a;b+c\\")]);
    assert!(signs.ends_with(";CN=\\23a\\3bb\\2bc\\5c"), "{signs}");
    let country = whose(&[(DnType::CountryName, "CH")]);
    assert!(country.ends_with(";2.5.4.6=CH"), "{country}");
    assert!(two.starts_with(one.split(';').next().unwrap()), "one authority");
}

#[test]
fn a_certificate_may_say_next_to_nothing() {
    let ca = Authority::new("ca");
    let leaf = ca.sign(|params| params.serial_number = Some(vec![5].into()));
    let facts = verdict(&Files::asking(&ca).load(), &leaf).unwrap();
    let empty = Certificate { common_names: Vec::new(), ..facts.clone() };
    assert_eq!(facts, empty);
    assert_eq!(
        (facts.serial.as_str(), facts.organizations.len() + facts.dns_names.len() + facts.uris.len()),
        ("05", 0)
    );
}

#[test]
fn a_certificate_without_an_end_is_valid() {
    // RFC 5280, section 4.1.2.5: 99991231235959Z says that there is no known end.
    let ca = Authority::new("ca");
    let leaf = ca.sign(|params| {
        params.not_after = date_time_ymd(9999, 12, 31).replace_hour(23).unwrap().replace_minute(59).unwrap();
    });
    assert_eq!(verdict(&Files::asking(&ca).load(), &leaf).unwrap().not_after, "9999-12-31T23:59:00Z");
}

#[test]
fn names_are_read_in_every_encoding() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    for (value, text) in [
        (DnValue::PrintableString(PrintableString::try_from("plain").unwrap()), "plain"),
        (DnValue::BmpString(BmpString::try_from("Käse 乾酪").unwrap()), "Käse 乾酪"),
        (DnValue::UniversalString(UniversalString::try_from("Käse 🧀").unwrap()), "Käse 🧀"),
        (DnValue::TeletexString(TeletexString::try_from("cheese").unwrap()), "cheese"),
    ] {
        let leaf = ca.sign(|params| params.distinguished_name.push(DnType::OrganizationName, value));
        assert_eq!(verdict(&tls, &leaf).unwrap().organizations, [text]);
    }
}

#[test]
fn names_that_cannot_be_read_are_refused_not_left_out() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    // A DNS name of bytes that are no ASCII, and an extension that is no list of names.
    for content in [vec![0x30, 0x04, 0x82, 0x02, 0xc3, 0x28], vec![0x04, 0x01, 0x00]] {
        let leaf = ca.sign(|params| {
            params.custom_extensions = vec![CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, content)];
        });
        let why = verdict(&tls, &leaf).unwrap_err();
        assert!(matches!(why, ClientError::Invalid(_)), "{why:?}");
    }
}

#[test]
fn names_are_bounded_in_length_and_number() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    let with_names = |count: usize, length: usize| {
        ca.sign(|params| {
            params.subject_alt_names = (0..count).map(|n| uri(&format!("{n:0length$}"))).collect();
        })
    };
    // 64 of the longest would be more than the 64 KiB that a certificate may have in all.
    assert_eq!(verdict(&tls, &with_names(64, 900)).unwrap().uris.len(), 64);
    assert_eq!(verdict(&tls, &with_names(1, 1024)).unwrap().uris[0].len(), 1024);
    let why = invalid(verdict(&tls, &with_names(65, 3)).unwrap_err());
    assert_eq!(why, "it has more than 64 values of URI");
    let why = invalid(verdict(&tls, &with_names(1, 1025)).unwrap_err());
    assert_eq!(why, "a URI of it has more than 1024 bytes");
}

#[test]
fn the_clock_decides() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    let past = ca.sign(|params| params.not_after = date_time_ymd(2001, 1, 1));
    assert_eq!(verdict(&tls, &past), Err(ClientError::Expired));
    let future = ca.sign(|params| params.not_before = date_time_ymd(4000, 1, 1));
    assert_eq!(verdict(&tls, &future), Err(ClientError::NotYetValid));
}

#[test]
fn other_authorities_other_uses_and_no_certificate_are_refused() {
    let ca = Authority::new("ca");
    let tls = Files::asking(&ca).load();
    assert_eq!(verdict(&tls, &Authority::new("other").client("ci")), Err(ClientError::UnknownIssuer));
    // The right name and another key.
    assert_eq!(verdict(&tls, &Authority::new("ca").client("ci")), Err(ClientError::UnknownIssuer));
    let server = ca.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(invalid(verdict(&tls, &server).unwrap_err()).contains("clientAuth"));
    assert_eq!(invalid(tls.client(&[]).unwrap_err()), "there is none");
    // An authority is nobody's client.
    assert!(tls.client(&[ca.issuer.der().clone()]).is_err());
}

#[test]
fn chains_go_through_what_the_client_sends_along() {
    let root = Authority::new("root");
    let first = root.intermediate("first", |params| params.not_after = date_time_ymd(2090, 1, 1));
    let second = first.intermediate("second", |params| params.not_after = date_time_ymd(2080, 1, 1));
    let leaf = second.sign(|params| params.not_after = date_time_ymd(2099, 1, 1));
    let tls = Files::asking(&root).load();
    let der = |authority: &Authority| authority.issuer.der().clone();
    let client = tls.client(&[leaf.der.clone(), second.issuer.der().clone(), der(&first)]).unwrap();
    assert_eq!(client.valid_until, at(2080, 1, 1), "that of the one that expires first");
    // In any order, and with something that is no part of it and has expired.
    let stray = Authority::with("stray", |params| params.not_after = date_time_ymd(2001, 1, 1));
    let client = tls.client(&[leaf.der.clone(), der(&stray), der(&first), der(&second), der(&root)]).unwrap();
    assert_eq!(client.valid_until, at(2080, 1, 1));
    assert_eq!(tls.client(&[leaf.der.clone(), der(&first)]).unwrap_err(), ClientError::UnknownIssuer);
    assert_eq!(verdict(&tls, &leaf), Err(ClientError::UnknownIssuer));

    let old = root.intermediate("old", |params| params.not_after = date_time_ymd(2001, 1, 1));
    assert_eq!(tls.client(&[old.client("ci").der, der(&old)]).unwrap_err(), ClientError::Expired);
    let short = root.intermediate("short", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.intermediate("below", |_| {});
    assert!(tls.client(&[below.client("ci").der, der(&below), der(&short)]).is_err(), "no authority below that one");
    let nobody = root.intermediate("nobody", |params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa);
    assert!(tls.client(&[nobody.client("ci").der, der(&nobody)]).is_err(), "not an authority");
}

#[test]
fn a_certificate_that_a_list_names_is_revoked() {
    let root = Authority::new("root");
    let below = root.intermediate("below", |_| {});
    let numbered = |authority: &Authority, serial: Vec<u8>| {
        let leaf = authority.sign(|params| params.serial_number = Some(serial.into()));
        leaf.der
    };
    let between = below.issuer.der().clone();
    let mut files = Files::asking(&root);
    files.crl(&root.list(&[7, 0x80]));
    let tls = files.load();
    let verdict = |tls: &Tls, chain: &[CertificateDer<'_>]| tls.client(chain).map(|_| ());
    assert_eq!(verdict(&tls, &[numbered(&root, vec![7])]), Err(ClientError::Revoked));
    assert_eq!(verdict(&tls, &[numbered(&root, vec![0x80])]), Err(ClientError::Revoked));
    assert_eq!(verdict(&tls, &[numbered(&root, vec![8])]), Ok(()));
    // A number is an issuer's own, and nothing is known of an issuer without a list.
    assert_eq!(verdict(&tls, &[numbered(&below, vec![7]), between.clone()]), Ok(()));

    // What is revoked takes along what hangs on it.
    files.crl(&root.list(&[77]));
    assert_eq!(verdict(&files.load(), &[numbered(&below, vec![1]), between.clone()]), Err(ClientError::Revoked));
    // A list of the one between, which is in no bundle.
    files.crl(&(root.list(&[]) + &below.list(&[7])));
    assert_eq!(verdict(&files.load(), &[numbered(&below, vec![7]), between.clone()]), Err(ClientError::Revoked));
    assert_eq!(verdict(&files.load(), &[numbered(&root, vec![7])]), Ok(()));
    // Out of date, and beside a newer one of the same issuer: it goes on revoking.
    let old = root.list_with(&[7], |params| params.next_update = date_time_ymd(2021, 1, 1));
    for lists in [old.clone() + &root.list(&[9]), root.list(&[9]) + &old] {
        files.crl(&lists);
        let tls = files.load();
        assert_eq!(verdict(&tls, &[numbered(&root, vec![7])]), Err(ClientError::Revoked));
        assert_eq!(verdict(&tls, &[numbered(&root, vec![9])]), Err(ClientError::Revoked));
    }
}

#[test]
fn an_authority_may_have_an_old_key_and_a_new_one() {
    let (old, new) = (Authority::new("ca"), Authority::new("ca"));
    let mut files = Files::asking(&old);
    files.ca(&(old.pem() + &new.pem()));
    files.crl(&new.list(&[7]));
    let tls = files.load();
    assert!(verdict(&tls, &old.client("ci")).is_ok());
    assert!(verdict(&tls, &new.client("ci")).is_ok());
    assert_eq!(
        verdict(&tls, &old.sign(|params| params.serial_number = Some(7_u64.into()))),
        Err(ClientError::Revoked),
        "numbers are the name's"
    );
}

/// One good chain, for what is made of it.
static GOOD: LazyLock<(Tls, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let root = Authority::new("root");
    let below = root.intermediate("below", |_| {});
    let leaf = below.sign(|params| {
        params.distinguished_name.push(DnType::CommonName, "ci");
        params.distinguished_name.push(DnType::OrganizationName, "ci");
        params.subject_alt_names = vec![dns("a.example.org"), uri("spiffe://example.org/ci")];
    });
    let mut files = Files::asking(&root);
    files.crl(&(root.list(&[1]) + &below.list(&[1])));
    (files.load(), vec![leaf.der.to_vec(), below.issuer.der().to_vec()])
});

fn judge(chain: &[Vec<u8>]) -> Result<(), ClientError> {
    let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    GOOD.0.client(&chain).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4)) {
        prop_assert!(judge(&chain).is_err());
    }

    /// A certificate is signed, so that no change of it is accepted.
    #[test]
    fn a_changed_certificate_is_refused(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut chain = GOOD.1.clone();
        let at = at.index(chain[0].len());
        let changed = chain[0][at] != with;
        chain[0][at] = with;
        prop_assert_eq!(judge(&chain).is_err(), changed);
    }

    #[test]
    fn a_certificate_that_is_cut_off_or_goes_on_is_refused(len in any::<prop::sample::Index>(), more in 1..9_usize) {
        let mut chain = GOOD.1.clone();
        let whole = chain[0].len();
        chain[0].truncate(len.index(whole));
        prop_assert!(judge(&chain).is_err());
        chain[0] = [GOOD.1[0].as_slice(), &vec![0; more]].concat();
        prop_assert!(judge(&chain).is_err());
    }

    /// A client may send any certificates along, as long as the chain is among them.
    #[test]
    fn certificates_that_are_sent_along_do_no_harm(stray in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut chain = GOOD.1.clone();
        chain.push(stray);
        prop_assert_eq!(judge(&chain), Ok(()));
    }
}

/// Signed by the authority, with anything in its names: no panic, and whatever is accepted is bounded.
#[test]
fn anything_signed_is_read_or_refused() {
    static CA: LazyLock<(Authority, Tls)> = LazyLock::new(|| {
        let ca = Authority::new("ca");
        let tls = Files::asking(&ca).load();
        (ca, tls)
    });
    let accepted = Mutex::new(0);
    let config = ProptestConfig { cases: 300, ..ProptestConfig::default() };
    proptest!(config, |(
        content in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            // Names of any kind with any bytes in them.
            prop::collection::vec((0_u8..9, prop::collection::vec(any::<u8>(), 0..10)), 0..8).prop_map(|names| {
                let names: Vec<u8> = names.into_iter().flat_map(|(kind, name)| {
                    [&[0x80 | kind, u8::try_from(name.len()).unwrap()], name.as_slice()].concat()
                }).collect();
                [&[0x30, u8::try_from(names.len()).unwrap()], names.as_slice()].concat()
            }),
        ],
        name in ".{0,40}",
    )| {
        let leaf = CA.0.sign(|params| {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
            params.custom_extensions = vec![CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, content)];
        });
        if let Ok(facts) = verdict(&CA.1, &leaf) {
            prop_assert_eq!(facts.common_names, [name]);
            *accepted.lock().unwrap() += 1;
        }
    });
    assert!(*accepted.lock().unwrap() > 0, "some of them are fine");
}
