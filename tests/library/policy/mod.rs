//! Policies from outside: their decisions, the messages about wrong files, and the commands.

mod commands;
mod cooldown;
mod files;
mod properties;
mod reference;
mod replay;
mod retention;
mod retention_language;
mod retention_limits;
mod semantics;
mod tables;
mod times;

use simple_registry::{
    config::Config,
    diagnostics::Source,
    identity::Facts,
    policy::{Arrival, Decision, Now, Policy, Request},
};

fn file(name: &str, text: &str) -> Source {
    Source::new(format!("policies/{name}"), text)
}

/// Decides about a request that comes in now, to no cache.
fn decide_now(policy: &Policy, facts: &Facts, request: &Request) -> Decision {
    let now = Now::default();
    policy.decide(facts, request, request.times(&now, None))
}

/// Returns what rules see of a request to no cache.
fn arrival(now: &Now) -> Arrival<'_> {
    Arrival { listener: "main", upstream: "", now }
}

/// Returns the message about a wrong policy file.
fn told(text: &str) -> String {
    match Policy::build(&Config::default(), &[file("p.toml", text)]) {
        Ok(_) => panic!("this is valid, and should not be:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}
