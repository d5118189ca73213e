//! Runs the tests of policies, each against its own policy alone.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use jiff::Timestamp;

use super::{
    decide::decide,
    decision::Effect,
    file::{AccessCase, Case, Document, Expectation, RetentionCase, Test},
    input::LISTENERS,
    pool::{CompiledPolicy, PolicyIndex},
    retention,
    times::{FirstSeen, Now, Times},
};
use crate::{
    diagnostics::{Problem, Source},
    identity::Facts,
};

/// The number of images that a failed test names.
const MOST_SHOWN: usize = 10;

/// The outcome of a test of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// The policy's file, as it was named.
    pub file: String,
    /// The test.
    pub name: String,
    /// The difference from the expected answer, if there is one.
    pub failure: Option<Problem>,
}

/// A policy file with tests to run against all policies together.
pub(super) struct Tested {
    pub(super) file: Arc<Source>,
    pub(super) document: Document,
    /// The policy, as if it were enforced.
    pub(super) compiled: Arc<CompiledPolicy>,
    /// The names of its tests that fail alone.
    pub(super) failed: Vec<String>,
}

/// Runs the tests of a policy, each against it alone.
pub(super) fn run(compiled: &Arc<CompiledPolicy>, file: &Source, document: &Document) -> Vec<TestOutcome> {
    let index = PolicyIndex::alone(compiled);
    let outcome = |test: &Test| TestOutcome {
        file: file.name.clone(),
        name: test.name.clone(),
        failure: match &test.case {
            Case::Access(case) => access(&index, file, test, case),
            Case::Retention(case) => retention(compiled, file, test, case),
        },
    };
    document.tests.iter().map(outcome).collect()
}

fn access(index: &PolicyIndex, file: &Source, test: &Test, case: &AccessCase) -> Option<Problem> {
    let AccessCase { facts, request, expected, .. } = case;
    let now = Now::at(case.now);
    let decided = decide(index, facts, request, times(case, &now));
    let rule = decided.rule.as_deref();
    let as_expected =
        decided.effect == expected.effect && expected.rule.as_deref().is_none_or(|wanted| rule == Some(wanted));
    if decided.provisional {
        let says =
            format!("the test \"{}\" does not say the age of the image, on which the decision depends", test.name);
        return Some(Problem::new(file, &test.span, says, "add `image = { first_seen_at = 2026-01-31T12:00:00Z }`"));
    }
    (!as_expected).then(|| {
        let said = describe(decided.effect, rule, decided.default);
        let says = format!("the test \"{}\" failed: expected {}, and got {said}", test.name, wanted(expected));
        let command = explain_command(case, &now);
        Problem::new(file, &test.span, says, format!("correct the rules or the test; to see each rule: {command}"))
    })
}

/// Returns the times of a test.
pub(super) fn times<'a>(case: &AccessCase, now: &'a Now) -> Times<'a> {
    case.request.times(now, case.first_seen_at.map(FirstSeen::At))
}

/// Returns the images that differ from the expected ones, if any does.
fn retention(compiled: &Arc<CompiledPolicy>, file: &Source, test: &Test, case: &RetentionCase) -> Option<Problem> {
    let retained = retention::alone(compiled, &case.images, case.now);
    let differs = case.images.iter().zip(&retained).filter_map(|(image, retained)| {
        let wanted = case.keep.contains(&image.tag);
        (wanted != retained.keep).then(|| match (&retained.rule, &retained.why) {
            (Some(rule), None) => format!("\"{}\" is kept by the rule \"{rule}\"", image.tag),
            (_, Some(why)) => format!("\"{}\" is kept: {why}", image.tag),
            (None, None) => format!("\"{}\" is kept by no rule", image.tag),
        })
    });
    let differs: Vec<String> = differs.collect();
    let (shown, more) = differs.split_at(differs.len().min(MOST_SHOWN));
    let more = if more.is_empty() { String::new() } else { format!("; and {} more differ", more.len()) };
    let says = format!("the test \"{}\" failed: {}{more}", test.name, shown.join("; "));
    (!differs.is_empty()).then(|| Problem::new(file, &test.span, says, "correct the rules or the test"))
}

pub(super) fn wanted(expected: &Expectation) -> String {
    match &expected.rule {
        Some(rule) => format!("{} by the rule \"{rule}\"", expected.effect.as_str()),
        None => expected.effect.as_str().to_owned(),
    }
}

/// Describes a decision in a few words.
pub(super) fn describe(effect: Effect, rule: Option<&str>, default: bool) -> String {
    let by = match rule {
        Some(rule) => format!(" by the rule \"{rule}\""),
        None if default => " by default, since no rule decided".to_owned(),
        None => ", since the policy does not cover the repository".to_owned(),
    };
    format!("{}{by}", effect.as_str())
}

/// Returns the command that explains a decision, to be copied into a shell. It states the time if a rule asked for it.
pub(super) fn explain_command(case: &AccessCase, now: &Now) -> String {
    let AccessCase { facts, request, .. } = case;
    let who = if *facts == Facts::default() { "anonymous".to_owned() } else { brief(facts).to_string() };
    // The command completes a request as tests do, so values that follow from others are left out.
    let digest = if request.digest == request.reference { "" } else { &request.digest };
    let listener = if request.listener == LISTENERS[0] { "" } else { &request.listener };
    let before = [
        ("as", who.as_str()),
        ("action", &request.action),
        ("namespace", &request.namespace),
        ("reference", &request.reference),
    ];
    let tags = request.tags.iter().filter(|tag| **tag != request.reference).map(|tag| ("tag", tag.as_str()));
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let (first_seen, now) = (text(case.first_seen_at), text(now.asked()));
    let after = [
        ("digest", digest),
        ("from", &request.from),
        ("upload-owner", &request.upload_owner),
        ("listener", listener),
        ("upstream", &request.upstream),
        ("first-seen-at", &first_seen),
        ("now", &now),
    ];
    let options = before.into_iter().chain(tags).chain(after).filter(|(_, value)| !value.is_empty());
    options.fold("simple-registry policy explain".to_owned(), |mut command, (option, value)| {
        let _ = write!(command, " --{option} {}", quoted(value));
        command
    })
}

/// Returns a value as a shell takes it.
fn quoted(value: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    if value.chars().all(is_plain) { value.into() } else { format!("'{}'", value.replace('\'', r"'\''")).into() }
}

/// Returns an identity as JSON, without empty fields.
fn brief(facts: &Facts) -> serde_json::Value {
    fn filled(value: serde_json::Value) -> Option<serde_json::Value> {
        use serde_json::Value;
        match value {
            Value::String(text) if text.is_empty() => None,
            Value::Array(list) if list.is_empty() => None,
            Value::Object(map) => {
                let map: serde_json::Map<String, Value> =
                    map.into_iter().filter_map(|(key, value)| Some((key, filled(value)?))).collect();
                (!map.is_empty()).then_some(Value::Object(map))
            }
            other => Some(other),
        }
    }
    serde_json::to_value(facts).ok().and_then(filled).unwrap_or_default()
}
