//! From configuration and files to policies that can be asked, with everything that is wrong with them.

use std::{fmt::Write, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    decision::{Effect, Origin},
    expression::{Condition, Covers, Scope, Values, compile},
    file::{self, Document, Expectation, Test},
    input::{Input, Request},
    pool::{About, Cover, Rule, Unit},
    problem::{File, Problem, Written},
};
use crate::{
    config::{AccessPolicy, Config},
    identity::Facts,
};

/// What became of all sources.
#[derive(Default)]
pub(super) struct Built {
    pub(super) units: Vec<Arc<Unit>>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) tests: Vec<TestOutcome>,
    pub(super) retention: usize,
}

/// How a test of a policy went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// The policy's file, as it was named.
    pub file: String,
    /// The test.
    pub name: String,
    /// What went otherwise than expected, if anything did.
    pub failure: Option<Problem>,
}

/// A rule as it is written.
struct Source<'a> {
    name: String,
    written: Written<'a>,
    denies: bool,
    message: Option<&'a str>,
}

/// Builds all policies.
pub(super) fn build(config: &Config, files: &[File]) -> Built {
    let mut built = Built::default();
    table(&mut built, "[access_policy]".to_owned(), About::Everything, &config.access_policy);
    for (prefix, repository) in &config.repository {
        let name = format!("[repository.{prefix:?}.access_policy]");
        table(&mut built, name, About::Table(prefix.clone()), &repository.access_policy);
    }
    for file in files {
        match file::parse(file) {
            Ok(document) => policy(&mut built, file, &document),
            Err(problems) => built.problems.extend(problems),
        }
    }
    built.problems.extend(built.tests.iter().filter_map(|test| test.failure.clone()));
    built
}

/// A table of the configuration.
fn table(built: &mut Built, name: String, about: About, table: &AccessPolicy) {
    let denies = table.default_allow == Some(true);
    let sources = table.rules.iter().enumerate().map(|(index, rule)| Source {
        name: format!("rules[{index}]"),
        written: Written::Config(rule),
        denies,
        message: None,
    });
    let sources: Vec<Source<'_>> = sources.collect();
    let covers = match &about {
        About::Table(prefix) => std::slice::from_ref(prefix),
        _ => &[],
    };
    let texts: Vec<&str> = sources.iter().map(|source| source.written.text()).collect();
    let says = serde_json::json!({ "default_allow": table.default_allow, "rules": texts });
    let origin = Arc::new(Origin { policy: name, sha256: hash(&says.to_string()) });
    let covers = if covers.is_empty() { Covers::Everything } else { Covers::Below(covers) };
    match conditions(&sources, Scope::Access, covers) {
        Ok(conditions) => {
            let rules = rules(&origin, &sources, conditions, true);
            built.units.push(Arc::new(Unit { origin, about, enforced: true, default: table.default_allow, rules }));
        }
        Err(problems) => built.problems.extend(problems),
    }
}

/// A policy file.
fn policy(built: &mut Built, file: &File, document: &Document) {
    let sources = document.rules.iter().map(|rule| Source {
        name: rule.name.text.clone(),
        written: Written::File { file, span: &rule.when.span, text: &rule.when.text },
        denies: rule.denies,
        message: rule.message.as_deref(),
    });
    let sources: Vec<Source<'_>> = sources.collect();
    let covers = document.repositories.as_deref().map_or(Covers::Everything, Covers::Below);
    let conditions = match conditions(&sources, document.scope, covers) {
        Ok(conditions) => conditions,
        Err(problems) => return built.problems.extend(problems),
    };
    if document.scope == Scope::Retention {
        built.retention += 1;
        let says = "retention policies are checked but not enforced by this version, and their tests are not run";
        return built.warnings.push(format!("{}: {says}", file.name));
    }
    let origin = Arc::new(Origin { policy: file.short_name().to_owned(), sha256: hash(&file.text) });
    let about = document.repositories.clone().map_or(About::Everything, About::Names);
    let unit = |enforced, conditions| Unit {
        origin: Arc::clone(&origin),
        about: about.clone(),
        enforced,
        default: document.default,
        rules: rules(&origin, &sources, conditions, enforced),
    };
    let unit = Arc::new(unit(document.enforce, conditions));
    // a policy that is not enforced is tested as if it were
    let tested = Arc::new(Unit {
        origin: Arc::clone(&unit.origin),
        about: unit.about.clone(),
        enforced: true,
        default: unit.default,
        rules: unit.rules.clone(),
    });
    let cover = Cover::alone(&tested);
    built.tests.extend(document.tests.iter().map(|test| run(&cover, file, test)));
    built.units.push(unit);
}

