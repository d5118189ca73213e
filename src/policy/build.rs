//! Makes policies of the configuration and of files, and finds everything that is wrong with them.

use std::sync::Arc;

use super::{
    cooldown::{Exception, Exceptions},
    decision::Origin,
    expression::{Condition, Scope, compile},
    file::{self, Document},
    pool::{CompiledPolicy, Coverage, Rule},
    together::AllPolicies,
    trial::{self, TestOutcome, Tested},
};
use crate::{
    config::{AccessPolicy, Config},
    diagnostics::{Problem, Source, Text},
    oci::{Algorithm, Digest},
};

/// The policies of all sources, or their problems.
#[derive(Default)]
pub(super) struct Built {
    pub(super) policies: Vec<Arc<CompiledPolicy>>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) tests: Vec<TestOutcome>,
    pub(super) retention: Vec<Arc<CompiledPolicy>>,
    pub(super) exceptions: Exceptions,
    /// Warnings about tests that fail only together with other policies.
    pub(super) together: Vec<String>,
}

/// A rule as it is written.
struct Written<'a> {
    name: String,
    when: &'a Text,
    denies: bool,
    message: Option<&'a str>,
}

/// Builds all policies.
pub(super) fn build(config: &Config, files: &[Source]) -> Built {
    let mut built = Built::default();
    access(&mut built, "[access_policy]".to_owned(), Coverage::Everything, &config.access_policy);
    for (prefix, repository) in &config.repository {
        if let Some(table) = &repository.access_policy {
            let name = format!("[repository.{prefix:?}.access_policy]");
            access(&mut built, name, Coverage::Table(prefix.clone()), table);
        }
        if let Some(rules) = &repository.retention_rules {
            retention(&mut built, prefix, rules);
        }
        if let Some(rules) = &repository.cooldown_exceptions {
            exceptions(&mut built, prefix, rules);
        }
    }
    let mut tested = Vec::new();
    for file in files {
        let file = Arc::new(file.clone());
        match file::parse(&file) {
            Ok(document) => {
                if let Some((compiled, failed)) = policy(&mut built, &file, &document) {
                    tested.push(Tested { file, document, compiled, failed });
                }
            }
            Err(problems) => built.problems.extend(problems),
        }
    }
    if built.problems.is_empty() {
        let together = AllPolicies::new(&built.policies, &built.retention, config.repository.keys().collect());
        built.together = tested.iter().flat_map(|tested| together.warnings(tested)).collect();
    }
    built.problems.extend(built.tests.iter().filter_map(|test| test.failure.clone()));
    built
}

/// Builds the policy of a table about access.
fn access(built: &mut Built, name: String, coverage: Coverage, table: &AccessPolicy) {
    let sources = listed(&table.rules, table.default_allow == Some(true));
    let says = serde_json::json!({ "default_allow": table.default_allow, "rules": texts(&sources) });
    match conditions(&sources, Scope::Access) {
        Ok(conditions) => {
            let compiled = table_policy(name, &says, coverage, table.default_allow, &sources, conditions);
            built.policies.push(compiled);
        }
        Err(problems) => built.problems.extend(problems),
    }
}

/// Builds the policy of a table about retention. A table without rules counts too: no table with a shorter prefix covers its
/// repositories.
fn retention(built: &mut Built, prefix: &str, rules: &[Text]) {
    let name = format!("[repository.{prefix:?}.retention_policy]");
    let sources = listed(rules, false);
    let says = serde_json::json!({ "rules": texts(&sources) });
    match conditions(&sources, Scope::Retention) {
        Ok(conditions) => {
            built.warnings.extend(keeps_all(&name, &sources, &conditions));
            let coverage = Coverage::Table(prefix.to_owned());
            built.retention.push(table_policy(name, &says, coverage, None, &sources, conditions));
        }
        Err(problems) => built.problems.extend(problems),
    }
}

/// Builds the exceptions of the cooldown that a table states.
fn exceptions(built: &mut Built, prefix: &str, rules: &[Text]) {
    let table = format!("[repository.{prefix:?}]");
    let named = |(at, when)| Written { name: format!("cooldown_exceptions[{at}]"), when, denies: false, message: None };
    let sources: Vec<Written<'_>> = rules.iter().enumerate().map(named).collect();
    match conditions(&sources, Scope::Access) {
        Ok(conditions) => {
            let exception = |(source, condition): (&Written<'_>, Condition)| {
                Exception::new(format!("{table} {}", source.name), condition)
            };
            built.exceptions.add(prefix, sources.iter().zip(conditions).map(exception).collect());
        }
        Err(problems) => built.problems.extend(problems),
    }
}

/// Returns the rules of a table, whose names are their places.
fn listed(rules: &[Text], denies: bool) -> Vec<Written<'_>> {
    let source = |(index, rule)| Written { name: format!("rules[{index}]"), when: rule, denies, message: None };
    rules.iter().enumerate().map(source).collect()
}

