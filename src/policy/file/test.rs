//! `[[test]]`: decisions that a policy must make, written beside it.

use std::ops::Range;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    images::{self, RetentionCase},
    limits::{MAX_IMAGES, MAX_RULES},
    names::among,
};
use crate::{
    action::ACTIONS,
    diagnostics::{Table, listed, nearest, rule},
    identity::Facts,
    oci::{Digest, Name, Tag},
    policy::{
        decision::Effect,
        expression::Scope,
        input::{ACCESSES, LISTENERS, Request},
    },
};

/// A test of a policy.
#[derive(Debug)]
pub(in crate::policy) struct Test {
    pub(in crate::policy) name: String,
    /// The place of the expected answer.
    pub(in crate::policy) span: Range<usize>,
    /// The question and the expected answer.
    pub(in crate::policy) case: Case,
}

/// The question of a test, and the expected answer.
#[derive(Debug)]
pub(in crate::policy) enum Case {
    Access(Box<AccessCase>),
    Retention(RetentionCase),
}

/// The question of a test of an access policy, and the expected decision.
#[derive(Debug)]
pub(in crate::policy) struct AccessCase {
    pub(in crate::policy) facts: Facts,
    pub(in crate::policy) request: Request,
    /// The time of the request.
    pub(in crate::policy) now: Timestamp,
    /// The time at which the cache first saw the image.
    pub(in crate::policy) first_seen_at: Option<Timestamp>,
    pub(in crate::policy) expected: Expectation,
}

/// The decision that a test expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Expectation {
    pub(in crate::policy) effect: Effect,
    pub(in crate::policy) rule: Option<String>,
}

/// Reads `[[test]]`.
pub(super) fn read(root: &mut Table<'_>, scope: Scope, rules: &[&str]) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    let mut images = 0;
    let tables = root.list("test");
    if let Some(over) = tables.get(MAX_RULES) {
        let says = format!("more than {MAX_RULES} tests in one policy");
        over.refuse_whole(says, "split it into several policies");
        return tests;
    }
    for mut table in tables {
        let name = table.required("name", "\"a laptop cannot push\"", &rule::any_text());
        if table.entry("name").is_some() && tests.iter().any(|test| test.name == name) {
            table.refuse("name", format!("two tests are called \"{name}\""), "give one of them another name");
        }
        let test = match scope {
            Scope::Access => access(&mut table, name, rules),
            Scope::Retention => {
                let (span, case) = images::read(&mut table);
                Test { name, span, case: Case::Retention(case) }
            }
        };
        if let Case::Retention(case) = &test.case {
            images += case.images.len();
            if images > MAX_IMAGES {
                let says = format!("more than {MAX_IMAGES} images in the tests of one policy");
                table.refuse_whole(says, "test with fewer images, or split it into several policies");
                return tests;
            }
        }
        table.finish();
        tests.push(test);
    }
    tests
}

fn access(table: &mut Table<'_>, name: String, rules: &[&str]) -> Test {
    const EFFECTS: &[(&str, Effect)] =
        &[("allow", Effect::Allow), ("deny", Effect::Deny), ("not_covered", Effect::NotCovered)];
    let facts: Facts = shaped(table.table("identity"));
    let request = shaped::<Request>(table.table("request")).completed();
    if table.entry("request").is_none() {
        let example = "{ action = \"put-manifest\", namespace = \"prod/app\", reference = \"v1\" }";
        table.missing("request", example);
    } else {
        for (says, help) in faults(&request) {
            table.refuse("request", says, help);
        }
    }
    let now = images::now(table);
    let mut image = table.table("image");
    let first_seen_at = image.optional("first_seen_at", images::DATE, &images::time());
    image.finish();
    if first_seen_at.is_some() && !request.is_of_cached_image() {
        let says = "`image` belongs to a request for a manifest of a cache: get-manifest with an `upstream`";
        let help = "add `upstream = \"registry-1.docker.io\"` to `request`, or leave `image` out";
        table.refuse("image", says, help);
    }
    if table.entry("expect").is_none() {
        table.missing("expect", "{ decision = \"deny\" }");
    }
    let mut expect = table.table("expect");
    let effect = expect.required("decision", "\"deny\"", &rule::word(EFFECTS));
    let rule = expect.optional("rule", "\"ci-pushes\"", &rule::any_text());
    if let Some(rule) = rule.as_ref().filter(|rule| !rules.contains(&rule.as_str())) {
        expect.refuse("rule", format!("the policy has no rule \"{rule}\""), among(rule, rules));
    }
    let span = expect.span().or(table.span()).unwrap_or_default();
    expect.finish();
    let expected = Expectation { effect, rule };
    let case = AccessCase { facts, request, now, first_seen_at, expected };
    Test { name, span, case: Case::Access(Box::new(case)) }
}

