//! Decisions by several policies together, as a table.

use std::sync::Arc;

use simple_registry::{
    action::Action,
    config::{AccessPolicy, Config, Repository},
    diagnostics::{Source, Text},
    identity::{Certificate, Facts, Identity},
    policy::{Decision, Now, Policy, Request},
};

use super::{arrival, decide_now, file};
use crate::support::MACHINE;

pub(super) fn table(default_allow: Option<bool>, rules: &[&str]) -> AccessPolicy {
    let rule = |text: &&str| Text::unwritten("config.toml", text);
    AccessPolicy { default_allow, rules: rules.iter().map(rule).collect() }
}

/// Returns a configuration with the top-level table and those of repositories.
pub(super) fn config(general: AccessPolicy, repositories: Vec<(&str, AccessPolicy)>) -> Config {
    let repository = repositories
        .into_iter()
        .map(|(name, table)| (name.to_owned(), Repository { access_policy: Some(table), ..Repository::default() }));
    Config { access_policy: general, repository: repository.collect(), ..Config::default() }
}

/// Writes a policy file from prefixes, a default with `dry` if the file is not in force, and rules of name, effect and condition.
fn written(name: &str, about: &str, default: &str, rules: &[(&str, &str, &str)]) -> Source {
    let prefixes: Vec<String> =
        about.split(' ').filter(|prefix| !prefix.is_empty()).map(|prefix| format!("{prefix:?}")).collect();
    let mut lines = Vec::new();
    if !prefixes.is_empty() {
        lines.push(format!("repositories = [{}]", prefixes.join(", ")));
    }
    lines.extend(default.split(' ').filter(|part| !part.is_empty()).map(|part| match part {
        "dry" => "enforce = false".to_owned(),
        default => format!("default = \"{default}\""),
    }));
    lines.extend(rules.iter().map(|(rule, effect, when)| {
        format!("[[rule]]\nname = \"{rule}\"\neffect = \"{effect}\"\nwhen = '''{when}'''")
    }));
    let text = lines.join("\n");
    file(name, &text)
}

pub(super) const ANA: &str = "identity.username == 'ana'";
const BEN: &str = "identity.username == 'ben'";
const FAILS: &str = "identity.groups[9] == 'x'";

pub(super) fn decide(policy: &Policy, username: &str, namespace: &str) -> Decision {
    let action = if namespace.is_empty() { "list-catalog" } else { "get-manifest" };
    decide_action(policy, username, namespace, action, "main")
}

fn decide_action(policy: &Policy, username: &str, namespace: &str, action: &str, listener: &str) -> Decision {
    let facts = Facts { username: username.to_owned(), ..Facts::default() };
    let request = Request {
        action: action.to_owned(),
        namespace: namespace.to_owned(),
        listener: listener.to_owned(),
        ..Request::default()
    };
    decide_now(policy, &facts, &request.completed())
}

/// Returns a decision in short: `allow p.toml r` by a rule, `deny p.toml` by a default, `deny` by nothing.
pub(super) fn short(decision: &Decision) -> String {
    let mut short = decision.effect.as_str().to_owned();
    for part in [decision.by.as_ref().map(|by| by.policy.as_str()), decision.rule.as_deref()].into_iter().flatten() {
        short.push(' ');
        short.push_str(part);
    }
    short
}

/// One row: what is configured, and what is decided for whom and where.
struct Row {
    what: &'static str,
    config: Config,
    files: Vec<Source>,
    decided: &'static [(&'static str, &'static str, &'static str)],
}

