//! The meaning of the tables about rights.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use simple_registry::{
    config::{AuditFile, ClientAuth, Config, Login, OnAuditError, PolicyDir, Tls},
    diagnostics::Text,
    policy::Policy,
};

use super::{BCRYPT, HASH, read};

fn texts(rules: &[Text]) -> Vec<&str> {
    rules.iter().map(Text::as_str).collect()
}

#[test]
fn a_data_dir_with_a_login_is_the_admins() {
    let of = |private| Config::for_data_dir(Path::new("/srv"), Login::Admin { hash: HASH.into(), private });
    let config = of(false);
    let admin = &config.identity["admin"];
    assert_eq!((admin.username.as_str(), admin.password.expose_secret()), ("admin", HASH));
    assert_eq!(admin.groups, ["admin"]);
    assert_eq!(config.token.signing_key, Path::new("/srv/token.key"));
    assert_eq!(config.access_policy.default_allow, Some(false));
    assert_eq!(texts(&config.access_policy.rules), ["identity.id == 'admin'"]);
    let everywhere = config.repository["*"].access_policy.as_ref().unwrap();
    assert_eq!(everywhere.default_allow, Some(false));
    assert_eq!(texts(&everywhere.rules), ["request.access == 'pull'", "request.action == 'list-tags'"]);
    let private = of(true);
    let everywhere = private.repository["*"].access_policy.as_ref().unwrap();
    assert_eq!((everywhere.default_allow, texts(&everywhere.rules)), (Some(false), vec![]));
    assert_eq!(private.access_policy, config.access_policy);
}

/// As they are written in the field.
#[test]
fn policies_of_the_field_are_read() {
    let text = r#"
[repository."my-registry".access_policy]
default_allow = true
rules = ["identity.username == 'admin'", "identity.certificate.organizations.contains('admin')"]
"#;
    for (text, default) in [(text.to_owned(), true), (text.replace("true", "false"), false)] {
        let config = read(&[&text]).expect("it is valid");
        let policy = config.repository["my-registry"].access_policy.as_ref().unwrap();
        assert_eq!(policy.default_allow, Some(default));
        let rules = ["identity.username == 'admin'", "identity.certificate.organizations.contains('admin')"];
        assert_eq!(texts(&policy.rules), rules);
    }
}

/// Returns the file, line and column at which a wrong expression is said to be, for each rule.
fn places(texts: &[&str]) -> Vec<(String, usize, usize)> {
    let config = read(texts).expect("it is valid");
    let problems = Policy::build(&config, &[]).expect_err("no rule is a condition");
    let places = problems.iter().filter_map(|problem| problem.place.as_ref());
    places.map(|place| (place.file.clone(), place.line, place.column)).collect()
}

#[test]
fn each_wrong_rule_is_shown_where_it_is_written() {
    let lines = [
        "[access_policy]",
        "rules = ['a',",
        "  \"b\", '''",
        "  c",
        "''', '''d''', \"\"\"\r",
        "e\"\"\", # ä",
        "'ä', 'f', '']",
    ];
    let expected = [(2, 11), (3, 4), (4, 3), (5, 9), (6, 1), (7, 2), (7, 7), (7, 12)];
    let expected = expected.map(|(line, column)| ("config.toml".to_owned(), line, column));
    assert_eq!(places(&[&lines.join("\n")]), expected);
}

#[test]
fn a_wrong_rule_is_shown_in_its_own_file_after_merging() {
    let base = "[access_policy]\nrules = ['of_the_base']\n[repository.a.access_policy]\nrules = ['kept']";
    let over = "\n\naccess_policy = { rules = ['of_the_second'] }";
    let expected = [("second.toml".to_owned(), 3, 29), ("config.toml".to_owned(), 4, 11)];
    assert_eq!(places(&[base, over]), expected);
}

