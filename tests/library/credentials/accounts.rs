//! Accounts that can log in.

use simple_registry::credentials::{Accounts, AccountsError, LONGEST_PASSWORD, hash_password};

use super::{accounts, identities, identity, quick_hash};

#[test]
fn an_account_is_found_by_its_id() {
    let accounts = accounts(&[("ana", &quick_hash("a")), ("bob", &quick_hash("b"))]);
    assert!(!accounts.is_empty());
    assert_eq!(accounts.user("id-ana").unwrap().user.username, "ana");
    assert!(accounts.user("ana").is_none());
    assert!(Accounts::new(&identities(&[])).unwrap().is_empty());
}

#[test]
fn a_version_changes_with_name_and_password_alone() {
    let (one, two) = (quick_hash("a"), quick_hash("a"));
    let version = |username: &str, hash: &str, groups: &[&str]| {
        let all = [("ana".to_owned(), identity(username, hash, groups))].into();
        Accounts::new(&all).unwrap().user("ana").unwrap().version().to_owned()
    };
    let before = version("ana", &one, &[]);
    assert_eq!(before, version("ana", &one, &["staff"]));
    assert_ne!(before, version("ana", &two, &[]));
    assert_ne!(before, version("anna", &one, &[]));
    assert!(before.len() == 16 && before.chars().all(|c| c.is_ascii_hexdigit()), "{before}");
}

#[test]
fn what_is_wrong_is_named_and_not_shown() {
    let error = Accounts::new(&identities(&[("ana", "hunter2")])).unwrap_err();
    assert!(matches!(error, AccountsError::Hash { .. }));
    let told = format!("{error} {error:?}");
    assert!(told.contains("`identity.id-ana.password`") && !told.contains("hunter2"), "{told}");
    let hash = quick_hash("a");
    let twins = [("a".to_owned(), identity("ana", &hash, &[])), ("b".to_owned(), identity("ana", &hash, &[]))].into();
    let told = Accounts::new(&twins).unwrap_err().to_string();
    assert!(told.contains("`identity.a.username`") && told.contains("`identity.b.username`"), "{told}");
}

#[test]
fn debug_does_not_show_hashes() {
    let shown = format!("{:?}", accounts(&[("ana", &quick_hash("a"))]));
    assert!(shown.contains("ana") && !shown.contains("argon2"), "{shown}");
}

#[test]
fn passwords_that_nobody_could_send_are_not_hashed() {
    let long = "a".repeat(LONGEST_PASSWORD + 1);
    for password in ["", "two\nlines", "a\0b", "\u{7f}", &long] {
        assert!(hash_password(password).is_err(), "{password:?}");
    }
    assert_ne!(hash_password("a").unwrap(), hash_password("a").unwrap(), "each has a salt of its own");
}
