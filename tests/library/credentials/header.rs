//! The `Authorization` header.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use simple_registry::credentials::{Authorization, AuthorizationError, parse_authorization};

fn parse(value: &str) -> Result<Authorization, AuthorizationError> {
    parse_authorization(&HeaderValue::from_bytes(value.as_bytes()).unwrap())
}

fn basic(value: &str) -> (String, String) {
    match parse(value) {
        Ok(Authorization::Basic { username, password }) => (username, password.expose_secret().to_owned()),
        other => panic!("{value}: {other:?}"),
    }
}

fn of(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

#[test]
fn a_username_and_a_password() {
    let pairs =
        [("ana", "secret"), ("ana", ""), ("", ""), ("ana", "with:colons:"), ("ana é", "пароль ✓"), ("<token>", "x")];
    for (username, password) in pairs {
        assert_eq!(basic(&of(username, password)), (username.to_owned(), password.to_owned()));
    }
    // RFC 7617, section 2
    assert_eq!(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("Aladdin".to_owned(), "open sesame".to_owned()));
    for value in ["basic YTpi", "BASIC YTpi", "Basic   YTpi", "Basic YTpi "] {
        assert_eq!(basic(value), ("a".to_owned(), "b".to_owned()), "{value}");
    }
    assert_eq!(basic("Basic YTpiYw"), ("a".to_owned(), "bc".to_owned()), "without padding");
}

#[test]
fn a_token() {
    for token in ["a", "aaa.bbb.ccc", "a-._~+/b", "abc==", &"a".repeat(60_000)] {
        match parse(&format!("Bearer {token}")) {
            Ok(Authorization::Bearer(found)) => assert_eq!(found, token),
            other => panic!("{token}: {other:?}"),
        }
    }
    assert!(matches!(parse("bearer a"), Ok(Authorization::Bearer(_))));
}

#[test]
fn what_proves_nothing_is_named() {
    let cases = [
        ("", AuthorizationError::Scheme),
        ("Basic", AuthorizationError::Scheme),
        ("Digest username=\"a\"", AuthorizationError::Scheme),
        (" Basic YTpi", AuthorizationError::Scheme),
        ("Basic ", AuthorizationError::Basic),
        ("Basic YQ==", AuthorizationError::Basic),
        ("Basic !!!!", AuthorizationError::Basic),
        ("Basic YTpi YTpi", AuthorizationError::Basic),
        ("Basic //8=", AuthorizationError::Basic),
        ("Bearer ", AuthorizationError::Bearer),
        ("Bearer =", AuthorizationError::Bearer),
        ("Bearer a b", AuthorizationError::Bearer),
        ("Bearer a=b", AuthorizationError::Bearer),
        ("Bearer é", AuthorizationError::Bearer),
    ];
    for (value, error) in cases {
        assert_eq!(parse(value).unwrap_err(), error, "{value:?}");
    }
    assert_eq!(parse(&of("a\nb", "c")).unwrap_err(), AuthorizationError::Basic);
    assert_eq!(parse(&of("a", "b\0")).unwrap_err(), AuthorizationError::Basic);
    assert_eq!(parse(&format!("Basic {}", "A".repeat(9000))).unwrap_err(), AuthorizationError::TooLong);
    assert_eq!(parse(&format!("Bearer {}", "A".repeat(70_000))).unwrap_err(), AuthorizationError::TooLong);
}

#[test]
fn debug_does_not_show_secrets() {
    let shown = format!("{:?} {:?}", parse(&of("ana", "hunter2")).unwrap(), parse("Bearer hunter2").unwrap());
    assert!(shown.contains("ana") && !shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), scheme in "(Basic |Bearer |basic|)") {
        let value: Vec<u8> = scheme.bytes().chain(bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let _ = parse_authorization(&value);
        }
    }

    #[test]
    fn what_a_client_encodes_comes_back(username in "[^:\\p{Cc}]{0,40}", password in "\\PC{0,60}") {
        prop_assert_eq!(basic(&of(&username, &password)), (username, password));
    }
}