#[test]
fn a_wrong_rule_is_shown_whole_and_without_the_secrets_of_its_line() {
    let text = "access_policy = { rules = ['identity.user', \"pass = 'word'\"] } # secret: hunter2";
    let error = Policy::build(&read(&[text]).expect("it is valid"), &[]).expect_err("both are wrong");
    let error = format!("{error}\n{error:?}");
    for line in [
        "1 | access_policy = { rules = ['identity.user', \"pass = [hidden]\n",
        "\"pass = 'word'\"] } # secret: [hidden]\n",
    ] {
        assert!(error.contains(line), "{error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn identities_are_read() {
    let text = format!(
        "[identity.ana]\nusername = \"Ana é\"\npassword = '{HASH}'\ngroups = [\"staff\", \"ops\"]\n\
         [identity.\"a.b c\"]\nusername = \"b\"\npassword = '{BCRYPT}'"
    );
    let config = read(&[&text]).unwrap_or_else(|error| panic!("{error}"));
    let ana = &config.identity["ana"];
    assert_eq!((ana.username.as_str(), ana.password.expose_secret()), ("Ana é", HASH));
    assert_eq!(ana.groups, ["staff", "ops"]);
    assert_eq!(config.identity["a.b c"].password.expose_secret(), BCRYPT);
    assert!(config.identity["a.b c"].groups.is_empty());
    let split = ["[identity.ana]\nusername = \"ana\"".to_owned(), format!("identity.ana.password = '{HASH}'")];
    assert!(read(&[&split[0], &split[1]]).is_ok(), "a hash may be in a file of its own");
}

/// Returns true if an identity with this username, as TOML, and this password is accepted.
fn accepts(username: &str, password: &str) -> bool {
    read(&[&format!("[identity.ana]\nusername = {username}\npassword = '{password}'")]).is_ok()
}

#[test]
fn an_identity_needs_a_name() {
    assert!(accepts("\"ana\"", HASH));
    assert!(accepts(&format!("{:?}", "a".repeat(255)), HASH));
    for username in [
        "\"\"",
        "\"a:b\"",
        "\"a\\nb\"",
        "5",
        "\"anonymous\"",
        "\"restore\"",
        "\"scrub\"",
        &format!("{:?}", "a".repeat(256)),
    ] {
        assert!(!accepts(username, HASH), "{username} was accepted");
    }
    let error = read(&["[identity.ana]"]).expect_err("nothing is given").to_string();
    assert!(
        error.contains("`identity.ana.username` is missing") && error.contains("`identity.ana.password` is missing")
    );
    assert!(read(&[&format!("[identity.\"\"]\nusername = \"a\"\npassword = '{HASH}'")]).is_err(), "an empty id");
}

#[test]
fn an_identity_needs_a_hash() {
    let mut good: Vec<String> = ["$2a$", "$2b$", "$2y$"].map(|prefix| BCRYPT.replace("$2y$", prefix)).into();
    good.extend(["argon2i$", "argon2d$", "argon2id$"].map(|kind| HASH.replace("argon2id$", kind)));
    good.push(HASH.replace("v=19", "v=16"));
    for hash in good {
        assert!(accepts("\"ana\"", &hash), "{hash} was refused");
    }
    let bad = [
        String::new(),
        "hunter2".to_owned(),
        "$argon2id$".to_owned(),
        HASH[..HASH.rfind('$').expect("a part")].to_owned(),
        HASH.replace("$v=19", ""),
        HASH.replace("v=19", "v=20"),
        HASH.replace("m=8,", ""),
        HASH.replace("m=8", "m=7"),
        HASH.replace("m=8", "m=1048577"),
        HASH.replace("t=1", "t=4294967295"),
        HASH.replace("p=1", "p=0"),
        HASH.replace("argon2id", "argon2x"),
        format!("{HASH}$more"),
        BCRYPT[..59].to_owned(),
        format!("{BCRYPT}a"),
        BCRYPT.replace("$04$", "$03$"),
        BCRYPT.replace("$04$", "$18$"),
        BCRYPT.replace("$04$", "$xx$"),
        BCRYPT.replace("$2y$", "$2x$"),
        "$apr1$salt$hash".to_owned(),
        "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=".to_owned(),
        format!("ana:{BCRYPT}"),
    ];
    for hash in bad {
        assert!(!accepts("\"ana\"", &hash), "{hash} was accepted");
    }
}

#[test]
fn tls_tokens_proxies_and_records_are_read() {
    let config = read(&[r#"
        policy_dir = "/etc/policies"
        [server]
        trusted_proxies = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]
        [server.tls]
        server_certificate_bundle = "a"
        server_private_key = "b"
        client_ca_bundle = "c"
        client_auth = "required"
        client_crl = "d"
        [token]
        realm = "https://registry.example.com/token"
        signing_key = "/etc/token.key"
        ttl = "1h"
        [audit]
        file = "/var/log/decisions.jsonl"
        max_size = "1GiB"
        max_age = 0
        keep_age = 0
        max_total_size = "1TiB"
        on_error = "continue"
    "#])
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.policy_dir, Some(PolicyDir { path: "/etc/policies".into(), must_exist: true }));
    let proxies: Vec<String> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"]);
    let tls = Tls {
        server_certificate_bundle: "a".into(),
        server_private_key: "b".into(),
        client_ca_bundle: Some("c".into()),
        client_auth: ClientAuth::Required,
        client_crl: Some("d".into()),
    };
    assert_eq!(config.server.tls, Some(tls));
    assert_eq!(config.token.realm.as_deref(), Some("https://registry.example.com/token"));
    assert_eq!(config.token.ttl, Duration::from_hours(1));
    assert_eq!(config.audit.file, AuditFile::File("/var/log/decisions.jsonl".into()));
    assert_eq!((config.audit.max_size, config.audit.max_age), (1 << 30, Duration::ZERO));
    assert_eq!((config.audit.keep_age, config.audit.max_total_size), (Duration::ZERO, Some(1 << 40)));
    assert_eq!(config.audit.on_error, OnAuditError::Continue);
}
