//! Decides the rights of clients, and the images that stay.
//!
//! The one way to an operation of the registry is through a [`Permit`], and only this module makes one: a dispatch that
//! was not authorized does not compile.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `input` | variables, actions: what policies see of a request |
//! | `expression` | conditions in CEL: limits, checks, evaluation |
//! | `file` | policy files and the tests in them |
//! | `build`, `trial` | from configuration and files to policies, and what is wrong with them; their tests |
//! | `together` | tests of policy files against all policies together |
//! | `pool` | how several policies come together |
//! | `each` | requests that change several tags, decided for each of them |
//! | `decision`, `explain` | what is decided, and why |
//! | `retention`, `retention_explain` | which images stay, and why |

mod build;
mod decision;
mod each;
mod explain;
mod expression;
mod file;
mod image;
mod input;
mod pool;
mod retention;
mod retention_explain;
mod together;
mod trial;

use crate::{
    action::Action,
    config::Config,
    diagnostics::{Problem, Problems, Source},
    identity::{Facts, Identity},
    oci::{Name, Tag},
};
pub use decision::{Decision, Effect, Origin};
pub use explain::{DefaultExplanation, Explanation, RuleExplanation};
pub use expression::{MAX_DEPTH, MAX_JOINS, MAX_LENGTH, MAX_WORDS};
pub use file::{MAX_FILE, MAX_IMAGES, MAX_RULES, read_dir, read_file};
pub use image::Image;
pub use input::{ACCESSES, LISTENERS, Request};
pub use retention::{Retained, RetentionDecision};
pub use retention_explain::{ImageExplanation, RetentionExplanation, RetentionRule, RuleOutcome};
pub use trial::TestOutcome;

use expression::Values;
use input::Input;
use pool::Cover;
use retention::Retention;

/// The rules in force: immutable, to be shared behind an `Arc`.
#[derive(Debug)]
pub struct Policy {
    cover: Cover,
    retention: Retention,
    warnings: Vec<String>,
    open: Vec<String>,
}

/// An action that policy allowed.
#[derive(Debug)]
pub struct Permit {
    action: Action,
}

/// What policy said about an action.
#[derive(Debug)]
pub struct Verdict {
    /// What, and why.
    pub decision: Decision,
    /// The permit to do it, or the action that may not be done.
    pub outcome: Result<Permit, Action>,
}

impl Permit {
    /// The action that is allowed.
    #[must_use]
    pub const fn action(&self) -> &Action {
        &self.action
    }

    /// The action that is allowed, to do it.
    #[must_use]
    pub fn into_action(self) -> Action {
        self.action
    }
}

impl Policy {
    /// Checks everything, and makes of it what requests are decided by.
    ///
    /// # Errors
    /// All problems of all sources at once: shape, syntax, names, kinds of values, rules without effect,
    /// expressions beyond the limits, tests that fail.
    pub fn build(config: &Config, files: &[Source]) -> Result<Self, Problems> {
        let built = build::build(config, files);
        if !built.problems.is_empty() {
            return Err(Problems::new(built.problems));
        }
        let cover = Cover::new(&built.units, config.repository.keys());
        let open = open_to_everyone(&cover);
        Ok(Self {
            cover,
            retention: Retention::new(built.retention),
            warnings: [built.warnings, built.together].concat(),
            open,
        })
    }

    /// What an operator should know though it is no error.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Decides about an action that came in at `listener`, one of [`LISTENERS`]. Takes well under a microsecond where
    /// there are only defaults, and about one for each rule otherwise.
    #[must_use]
    pub fn authorize(&self, identity: &Identity, action: Action, listener: &'static str) -> Verdict {
        let name = action.name().map_or("", |name| name.as_str());
        let otherwise = allowed_otherwise(action.as_str(), listener);
        let decision = match self.cover.of(name) {
            None => Decision::not_covered(),
            Some(pools) => pools.constant(otherwise).unwrap_or_else(|| {
                let request = Request::of(&action, listener);
                let client_ip = identity.client_ip.to_string();
                each::decide(&request, |request| {
                    pools.decide(&Values::new(&Input::of(identity, &client_ip, request)), otherwise)
                })
            }),
        };
        let outcome = if decision.allows() { Ok(Permit { action }) } else { Err(action) };
        Verdict { decision, outcome }
    }

    /// Returns whether a rule about this repository asks for `request.upload_owner`. If this process does not remember
    /// the upload, that costs a read of the store.
    #[must_use]
    pub fn asks_for_upload_owner(&self, name: &Name) -> bool {
        self.cover.of(name.as_str()).is_some_and(|pools| pools.ask_for(input::UPLOAD_OWNER))
    }

    /// Decides about a request as records and tests write it, as [`Policy::authorize`] does.
    #[must_use]
    pub fn decide(&self, identity: &Facts, request: &Request) -> Decision {
        decide(&self.cover, identity, request)
    }

