//! The command line.

mod policy;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    app::{self, AppError},
    config::{Config, ConfigError},
    snapshot::Sources,
};

/// The configuration file that is read where none is named.
const DEFAULT_CONFIG: &str = "config.toml";

/// An OCI container registry.
#[derive(Debug, Parser)]
#[command(
    name = "simple-registry",
    version,
    about = "An OCI container registry in one binary",
    after_help = "Without any file: simple-registry server --data-dir ./data\n\
                  Exit codes: 0 well, 1 failed, 2 wrong use, 3 policy replay found a change"
)]
struct Cli {
    /// Configuration file; repeatable, a later one wins [default: config.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT
    #[command(alias = "serve")]
    Server {
        /// Keep everything in this directory and read no configuration file: plain HTTP on 127.0.0.1:5000, open to
        /// everyone on this machine
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Check, test, explain and replay policies
    #[command(subcommand)]
    Policy(policy::Command),
}

/// Does what the command line says; its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse(); // exits with 2 on wrong use
    let data_dir = match &cli.command {
        Command::Policy(command) => return policy::run(command, &cli.config),
        Command::Server { data_dir } => data_dir,
    };
    if data_dir.is_some() && !cli.config.is_empty() {
        eprintln!(
            "error: --data-dir reads no configuration file; leave out -c, or set storage.fs.root_dir in the file"
        );
        return ExitCode::from(2);
    }
    let sources = match data_dir {
        Some(dir) => Sources::Fixed(Box::new(Config::for_data_dir(dir))),
        None if cli.config.is_empty() => Sources::Files(vec![DEFAULT_CONFIG.into()]),
        None => Sources::Files(cli.config.clone()),
    };
    match app::serve(sources) {
        Ok(()) => ExitCode::SUCCESS,
        // it has places and carets of its own
        Err(AppError::Snapshot(error)) => {
            eprintln!("{}", error.to_string().trim_end());
            if data_dir.is_none() && cli.config.is_empty() && !PathBuf::from(DEFAULT_CONFIG).exists() {
                eprintln!("\nTo start without any file: simple-registry server --data-dir ./data");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration that the options name.
fn load(files: &[PathBuf]) -> Result<Config, ConfigError> {
    if files.is_empty() { Config::load(&[DEFAULT_CONFIG.into()]) } else { Config::load(files) }
}
