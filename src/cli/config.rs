//! `simple-registry config`: look at the configuration.

use std::process::ExitCode;

use clap::Subcommand;

use super::print;
use crate::config::Config;

/// A command about the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a JSON schema of configuration files, with which editors complete and check them
    Schema,
}

/// Runs the command.
pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Schema => print::text(format_args!("{:#}\n", Config::schema())),
    }
    ExitCode::SUCCESS
}
