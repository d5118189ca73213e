//! Policies from outside: their decisions, the messages about wrong files, and the commands.

mod commands;
mod files;
mod properties;
mod reference;
mod replay;
mod retention;
mod retention_language;
mod retention_limits;
mod semantics;
mod tables;

use simple_registry::{config::Config, diagnostics::Source, policy::Policy};

fn file(name: &str, text: &str) -> Source {
    Source::new(format!("policies/{name}"), text)
}

/// Returns the message about a wrong policy file.
fn told(text: &str) -> String {
    match Policy::build(&Config::default(), &[file("p.toml", text)]) {
        Ok(_) => panic!("this is valid, and should not be:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}
