//! Runs the tests of policy files against all policies together. A test that passes alone and fails here is a warning: it
//! refuses nothing, since a policy that must go in at once may well break the tests of others.

use std::sync::Arc;

use super::{
    decide::decide,
    decision::{Decision, Effect},
    expression::Scope,
    file::{AccessCase, Case, RetentionCase, Test},
    pool::{CompiledPolicy, PolicyIndex},
    retention::{self, Retention},
    times::Now,
    trial::{self, Tested, describe, explain_command, wanted},
};
use crate::diagnostics::Problem;

/// All policies, to run the tests of each against all.
pub(super) struct AllPolicies<'a> {
    policies: &'a [Arc<CompiledPolicy>],
    tables: Vec<&'a String>,
    index: PolicyIndex,
    retention: Retention,
}

impl<'a> AllPolicies<'a> {
    pub(super) fn new(
        policies: &'a [Arc<CompiledPolicy>],
        retention: &[Arc<CompiledPolicy>],
        tables: Vec<&'a String>,
    ) -> Self {
        let index = PolicyIndex::new(policies, tables.iter().copied());
        Self { policies, tables, index, retention: Retention::new(retention.to_vec()) }
    }

    /// Returns a warning for each test of a file that fails here, naming the other policy.
    pub(super) fn warnings(&self, tested: &Tested) -> Vec<String> {
        if tested.document.tests.is_empty() {
            return Vec::new();
        }
        let is_access = tested.document.scope == Scope::Access;
        // A policy that is not enforced is tested as if it were, here as alone.
        let enforced = (is_access && !tested.document.enforce).then(|| {
            let own = |compiled: &Arc<CompiledPolicy>| {
                if compiled.origin == tested.compiled.origin { &tested.compiled } else { compiled }.clone()
            };
            let policies: Vec<Arc<CompiledPolicy>> = self.policies.iter().map(own).collect();
            PolicyIndex::new(&policies, self.tables.iter().copied())
        });
        let index = enforced.as_ref().unwrap_or(&self.index);
        let beside = if is_access { Vec::new() } else { self.retention.beside(&tested.compiled) };
        let tests = tested.document.tests.iter().filter(|test| !tested.failed.contains(&test.name));
        let warning = |test: &Test| {
            let says = match &test.case {
                Case::Access(case) => access(index, case),
                Case::Retention(case) => retention(&tested.compiled, &beside, case),
            }?;
            let place = Problem::new(&tested.file, &test.span, "", "").place;
            let place =
                place.map_or_else(|| tested.file.name.clone(), |place| format!("{}:{}", place.file, place.line));
            Some(format!("{place}: the test \"{}\" fails only together with {says}", test.name))
        };
        tests.filter_map(warning).collect()
    }
}

fn access(index: &PolicyIndex, case: &AccessCase) -> Option<String> {
    let AccessCase { facts, request, expected, .. } = case;
    let now = Now::at(case.now);
    let decided = decide(index, facts, request, trial::times(case, &now));
    // A repository that does not exist is refused too. The expected rule counts only if the file is tested alone.
    let refuses = |effect: Effect| !effect.allows();
    // A rule of another policy that asks for the age of the image does not contradict a test that says no age.
    if decided.provisional || decided.effect == expected.effect || refuses(decided.effect) && refuses(expected.effect) {
        return None;
    }
    let Decision { effect, by, rule, default, .. } = &decided;
    let other = by.as_ref().map_or("the other policies", |by| by.policy.as_str());
    let said = describe(*effect, rule.as_deref(), *default);
    let command = explain_command(case, &now);
    Some(format!("{other}: expected {}, and got {said}; to see each rule: {command}", wanted(expected)))
}

/// Compares what a test of retention expects with what comes of its policy and each other one that covers the same
/// repositories. Asks each policy once, so that the time grows with the rules and not with pairs of them.
fn retention(own: &Arc<CompiledPolicy>, beside: &[&Arc<CompiledPolicy>], case: &RetentionCase) -> Option<String> {
    let alone = retention::alone(own, &case.images, case.now);
    beside.iter().find_map(|other| {
        let also = retention::alone(other, &case.images, case.now);
        let differs = alone.iter().zip(&also).zip(&case.images).find_map(|((one, two), image)| {
            // An image that no rule keeps stays as immutable only if no rule of any policy names that variable.
            let keep = one.rule.is_some() || two.rule.is_some() || one.keep && two.keep;
            (keep != case.keep.contains(&image.tag)).then(|| match &two.rule {
                Some(rule) => format!("its rule \"{rule}\" keeps \"{}\"", image.tag),
                None => format!("\"{}\" goes", image.tag),
            })
        });
        differs.map(|says| format!("{}: {says}", other.origin.policy))
    })
}