/// Reads a table with the fields of `T`: texts, lists of texts, and tables of such. All may be left out.
fn shaped<T: Default + Serialize + DeserializeOwned>(mut table: Table<'_>) -> T {
    let mut value = serde_json::to_value(T::default()).unwrap_or_default();
    fill(&mut table, &mut value);
    table.finish();
    serde_json::from_value(value).unwrap_or_default()
}

/// Replaces the empty fields of a value by what a table says.
fn fill(table: &mut Table<'_>, value: &mut serde_json::Value) {
    use serde_json::Value;
    for (key, field) in value.as_object_mut().into_iter().flatten() {
        match field {
            Value::Array(_) => {
                *field = table.key(key, "[]", &rule::list("a list of texts", usize::MAX, rule::any_text())).into();
            }
            Value::Object(_) => {
                let mut inner = table.table(key);
                fill(&mut inner, field);
                inner.finish();
            }
            _ => *field = table.key(key, "\"\"", &rule::any_text()).into(),
        }
    }
}

/// Returns why no request can be as a person wrote it down: what is wrong, and the next step.
#[must_use]
pub fn faults(request: &Request) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let Some(row) = ACTIONS.iter().find(|row| row.word == request.action) else {
        let all = || ACTIONS.iter().map(|row| row.word);
        let help = match nearest(&request.action, all()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there is {}", listed(all(), '"')),
        };
        let says = match request.action.as_str() {
            "" => "`request` needs an `action`".to_owned(),
            action => format!("there is no action \"{action}\""),
        };
        return vec![(says, help)];
    };
    if request.access != row.access.as_str() {
        let says = format!("the access of {} is \"{}\", not \"{}\"", row.word, row.access.as_str(), request.access);
        faults.push((says, format!("leave `access` out, or write one of {}", ACCESSES.join(", "))));
    }
    if !LISTENERS.contains(&request.listener.as_str()) {
        let says = format!("there is no listener \"{}\"", request.listener);
        faults.push((says, format!("write {}", listed(LISTENERS, '"'))));
    }
    if request.namespace.is_empty() && row.is_about_repository() {
        faults.push((format!("{} is about a repository", row.word), "add `namespace = \"team/app\"`".to_owned()));
    }
    if !request.namespace.is_empty() && !row.is_about_repository() {
        faults.push((format!("{} is about no repository", row.word), "leave `namespace` out".to_owned()));
    }
    if !request.upstream.is_empty() && !row.is_about_repository() {
        faults.push((format!("{} is about no repository", row.word), "leave `upstream` out".to_owned()));
    }
    let is_digest = request.reference.parse::<Digest>().is_ok();
    let belongs = |given: bool, key: &str, to: &str| {
        let says = format!("`{key}` belongs to {to}, not to {}", row.word);
        given.then(|| (says, format!("leave `{key}` out, or ask about {to}")))
    };
    let changes_tags = row.word == "put-manifest" || row.word == "delete-manifest" && is_digest;
    faults.extend(belongs(
        !request.tags.is_empty() && !changes_tags,
        "tags",
        "put-manifest, or delete-manifest of a digest",
    ));
    faults.extend(belongs(!request.from.is_empty() && row.word != "mount-blob", "from", "mount-blob"));
    let refers = row.path.ends_with("<reference>") || row.path.ends_with("<tag>");
    faults.extend(belongs(!request.reference.is_empty() && !refers, "reference", "manifests and the history of a tag"));
    for tag in &request.tags {
        if let Err(rule) = tag.parse::<Tag>() {
            faults.push((format!("no tag is called \"{tag}\": {rule}"), "write a tag such as \"v1\"".to_owned()));
        }
    }
    for name in [&request.namespace, &request.from].into_iter().filter(|name| !name.is_empty()) {
        if let Err(rule) = name.parse::<Name>() {
            faults.push((
                format!("no repository is called \"{name}\": {rule}"),
                "write a name such as \"team/app\"".to_owned(),
            ));
        }
    }
    faults
}
