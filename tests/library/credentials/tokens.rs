//! Tokens, and the key that they are signed with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use simple_registry::credentials::{Claims, KeyError, Scopes, Signer, TokenError};
use simple_registry::memory::Memory;

use crate::support::MACHINE;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signer(dir: &Path) -> Signer {
    Signer::load_or_create(&dir.join("token.key"), &Memory::new(1 << 20)).unwrap()
}

fn claims() -> Claims {
    Claims {
        account: Some(("id-ana".to_owned(), "0123456789abcdef".to_owned())),
        certificates: vec![vec![0, 1, 2, 255], vec![48; 2000]],
        scopes: Scopes::parse(["repository:a/b:pull,push registry:catalog:*"].into_iter()).unwrap(),
        issued: now(),
        expires: now() + 300,
    }
}

#[test]
fn a_token_says_what_was_put_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(dir.path());
    let empty = Claims { expires: now() + 60, ..Claims::default() };
    for claims in [claims(), empty] {
        let token = signer.issue(&claims);
        assert_eq!(*signer.verify(&token).unwrap(), claims);
        assert_eq!(*signer.verify(&token).unwrap(), claims, "remembered");
    }
}

#[test]
fn a_token_is_valid_until_it_expires_and_not_a_second_longer() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(dir.path());
    for age in [0, 1, 1000] {
        let token = signer.issue(&Claims { expires: now() - age, ..claims() });
        assert_eq!(signer.verify(&token).unwrap_err(), TokenError::Expired);
    }
    let expires = now() + 2;
    let token = signer.issue(&Claims { expires, ..claims() });
    assert!(signer.verify(&token).is_ok());
    let deadline = Instant::now() + Duration::from_secs(10);
    let error = loop {
        match signer.verify(&token) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "a token that was remembered is valid for ever"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(error, TokenError::Expired);
    assert!(now() >= expires);
}

#[test]
fn nobody_else_makes_tokens() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signer = signer(dir.path());
    let token = signer.issue(&claims());
    assert_eq!(self::signer(other.path()).verify(&token).unwrap_err(), TokenError::Signature);
    let parts: Vec<&str> = token.split('.').collect();
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let forged = URL_SAFE_NO_PAD.encode(payload.replace("id-ana", "id-bob"));
    let token = format!("{}.{forged}.{}", parts[0], parts[2]);
    assert_eq!(signer.verify(&token).unwrap_err(), TokenError::Signature);
    let none = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"none"}"#);
    for token in [format!("{none}.{}.", parts[1]), format!("{none}.{}.{}", parts[1], parts[2]), String::new()] {
        assert_eq!(signer.verify(&token).unwrap_err(), TokenError::Malformed, "{token}");
    }
    let huge = format!("{}.{}.{}", parts[0], "A".repeat(1 << 20), parts[2]);
    assert_eq!(signer.verify(&huge).unwrap_err(), TokenError::Malformed);
}