fn rules(origin: &Arc<Origin>, sources: &[Source<'_>], conditions: Vec<Condition>, enforced: bool) -> Vec<Arc<Rule>> {
    let rule = |(source, condition): (&Source<'_>, Condition)| {
        Arc::new(Rule {
            origin: Arc::clone(origin),
            name: source.name.as_str().into(),
            message: source.message.map(Arc::from),
            denies: source.denies,
            enforced,
            text: source.written.text().to_owned(),
            condition,
        })
    };
    sources.iter().zip(conditions).map(rule).collect()
}

/// Compiles the expressions of one policy, and finds those that can never decide.
fn conditions(sources: &[Source<'_>], scope: Scope, covers: Covers<'_>) -> Result<Vec<Condition>, Vec<Problem>> {
    let texts: Vec<&str> = sources.iter().map(|source| source.written.text()).collect();
    let (mut conditions, mut problems) = (Vec::new(), Vec::new());
    for (source, compiled) in sources.iter().zip(compile(&texts, scope)) {
        match compiled {
            Ok(condition) => conditions.push(condition),
            Err(faults) => {
                problems
                    .extend(faults.into_iter().map(|fault| source.written.problem(&fault.at, fault.says, fault.help)));
            }
        }
    }
    if problems.is_empty() {
        problems = unreachable(sources, &conditions, scope, covers);
    }
    if problems.is_empty() { Ok(conditions) } else { Err(problems) }
}

/// Rules that never decide anything: they are mistakes, and what they were to say is not said.
fn unreachable(sources: &[Source<'_>], conditions: &[Condition], scope: Scope, covers: Covers<'_>) -> Vec<Problem> {
    let constants: Vec<Option<bool>> = match scope {
        Scope::Access => conditions.iter().map(|condition| condition.constant(covers)).collect(),
        Scope::Retention => vec![None; conditions.len()],
    };
    let mut problems = Vec::new();
    for (index, (source, condition)) in sources.iter().zip(conditions).enumerate() {
        let name = &source.name;
        let all = 0..source.written.text().len();
        let mut refuse = |says: String, help: &str| problems.push(source.written.problem(&all, says, help));
        if constants[index] == Some(false) {
            refuse(format!("the rule {name} is never true, whatever the request"), "correct it, or remove the rule");
            continue;
        }
        let others = || sources.iter().zip(conditions).zip(&constants).enumerate().filter(|(other, _)| *other != index);
        let always = others().find(|(other, ((rule, _), constant))| {
            // what denies everything leaves nothing to any other rule; what allows everything, nothing to later ones
            **constant == Some(true)
                && if rule.denies { !source.denies || *other < index } else { !source.denies && *other < index }
        });
        if let Some((_, ((rule, _), _))) = always {
            let does = if rule.denies { "denies" } else { "allows" };
            refuse(
                format!("the rule {name} never decides: the rule {} {does} every request", rule.name),
                "remove one of the two",
            );
            continue;
        }
        let same = others().find(|(other, ((rule, this), _))| {
            this.words() == condition.words()
                && (rule.denies == source.denies && *other < index || rule.denies && !source.denies)
        });
        if let Some((_, ((rule, _), _))) = same {
            let says = if rule.denies == source.denies {
                format!("the rule {name} says the same as the rule {}", rule.name)
            } else {
                format!("the rule {name} never decides: the rule {} denies under the same condition", rule.name)
            };
            refuse(says, "remove one of the two");
        }
    }
    problems
}

/// Runs a test against its policy alone.
fn run(cover: &Cover, file: &File, test: &Test) -> TestOutcome {
    let failure = test.case.as_ref().and_then(|(facts, request, expected)| {
        let decided = super::decide(cover, &Values::new(&Input::written(facts, request)), request);
        let rule = decided.rule.as_deref();
        let as_expected =
            decided.effect == expected.effect && expected.rule.as_deref().is_none_or(|wanted| rule == Some(wanted));
        (!as_expected).then(|| {
            let said = describe(decided.effect, rule, decided.default);
            let says = format!("the test \"{}\" failed: expected {}, and got {said}", test.name, wanted(expected));
            let command = explain_command(facts, request);
            file.problem(&test.span, says, format!("correct the rules or the test; to see each rule: {command}"))
        })
    });
    TestOutcome { file: file.name.clone(), name: test.name.clone(), failure }
}

fn wanted(expected: &Expectation) -> String {
    match &expected.rule {
        Some(rule) => format!("{} by the rule \"{rule}\"", expected.effect.as_str()),
        None => expected.effect.as_str().to_owned(),
    }
}

/// What was decided, and by what, in a few words.
fn describe(effect: Effect, rule: Option<&str>, default: bool) -> String {
    let by = match rule {
        Some(rule) => format!(" by the rule \"{rule}\""),
        None if default => " by default, since no rule decided".to_owned(),
        None => ", since the policy does not cover the repository".to_owned(),
    };
    format!("{}{by}", effect.as_str())
}

/// The command that explains a decision.
fn explain_command(facts: &Facts, request: &Request) -> String {
    let mut command = "simple-registry policy explain".to_owned();
    let mut add = |option: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(command, " --{option} {value}");
        }
    };
    let who = if *facts == Facts::default() { "anonymous".to_owned() } else { format!("'{}'", brief(facts)) };
    add("as", &who);
    add("action", &request.action);
    add("namespace", &request.namespace);
    add("reference", &request.reference);
    command
}

/// An identity as JSON, without what is empty.
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

/// The SHA-256 of a text in hex.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
