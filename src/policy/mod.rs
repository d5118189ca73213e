//! Decides the rights of clients, and the images that stay.
//!
//! The one way to an operation of the registry is through a [`Permit`], and only this module makes one: a dispatch that
//! was not authorized does not compile.
//!
//! | file | content |
//! | --- | --- |
//! | `in_force` | the policies in force, for requests and images |
//! | `input`, `times`, `image` | variables: what rules see of a request, its times, and an image |
//! | `expression` | conditions in CEL: limits, checks, evaluation |
//! | `file` | policy files and the tests in them |
//! | `build` | makes policies of configuration and files, and finds what is wrong with them |
//! | `pool`, `decide`, `each_tag` | decide a request by all policies that cover it, once for each tag that it changes |
//! | `decision`, `explain` | a decision, and why |
//! | `cooldown` | exceptions of the cooldown of caches |
//! | `retention`, `retention_explain` | the images that stay, and why |
//! | `trial`, `together`, `run_tests` | run the tests of policy files, alone and against all policies together |

mod build;
mod cooldown;
mod decide;
mod decision;
mod each_tag;
mod explain;
mod expression;
mod file;
mod image;
mod in_force;
mod input;
mod pool;
mod retention;
mod retention_explain;
mod run_tests;
mod sight;
mod times;
mod together;
mod trial;

pub use self::{
    decision::{Decision, Effect, Origin},
    each_tag::worse,
    explain::{DefaultExplanation, Explanation, RuleExplanation},
    expression::{MAX_DEPTH, MAX_JOINS, MAX_LENGTH, MAX_WORDS, Vocabulary, vocabularies},
    file::{MAX_FILE, MAX_IMAGES, MAX_RULES, faults, read_dir, read_file},
    image::Image,
    in_force::{Permit, Policy, Verdict},
    input::{ACCESSES, LISTENERS, Request},
    retention::{Retained, RetentionDecision},
    retention_explain::{ImageExplanation, RetentionExplanation, RetentionRule, RuleOutcome},
    run_tests::{TestRun, run_tests},
    sight::{Sight, UpstreamOf},
    times::{Arrival, FirstSeen, Now, Times},
    trial::TestOutcome,
};
