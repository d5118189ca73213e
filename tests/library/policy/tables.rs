//! Decisions by the tables of a configuration.

use std::sync::Arc;

use simple_registry::{
    action::Action,
    config::Config,
    diagnostics::Source,
    identity::{Certificate, Identity, User},
    oci::Name,
    policy::{Image, Now, Policy},
};

use super::semantics::{ANA, config, decide, short, table};

#[test]
fn a_table_flips_its_default() {
    let rules = &[ANA];
    for (default, ana, ben) in [
        (None, "allow [repository.\"a\".access_policy] rules[0]", "deny"),
        (Some(false), "allow [repository.\"a\".access_policy] rules[0]", "deny [repository.\"a\".access_policy]"),
        (Some(true), "deny [repository.\"a\".access_policy] rules[0]", "allow [repository.\"a\".access_policy]"),
    ] {
        let policy = Policy::build(&config(table(None, &[]), vec![("a", table(default, rules))]), &[]).unwrap();
        assert_eq!(short(&decide(&policy, "ana", "a/b")), ana, "{default:?}");
        assert_eq!(short(&decide(&policy, "ben", "a/b")), ben, "{default:?}");
    }
}

#[test]
fn the_documented_example_works_as_written() {
    let rules = &["identity.username == 'admin'", "identity.certificate.organizations.contains('admin')"];
    let policy =
        Policy::build(&config(table(None, &[]), vec![("my-registry", table(Some(true), rules))]), &[]).unwrap();
    let allowed = |username: &str, organization: Option<&str>| {
        let certificate = Certificate {
            organizations: organization.into_iter().map(str::to_owned).collect(),
            ..Certificate::default()
        };
        let user = User { id: "1".into(), username: username.into(), groups: Vec::new() };
        let identity = Identity {
            client_ip: [127, 0, 0, 1].into(),
            user: (!username.is_empty()).then(|| Arc::new(user)),
            certificate: organization.map(|_| Arc::new(certificate)),
        };
        let action = Action::parse("GET", "/v2/my-registry/app/manifests/v1", None).unwrap();
        policy.authorize(&identity, action, super::arrival(&Now::default())).outcome.is_ok()
    };
    assert!(allowed("", None));
    assert!(allowed("ana", Some("staff")));
    assert!(!allowed("admin", None));
    assert!(!allowed("ana", Some("admin")));
}

#[test]
fn each_table_of_a_repository_is_taken_whole_from_the_longest_prefix_that_states_it() {
    let text = r#"
        [repository."*".access_policy]
        default_allow = true
        rules = ["identity.username == 'ben'"]
        [repository."*".retention_policy]
        rules = ["image.tag == 'latest'"]
        [repository."tags"]
        immutable_tags = true
        [repository."keeps".retention_policy]
        rules = ["image.tag == 'v1'"]
        [repository."says/nothing"]
        [repository."own".access_policy]
        default_allow = false
        [repository."own/deeper"]
        allow_delete = true
        [repository."empty"]
        access_policy = {}
        retention_policy = {}
    "#;
    let config = Config::from_sources(&[Source::new("config.toml", text)]).unwrap();
    let policy = Policy::build(&config, &[]).unwrap();
    for name in ["other", "tags", "tags/app", "keeps/app", "says", "says/nothing"] {
        assert_eq!(short(&decide(&policy, "ana", name)), "allow [repository.\"*\".access_policy]", "{name}");
        assert_eq!(short(&decide(&policy, "ben", name)), "deny [repository.\"*\".access_policy] rules[0]", "{name}");
    }
    for name in ["own", "own/deeper/app"] {
        assert_eq!(short(&decide(&policy, "ana", name)), "deny [repository.\"own\".access_policy]", "{name}");
    }
    // a table that is stated empty is stated
    assert_eq!(short(&decide(&policy, "ana", "empty")), "deny");

    let images = ["latest", "v1"].map(|tag| Image { tag: tag.to_owned(), ..Image::default() });
    for (name, stay) in [
        ("tags/app", Some([true, false])),
        ("own/app", Some([true, false])),
        ("keeps/app", Some([false, true])),
        ("empty", None),
    ] {
        let name: Name = name.parse().unwrap();
        let kept = policy.retain(&name, &images, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(kept.map(|kept| [0, 1].map(|at: usize| kept.images[at].keep)), stay, "{name}");
    }
}

#[test]
fn a_table_makes_its_repositories_exist_also_if_it_states_no_access_policy() {
    let text = "[repository.\"prod\"]\nimmutable_tags = true\n";
    let config = Config::from_sources(&[Source::new("config.toml", text)]).unwrap();
    let policy = Policy::build(&config, &[]).unwrap();
    assert_eq!(short(&decide(&policy, "ana", "prod/app")), "deny");
    assert_eq!(short(&decide(&policy, "ana", "other")), "not_covered");
}