fn rows() -> Vec<Row> {
    let none = || config(table(None, &[]), Vec::new());
    vec![
        Row {
            what: "deny wins over allow, whatever the order and the file",
            config: none(),
            files: vec![
                written("a.toml", "x", "allow", &[("yes", "allow", ANA)]),
                written("b.toml", "x", "", &[("no", "deny", ANA)]),
            ],
            decided: &[("ana", "x/y", "deny b.toml no"), ("ben", "x/y", "allow a.toml")],
        },
        Row {
            what: "an allow rule wins over a default",
            config: none(),
            files: vec![written("a.toml", "x", "deny", &[("yes", "allow", ANA)])],
            decided: &[("ana", "x", "allow a.toml yes"), ("ben", "x", "deny a.toml"), ("ana", "xy", "not_covered")],
        },
        Row {
            what: "the default of the longest prefix counts, of files and tables alike",
            config: config(table(None, &[]), vec![("*", table(Some(false), &[])), ("a/b", table(Some(true), &[]))]),
            files: vec![written("f.toml", "a a/b/c", "deny", &[])],
            decided: &[
                ("", "z", "deny [repository.\"*\".access_policy]"),
                ("", "a/z", "deny f.toml"),
                ("", "a/b/z", "allow [repository.\"a/b\".access_policy]"),
                ("", "a/b/c/z", "deny f.toml"),
            ],
        },
        Row {
            what: "two defaults of one length that disagree deny",
            config: config(table(None, &[]), vec![("a", table(Some(true), &[]))]),
            files: vec![written("f.toml", "a", "deny", &[])],
            decided: &[("", "a", "deny f.toml"), ("", "a/b", "deny f.toml")],
        },
        Row {
            what: "where no default is stated, a shorter prefix states it",
            config: config(table(None, &[]), vec![("*", table(Some(true), &[]))]),
            files: vec![written("f.toml", "a", "", &[("no", "deny", BEN)])],
            // the table of `*` is the longest that covers `a`, since `a` has none
            decided: &[("ana", "a", "allow [repository.\"*\".access_policy]"), ("ben", "a", "deny f.toml no")],
        },
        Row {
            what: "of tables only the longest counts, with its rules and its default",
            config: config(table(None, &[]), vec![("a", table(Some(true), &[BEN])), ("a/b", table(None, &[ANA]))]),
            files: Vec::new(),
            decided: &[
                ("ben", "a", "deny [repository.\"a\".access_policy] rules[0]"),
                ("ana", "a/b", "allow [repository.\"a/b\".access_policy] rules[0]"),
                ("ben", "a/b", "deny"),
            ],
        },
    ]
}

/// Rows about policies that are about everything, fail, or are not enforced.
fn more_rows() -> Vec<Row> {
    let none = || config(table(None, &[]), Vec::new());
    vec![
        Row {
            what: "the top-level table's rules are for all requests, its default for those about no repository",
            config: config(table(Some(true), &[BEN]), vec![("a", table(None, &[]))]),
            files: Vec::new(),
            decided: &[
                ("ben", "a", "deny [access_policy] rules[0]"),
                ("ana", "a", "deny"),
                ("ben", "", "deny [access_policy] rules[0]"),
                ("ana", "", "allow [access_policy]"),
            ],
        },
        Row {
            what: "a file without repositories is like the top-level table",
            config: config(table(None, &[]), vec![("a", table(None, &[]))]),
            files: vec![written("g.toml", "", "allow", &[("admin", "allow", ANA)])],
            decided: &[
                ("ana", "a", "allow g.toml admin"),
                ("ben", "a", "deny"),
                ("ben", "", "allow g.toml"),
                ("ana", "b", "not_covered"),
            ],
        },
        Row {
            what: "top-level defaults that disagree deny",
            config: config(table(Some(true), &[]), Vec::new()),
            files: vec![written("g.toml", "", "deny", &[])],
            decided: &[("ana", "", "deny g.toml")],
        },
        Row {
            what: "what fails denies, as a deny rule and as an allow rule, also behind one that allows",
            config: none(),
            files: vec![
                written("a.toml", "a", "allow", &[("broken", "deny", FAILS)]),
                written("b.toml", "b", "allow", &[("yes", "allow", ANA), ("broken", "allow", FAILS)]),
            ],
            decided: &[
                ("ana", "a", "deny a.toml broken"),
                ("ana", "b", "deny b.toml broken"),
                ("ben", "b", "deny b.toml broken"),
            ],
        },
        Row {
            what: "what is not enforced refuses nothing and allows nothing, but makes names exist",
            config: none(),
            files: vec![
                written("real.toml", "a", "allow", &[]),
                written("dry.toml", "a b", "allow dry", &[("no", "deny", BEN), ("yes", "allow", ANA)]),
            ],
            decided: &[
                ("ben", "a", "would_deny dry.toml no"),
                ("ana", "a", "allow real.toml"),
                ("ana", "b", "deny"),
                ("ana", "c", "not_covered"),
            ],
        },
        Row {
            what: "the default of what is not enforced would deny too",
            config: config(table(None, &[]), vec![("*", table(Some(true), &[]))]),
            files: vec![written("dry.toml", "a", "deny dry", &[("yes", "allow", ANA)])],
            decided: &[("ben", "a", "would_deny dry.toml"), ("ana", "a", "allow [repository.\"*\".access_policy]")],
        },
    ]
}