fn texts<'a>(sources: &'a [Written<'_>]) -> Vec<&'a str> {
    sources.iter().map(|source| source.when.as_str()).collect()
}

fn table_policy(
    name: String,
    says: &serde_json::Value,
    coverage: Coverage,
    default: Option<bool>,
    sources: &[Written<'_>],
    conditions: Vec<Condition>,
) -> Arc<CompiledPolicy> {
    let origin = Arc::new(Origin { policy: name, sha256: hash(&says.to_string()) });
    let rules = rules(&origin, sources, conditions, true);
    Arc::new(CompiledPolicy { origin, coverage, enforced: true, default, rules })
}

/// Returns a warning about a retention policy that keeps everything, whatever other policies say.
fn keeps_all(name: &str, sources: &[Written<'_>], conditions: &[Condition]) -> Option<String> {
    let all = |(_, condition): &(&Written<'_>, &Condition)| condition.literal() == Some(true);
    let (source, _) = sources.iter().zip(conditions).find(all)?;
    Some(format!("{name}: the rule {} keeps every image, so that nothing goes from what it covers", source.name))
}

/// Builds the policy of a file and runs its tests. Returns the policy as if it were enforced, and the tests that failed.
fn policy(built: &mut Built, file: &Source, document: &Document) -> Option<(Arc<CompiledPolicy>, Vec<String>)> {
    let sources = document.rules.iter().map(|rule| Written {
        name: rule.name.clone(),
        when: &rule.when,
        denies: rule.denies,
        message: rule.message.as_deref(),
    });
    let sources: Vec<Written<'_>> = sources.collect();
    let conditions = match conditions(&sources, document.scope) {
        Ok(conditions) => conditions,
        Err(problems) => {
            built.problems.extend(problems);
            return None;
        }
    };
    if document.scope == Scope::Retention {
        built.warnings.extend(keeps_all(&file.name, &sources, &conditions));
    }
    let origin = Arc::new(Origin { policy: file.short_name().to_owned(), sha256: hash(&file.text) });
    let rules = rules(&origin, &sources, conditions, document.enforce);
    let coverage = document.repositories.clone().map_or(Coverage::Everything, Coverage::Names);
    let compiled = |enforced| {
        let (origin, coverage, rules) = (Arc::clone(&origin), coverage.clone(), rules.clone());
        Arc::new(CompiledPolicy { origin, coverage, enforced, default: document.default, rules })
    };
    // A policy that is not enforced is tested as if it were.
    let outcomes = trial::run(&compiled(true), file, document);
    let failed = outcomes.iter().filter(|test| test.failure.is_some()).map(|test| test.name.clone()).collect();
    built.tests.extend(outcomes);
    match document.scope {
        Scope::Access => built.policies.push(compiled(document.enforce)),
        Scope::Retention => built.retention.push(compiled(document.enforce)),
    }
    Some((compiled(true), failed))
}

fn rules(origin: &Arc<Origin>, sources: &[Written<'_>], conditions: Vec<Condition>, enforced: bool) -> Vec<Arc<Rule>> {
    let rule = |(source, condition): (&Written<'_>, Condition)| {
        Arc::new(Rule {
            origin: Arc::clone(origin),
            name: source.name.as_str().into(),
            message: source.message.map(Arc::from),
            denies: source.denies,
            enforced,
            text: source.when.as_str().to_owned(),
            condition,
        })
    };
    sources.iter().zip(conditions).map(rule).collect()
}

/// Compiles the expressions of one policy, and refuses rules without effect.
fn conditions(sources: &[Written<'_>], scope: Scope) -> Result<Vec<Condition>, Vec<Problem>> {
    let (mut conditions, mut problems) = (Vec::new(), Vec::new());
    for (source, compiled) in sources.iter().zip(compile(&texts(sources), scope)) {
        match compiled {
            Ok(condition) => conditions.push(condition),
            Err(faults) => {
                problems.extend(faults.into_iter().map(|fault| source.when.problem(&fault.at, fault.says, fault.help)));
            }
        }
    }
    if problems.is_empty() {
        problems = without_effect(sources, &conditions, scope);
    }
    if problems.is_empty() { Ok(conditions) } else { Err(problems) }
}

/// Finds rules that never decide: they are mistakes. Looks at rules that are `true` or `false` alone, and at conditions of the
/// same words.
fn without_effect(sources: &[Written<'_>], conditions: &[Condition], scope: Scope) -> Vec<Problem> {
    let constants: Vec<Option<bool>> = conditions.iter().map(Condition::literal).collect();
    let keeps = scope == Scope::Retention;
    let asked = if keeps { "image" } else { "request" };
    let mut problems = Vec::new();
    for (index, (source, condition)) in sources.iter().zip(conditions).enumerate() {
        let name = &source.name;
        let all = 0..source.when.as_str().len();
        let mut refuse = |says: String, help: &str| problems.push(source.when.problem(&all, says, help));
        if constants[index] == Some(false) {
            refuse(format!("the rule {name} is never true, whatever the {asked}"), "correct it, or remove the rule");
            continue;
        }
        let others = || sources.iter().zip(conditions).zip(&constants).enumerate().filter(|(other, _)| *other != index);
        let always = others().find(|(other, ((rule, _), constant))| {
            // A rule that denies everything leaves nothing to any other rule; one that allows everything, nothing to later
            // rules. Of rules that keep, it does not matter which of them kept, so one leaves nothing to earlier rules either.
            **constant == Some(true)
                && if keeps {
                    constants[index] != Some(true) || *other < index
                } else if rule.denies {
                    !source.denies || *other < index
                } else {
                    !source.denies && *other < index
                }
        });
        if let Some((_, ((rule, _), _))) = always {
            let does = match (keeps, rule.denies) {
                (true, _) => "keeps",
                (false, true) => "denies",
                (false, false) => "allows",
            };
            refuse(
                format!("the rule {name} never decides: the rule {} {does} every {asked}", rule.name),
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

/// Returns the SHA-256 of a text in hex.
fn hash(text: &str) -> String {
    Digest::of(Algorithm::Sha256, text.as_bytes()).hex()
}
