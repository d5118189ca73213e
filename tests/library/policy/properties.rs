//! Properties of every text as a policy.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use simple_registry::{
    config::Config,
    identity::Facts,
    policy::{Now, Policy, Request},
};

use super::{decide_now, file};

/// Words that expressions are made of, and some that they are not.
const WORDS: [&str; 48] = [
    "identity.username",
    "identity.groups",
    "request.access",
    "request.tags",
    "request.namespace",
    "identity",
    "request.",
    "x",
    "true",
    "false",
    "null",
    "1",
    "99999999999999999999",
    "'a'",
    "\"push\"",
    "'pull'",
    "r'^a$'",
    "'",
    "\"",
    "'''",
    "b'a'",
    "\\",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "?",
    ":",
    ".",
    ",",
    " in ",
    ".contains(",
    ".exists(x, ",
    ".matches(",
    "//",
];

fn expression() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40).prop_map(|words| words.concat()),
        prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40).prop_map(|words| words.join(" ")),
        ".{0,200}",
        // what is nested or chained as deep as a text of this length can be
        (prop::sample::select(&WORDS[..]), 1..400_usize, prop::sample::select(&WORDS[..]))
            .prop_map(|(word, times, last)| format!("{}{last}", word.repeat(times))),
    ]
}

fn policy_of(when: &str) -> String {
    let when = toml::Value::String(when.to_owned());
    format!("repositories = [\"a\"]\n[[rule]]\nname = \"r\"\neffect = \"allow\"\nwhen = {when}\n")
}

/// Builds a policy and asks it; how long that took.
fn ask(text: &str) -> Duration {
    let started = Instant::now();
    let built = Policy::build(&Config::default(), &[file("p.toml", text)]);
    match &built {
        Ok(policy) => {
            let facts = Facts { username: "a".into(), groups: vec!["a".into(), "b".into()], ..Facts::default() };
            let request = Request {
                action: "put-manifest".into(),
                namespace: "a/b".into(),
                reference: "v1".into(),
                ..Request::default()
            };
            let request = request.completed();
            let now = Now::default();
            let times = request.times(&now, None);
            let decided = policy.decide(&facts, &request, times);
            assert_eq!(policy.explain(&facts, &request, times).decision, decided.effect);
        }
        Err(errors) => assert!(errors.to_string().contains("help: ")),
    }
    started.elapsed()
}

/// In milliseconds where it is optimised; unoptimised, on a busy machine, it takes longer.
const BOUND: Duration = Duration::from_secs(5);

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_panics_or_takes_long(when in expression()) {
        prop_assert!(ask(&policy_of(&when)) < BOUND, "{when}");
    }

    #[test]
    fn no_file_panics_or_takes_long(lines in prop::collection::vec(prop::sample::select(
        include_str!("../../../policies/examples/ci-pushes-prod.toml").lines().chain(["[[", "a = [[[[[[[[", "x = {", "'''", "\"\"\"", "when = 1", "\u{feff}"]).collect::<Vec<_>>()
    ), 0..30)) {
        prop_assert!(ask(&lines.join("\n")) < BOUND);
    }

    #[test]
    fn any_text_as_a_file_is_refused_or_works(text in "(?s).{0,300}") {
        prop_assert!(ask(&text) < BOUND);
    }

    #[test]
    fn a_text_in_a_rule_equals_itself_whatever_is_escaped(name in "[a-z\"'\\\\é$]{0,12}") {
        // a policy says the same whatever has to be escaped in it
        let literal = format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"));
        let built = Policy::build(&Config::default(), &[file("p.toml", &policy_of(&format!("identity.username == {literal}")))]);
        let policy = built.unwrap_or_else(|errors| panic!("{errors}"));
        let request = Request { action: "get-blob".into(), namespace: "a".into(), ..Request::default() }.completed();
        let allows = |username: &str| decide_now(&policy, &Facts { username: username.to_owned(), ..Facts::default() }, &request).allows();
        prop_assert!(allows(&name));
        let other = format!("{name}x");
        prop_assert!(!allows(&other));
    }
}

#[test]
fn deep_toml_is_no_way_to_a_deep_stack() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "[".repeat(100_000),
        "a".to_owned() + &".a".repeat(100_000) + " = 1",
        "x = ".to_owned() + &"{a=".repeat(50_000),
    ] {
        assert!(ask(&text) < BOUND);
    }
}