    /// Decides whether `action`, a delete by digest that policy allowed for the digest, may take a tag along.
    #[must_use]
    pub fn decide_tag(&self, identity: &Identity, action: &Action, tag: &Tag, listener: &'static str) -> Decision {
        let mut request = Request::of(action, listener);
        tag.as_str().clone_into(&mut request.reference);
        let decision = self.cover.of(&request.namespace).map_or_else(Decision::not_covered, |pools| {
            let client_ip = identity.client_ip.to_string();
            pools
                .constant(false)
                .unwrap_or_else(|| pools.decide(&Values::new(&Input::of(identity, &client_ip, &request)), false))
        });
        each::for_tag(decision, tag.as_str())
    }

    /// Returns whether rules, and not a default alone, decide about requests of a repository.
    #[must_use]
    pub fn has_rules(&self, name: &Name) -> bool {
        self.cover.of(name.as_str()).is_some_and(|pools| pools.constant(false).is_none())
    }

    /// Returns whether a rule about a repository asks for `request.tags`, so that a request whose tags are not all known
    /// cannot be decided again.
    #[must_use]
    pub fn uses_tags(&self, namespace: &str) -> bool {
        self.cover.of(namespace).is_some_and(|pools| pools.ask_for("request.tags"))
    }

    /// Why a request is decided as it is.
    #[must_use]
    pub fn explain(&self, identity: &Facts, request: &Request) -> Explanation {
        let decision = decide(&self.cover, identity, request);
        let shown = request.for_tag(decision.tag.as_deref());
        let values = Values::new(&Input::written(identity, &shown));
        let tags = request.tags.len();
        Explanation { tags, ..Explanation::new(&decision, self.cover.of(&request.namespace), &values) }
    }

    /// Prefixes of names below which anyone may push, `*` for all that no other prefix covers: for the line that says at
    /// start what is open to whom.
    pub fn open_to_everyone(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(String::as_str)
    }
}

/// The outcome of the tests of policy files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// Each test against its own file alone.
    pub outcomes: Vec<TestOutcome>,
    /// A warning for each test that passes alone and fails together with the tables of the configuration and all files.
    pub warnings: Vec<String>,
}

/// Runs the tests of policy files, each against its own file alone, and against all policies together.
///
/// # Errors
/// All that is wrong with the policies, but for tests that fail.
pub fn run_tests(config: &Config, files: &[Source]) -> Result<TestRun, Problems> {
    let built = build::build(config, files);
    let failed = |problem: &Problem| built.tests.iter().any(|test| test.failure.as_ref() == Some(problem));
    let problems: Vec<Problem> = built.problems.iter().filter(|problem| !failed(problem)).cloned().collect();
    let run = || TestRun { outcomes: built.tests.clone(), warnings: built.together.clone() };
    if problems.is_empty() { Ok(run()) } else { Err(Problems::new(problems)) }
}

/// What no request can be that a person wrote down: what is wrong, and the next step.
#[must_use]
pub fn faults(request: &Request) -> Vec<(String, String)> {
    file::faults(request)
}

/// Everything that the rules of one kind of policy can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The paths of variables.
    pub variables: Vec<&'static str>,
    /// The names of functions.
    pub functions: Vec<&'static str>,
}

/// What access rules can name, and what retention rules can.
#[must_use]
pub fn vocabularies() -> [Vocabulary; 2] {
    [expression::Scope::Access, expression::Scope::Retention].map(|scope| {
        let (variables, functions) = expression::vocabulary(scope);
        Vocabulary { variables, functions }
    })
}

fn decide(cover: &Cover, identity: &Facts, request: &Request) -> Decision {
    let otherwise = allowed_otherwise(&request.action, &request.listener);
    match cover.of(&request.namespace) {
        None => Decision::not_covered(),
        Some(pools) => pools.constant(otherwise).unwrap_or_else(|| {
            each::decide(request, |request| pools.decide(&Values::new(&Input::written(identity, request)), otherwise))
        }),
    }
}

/// Returns the decision that counts for a request, of one made before and one made later.
#[must_use]
pub fn worse(before: Decision, decision: Decision) -> Decision {
    each::worse(Some(before), decision)
}

/// Whether an action is allowed where no rule decides, whatever defaults say.
fn allowed_otherwise(action: &str, listener: &str) -> bool {
    match action {
        // the ping tells no more than that this is a registry, and no client goes on without it
        "get-api-version" => true,
        // an address of their own is what keeps metrics from others
        "get-metrics" => listener != LISTENERS[0],
        _ => false,
    }
}

/// Prefixes below which somebody of whom nothing is known may push.
fn open_to_everyone(cover: &Cover) -> Vec<String> {
    let facts = Facts { client_ip: "203.0.113.1".to_owned(), ..Facts::default() };
    let open = cover.prefixes().into_iter().filter(|prefix| {
        let namespace = if *prefix == "*" { "anything" } else { prefix };
        let request = Request {
            action: "put-manifest".to_owned(),
            namespace: namespace.to_owned(),
            reference: "latest".to_owned(),
            ..Request::default()
        };
        let request = request.completed();
        let values = Values::new(&Input::written(&facts, &request));
        let pools = cover.of(prefix);
        pools.is_some_and(|pools| pools.constant(false).unwrap_or_else(|| pools.decide(&values, false)).allows())
    });
    open.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
