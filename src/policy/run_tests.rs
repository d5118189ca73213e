//! Runs the tests of policy files.

use super::{build, trial::TestOutcome};
use crate::{
    config::Config,
    diagnostics::{Problem, Problems, Source},
};

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