/// Signed with the right key, and yet no token of this registry.
#[test]
fn a_token_for_something_else_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(dir.path());
    let key = fs::read_to_string(dir.path().join("token.key")).unwrap();
    let key = EncodingKey::from_secret(&STANDARD.decode(key.trim()).unwrap());
    let good = serde_json::json!({
        "iss": "simple-registry", "aud": "simple-registry:v2", "iat": now(), "exp": now() + 60,
    });
    let sign =
        |claims: &serde_json::Value, algorithm| jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap();
    assert!(signer.verify(&sign(&good, Algorithm::HS256)).is_ok());
    assert_eq!(signer.verify(&sign(&good, Algorithm::HS512)).unwrap_err(), TokenError::Malformed);
    let changes = [
        ("iss", serde_json::json!("somebody")),
        ("aud", serde_json::json!("another registry")),
        ("exp", serde_json::json!("never")),
        ("x5c", serde_json::json!(["not base64!"])),
        ("scope", serde_json::json!("repository:UPPER:pull")),
        ("account", serde_json::json!("ana")),
        ("unknown", serde_json::json!(1)),
        ("iss", serde_json::Value::Null),
        ("exp", serde_json::Value::Null),
    ];
    for (name, value) in changes {
        let mut claims = good.clone();
        claims[name] = value;
        let token = sign(&claims, Algorithm::HS256);
        assert_eq!(signer.verify(&token).unwrap_err(), TokenError::Malformed, "{claims}");
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/token.key");
    let token = Signer::load_or_create(&path, &Memory::new(1 << 20)).unwrap().issue(&claims());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(STANDARD.decode(text.trim_end()).unwrap().len(), 32);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["token.key"]);
    let again = Signer::load_or_create(&path, &Memory::new(1 << 20)).unwrap();
    assert!(again.verify(&token).is_ok() && again.warning().is_none());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn servers_that_start_at_once_have_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let start = std::sync::Barrier::new(8);
    let signers: Vec<Signer> = std::thread::scope(|threads| {
        let start = || {
            start.wait();
            signer(dir.path())
        };
        let started: Vec<_> = (0..8).map(|_| threads.spawn(start)).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let token = signers[0].issue(&claims());
    assert!(signers.iter().all(|signer| signer.verify(&token).is_ok()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_key_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token.key");
    let bad: [&[u8]; 6] = [
        b"",
        b"\n",
        b"hunter2",
        b"\xff\xfe",
        STANDARD.encode([1; 31]).as_bytes().to_vec().leak(),
        STANDARD.encode([1; 64]).as_bytes().to_vec().leak(),
    ];
    for bytes in bad {
        fs::write(&path, bytes).unwrap();
        let error = Signer::load_or_create(&path, &Memory::new(1 << 20)).unwrap_err();
        assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains(path.to_str().unwrap()) && told.contains("`token.signing_key`"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    let error = Signer::load_or_create(dir.path(), &Memory::new(1 << 20)).unwrap_err();
    assert!(matches!(error, KeyError::Read { .. }), "{error}");
    let error = Signer::load_or_create(&path.join("below a file"), &Memory::new(1 << 20)).unwrap_err();
    assert!(error.to_string().contains("`token.signing_key`"), "{error}");
}

#[test]
fn a_key_that_others_can_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token.key");
    fs::write(&path, STANDARD.encode([1; 32])).unwrap();
    for (mode, warns) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false), (0o400, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            Signer::load_or_create(&path, &Memory::new(1 << 20)).unwrap().warning().is_some(),
            warns,
            "{mode:o}"
        );
    }
}

#[test]
fn a_known_token_is_read_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(dir.path());
    let token = signer.issue(&Claims { certificates: Vec::new(), ..claims() });
    let _turn = MACHINE.blocking_lock();
    let began = Instant::now();
    for _ in 0..1000 {
        signer.verify(&token).unwrap();
    }
    let each = began.elapsed() / 1000;
    assert!(each < Duration::from_micros(200), "{each:?}, in a build without optimisation");
}

#[test]
fn debug_does_not_show_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let shown = format!("{:?}", signer(dir.path()));
    let key = fs::read_to_string(dir.path().join("token.key")).unwrap();
    assert!(!shown.contains(key.trim()) && shown.len() < 100, "{shown}");
}

/// One for all cases, since a key is written to the disk.
static SHARED: LazyLock<Signer> = LazyLock::new(|| signer(tempfile::tempdir().unwrap().path()));

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let signer = &*SHARED;
        prop_assert!(signer.verify(&text).is_err());
        prop_assert!(signer.verify(&parts.join(".")).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        let signer = &*SHARED;
        let token = signer.issue(&claims());
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        // the last character of base64 has bits that mean nothing
        if changed != token && at + 1 < token.len() {
            prop_assert!(signer.verify(&changed).is_err());
        }
    }
}
