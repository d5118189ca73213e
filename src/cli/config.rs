//! `simple-registry config`: look at the configuration.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::{named, print, reads_none};
use crate::{
    config::Config,
    snapshot::{Checked, Sources},
};

/// A command about the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration, policies, certificates and upstreams as the server does at its start; write nothing
    Check,
    /// Print a JSON schema of configuration files, with which editors complete and check them
    Schema,
}

/// Runs the command.
pub(super) fn run(command: &Command, files: &[PathBuf]) -> ExitCode {
    match command {
        Command::Check => return check(files),
        Command::Schema if !files.is_empty() => return reads_none("config schema"),
        Command::Schema => print::text(format_args!("{:#}\n", Config::schema())),
    }
    ExitCode::SUCCESS
}

/// Checks what the server reads at its start. Prints warnings, and no word if there is none.
fn check(files: &[PathBuf]) -> ExitCode {
    match Checked::new(Sources::Files(named(files))) {
        Ok(checked) => {
            for warning in checked.warnings() {
                print::error_line(format_args!("warning: {warning}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            print::error(error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}