#[test]
fn policies_come_together_as_the_table_says() {
    for Row { what, config, files, decided } in rows().into_iter().chain(more_rows()) {
        // the order of files is never told by what they decide
        let backwards: Vec<_> = files.iter().rev().cloned().collect();
        for files in [files, backwards] {
            let policy = Policy::build(&config, &files).unwrap_or_else(|errors| panic!("{what}:\n{errors}"));
            for (username, namespace, expected) in decided {
                let decision = decide(&policy, username, namespace);
                assert_eq!(short(&decision), *expected, "{what}: {username} in {namespace}");
                let request = Request {
                    action: if namespace.is_empty() { "list-catalog" } else { "get-manifest" }.to_owned(),
                    namespace: (*namespace).to_owned(),
                    ..Request::default()
                };
                let (facts, request) =
                    (Facts { username: (*username).to_owned(), ..Facts::default() }, request.completed());
                let now = Now::default();
                let explained = policy.explain(&facts, &request, request.times(&now, None));
                assert_eq!(explained.decision, decision.effect, "{what}: {explained}");
                let marks = explained.rules.iter().filter(|rule| rule.decided).count()
                    + explained.defaults.iter().filter(|default| default.decided).count();
                assert_eq!(marks, usize::from(decision.by.is_some()), "{what}: {explained}");
            }
        }
    }
}

#[test]
fn the_ping_and_metrics_at_an_address_of_their_own_are_open_unless_a_rule_says_no() {
    let silent = Policy::build(&config(table(Some(false), &[]), Vec::new()), &[]).unwrap();
    let strict = Policy::build(&config(table(Some(true), &[BEN]), Vec::new()), &[]).unwrap();
    for (policy, username, action, listener, allowed) in [
        (&silent, "", "get-api-version", "main", true),
        (&silent, "", "get-metrics", "side", true),
        (&silent, "", "get-metrics", "main", false),
        (&silent, "", "list-catalog", "main", false),
        (&strict, "ana", "get-api-version", "main", true),
        (&strict, "ben", "get-api-version", "main", false),
        (&strict, "ben", "get-metrics", "side", false),
        (&strict, "ana", "get-metrics", "main", true),
    ] {
        let decision = decide_action(policy, username, "", action, listener);
        assert_eq!(decision.allows(), allowed, "{username} {action} {listener}: {decision:?}");
    }
}

#[test]
fn a_refusal_says_the_rules_own_message() {
    let text = "repositories = [\"a\"]\n[[rule]]\nname = \"no\"\neffect = \"deny\"\nwhen = 'request.access == \"push\"'\nmessage = \"ask the owners of a\"\n\
                [[rule]]\nname = \"broken\"\neffect = \"deny\"\nwhen = 'identity.groups[3] == \"x\"'\n";
    let policy = Policy::build(&Config::default(), &[file("p.toml", text)]).unwrap();
    let push = decide_action(&policy, "ana", "a", "put-manifest", "main");
    assert_eq!(push.reason("put-manifest"), "ask the owners of a");
    let pull = decide_action(&policy, "ana", "a", "get-manifest", "main");
    assert!(pull.reason("get-manifest").contains("the rule broken failed"), "{}", pull.reason("get-manifest"));
    let nowhere = decide_action(&policy, "ana", "b", "get-manifest", "main");
    assert!(nowhere.reason("get-manifest").contains("no such repository"));
}

#[test]
fn a_decision_names_its_policy_by_the_digest_of_its_text() {
    let one = Policy::build(&Config::default(), &[written("p.toml", "a", "deny", &[])]).unwrap();
    let two = Policy::build(&Config::default(), &[written("p.toml", "a b", "deny", &[])]).unwrap();
    let digest = |policy: &Policy| decide(policy, "", "a").by.unwrap().sha256.clone();
    assert_eq!(digest(&one).len(), 64);
    assert_eq!(digest(&one), digest(&one));
    assert_ne!(digest(&one), digest(&two));
}

#[test]
fn both_ways_to_ask_give_one_answer() {
    let files = [written(
        "p.toml",
        "a",
        "",
        &[(
            "certificates",
            "allow",
            "identity.certificate.uris.contains('spiffe://x/ci') && identity.client_ip == '10.1.2.3' && request.tags == ['v1', 'v2'] && request.listener == 'main'",
        )],
    )];
    let policy = Policy::build(&Config::default(), &files).unwrap();
    let certificate = Certificate { uris: vec!["spiffe://x/ci".into()], ..Certificate::default() };
    let identity = Identity { client_ip: [10, 1, 2, 3].into(), user: None, certificate: Some(Arc::new(certificate)) };
    let action = Action::parse("PUT", "/v2/a/manifests/v1", Some("tag=v2")).unwrap();
    let request = Request::of(&action, "main", "");
    let decided = decide_now(&policy, &identity.facts(), &request);
    assert!(decided.allows(), "{decided:?}");
    assert_eq!(policy.authorize(&identity, action, arrival(&Now::default())).decision, decided);
}

/// A decision by 20 rules, with a certificate, over the values that all of them ask for.
#[test]
fn twenty_rules_are_decided_in_time() {
    let rules: Vec<(String, String)> = (0..20)
        .map(|n| (format!("r{n}"), format!("request.access == 'push' && identity.certificate.organizations.contains('org-{n}') && request.namespace.startsWith('a/')")))
        .collect();
    let rules: Vec<(&str, &str, &str)> =
        rules.iter().map(|(name, when)| (name.as_str(), "allow", when.as_str())).collect();
    let policy = Policy::build(&Config::default(), &[written("p.toml", "a", "deny", &rules)]).unwrap();
    let certificate = Certificate { organizations: vec!["org-19".into(), "x".into()], ..Certificate::default() };
    let identity = Identity { client_ip: [10, 1, 2, 3].into(), user: None, certificate: Some(Arc::new(certificate)) };
    let action = Action::parse("PUT", "/v2/a/b/manifests/v1", None).unwrap();
    let _turn = MACHINE.blocking_lock();
    let mut best = std::time::Duration::MAX;
    for _ in 0..50 {
        let started = std::time::Instant::now();
        for _ in 0..20 {
            assert!(policy.authorize(&identity, action.clone(), arrival(&Now::default())).decision.allows());
        }
        best = best.min(started.elapsed() / 20);
    }
    println!("20 rules: {best:?}");
    // unoptimised code takes many times as long
    let limit = if cfg!(debug_assertions) { 1000 } else { 20 };
    assert!(best < std::time::Duration::from_micros(limit), "{best:?}");
}
