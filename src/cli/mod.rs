//! Parses the command line and runs its command.

mod config;
mod format;
mod hash_password;
mod history;
mod policy;
mod prefetch;
mod print;
mod restore;
mod scrub;
mod store;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    app::{self, AppError},
    config::{Config, Login},
    diagnostics::Problems,
    snapshot::Sources,
};

/// The configuration file that is read where none is named.
const DEFAULT_CONFIG: &str = "config.toml";

/// The message for `--data-dir` with `-c`.
const DATA_DIR_ALONE: &str =
    "--data-dir reads no configuration file; leave out -c, or set storage.fs.root_dir in the file";

/// An OCI container registry.
#[derive(Debug, Parser)]
#[command(
    name = "simple-registry",
    version,
    about = "An OCI container registry in one binary",
    after_help = "Without any file: simple-registry server --data-dir ./data\n\
                  Exit codes: 0 well, 1 failed, 2 wrong use, 3 policy replay found a change, or scrub \
                  something that it could not repair"
)]
struct Cli {
    /// Configuration file, or a folder of `*.toml` files in the order of their names; repeatable, a later one wins
    /// [default: config.toml]
    #[arg(short, long = "config", value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT
    #[command(alias = "serve")]
    Server(Server),
    /// Print the hash of a password, for `[identity.<id>] password`: asks for it on a terminal, reads standard input
    /// otherwise
    #[command(alias = "genhash")]
    HashPassword,
    /// Free what nothing needs, apply retention, and check what is stored, beside servers that run
    Scrub(scrub::Scrub),
    /// Check, test, explain and replay policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Show what a tag meant, newest first
    History(history::History),
    /// Bring back a tag, a manifest or a blob that was deleted
    Restore(restore::Restore),
    /// Pull images into a cache before anybody asks for them
    Prefetch(prefetch::Prefetch),
}

#[derive(Debug, Args)]
struct Server {
    /// Keep everything in this directory and read no configuration file: plain HTTP on 127.0.0.1:5000, open to
    /// everyone on this machine
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The user `admin` has the password in this file and may do everything; anyone may pull
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    admin_password_file: Option<PathBuf>,
    /// Nobody but `admin` may do anything
    #[arg(long, requires = "admin_password_file")]
    private: bool,
    /// The port, with `--data-dir` [default: 5000]
    #[arg(long)]
    port: Option<u16>,
}

/// Does what the command line says; its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse(); // exits with 2 on wrong use
    match &cli.command {
        Command::Server(server) => serve(&cli, server),
        Command::HashPassword if !cli.config.is_empty() => reads_none("hash-password"),
        Command::HashPassword => hash_password::run(),
        Command::Scrub(scrub) => scrub::run(scrub, &cli.config),
        Command::Policy(command) => policy::run(command, &cli.config),
        Command::Config(command) => config::run(command, &cli.config),
        Command::History(history) => on_store(&history.place, &cli.config, |config| history::run(history, config)),
        Command::Restore(restore) => on_store(&restore.place, &cli.config, |config| restore::run(restore, config)),
        Command::Prefetch(prefetch) => on_store(&prefetch.place, &cli.config, |config| prefetch::run(prefetch, config)),
    }
}

/// Refuses `-c` for a command that reads no configuration.
fn reads_none(command: &str) -> ExitCode {
    print::error(format_args!(
        "error: -c belongs to commands that read a configuration, and {command} reads none; leave out -c"
    ));
    ExitCode::from(2)
}

/// Does something under the configuration that the options name.
fn on_store(place: &store::Place, files: &[PathBuf], work: impl FnOnce(&Config) -> Result<(), String>) -> ExitCode {
    let config = match place.config(files) {
        Ok(config) => config,
        Err(code) => return code,
    };
    app::keep_private(&config);
    match work(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error_line(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli, server: &Server) -> ExitCode {
    if server.data_dir.is_some() && !cli.config.is_empty() {
        print::error_line(format_args!("error: {DATA_DIR_ALONE}"));
        return ExitCode::from(2);
    }
    if server.port.is_some() && server.data_dir.is_none() {
        print::error(
            "error: --port belongs to --data-dir; with a configuration file, set `port` in its table [server]",
        );
        return ExitCode::from(2);
    }
    let sources = match sources(&cli.config, server) {
        Ok(sources) => sources,
        Err(error) => {
            print::error_line(format_args!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match app::serve(sources) {
        Ok(()) => ExitCode::SUCCESS,
        // it has places and carets of its own
        Err(AppError::Snapshot(error)) => {
            print::error(error.to_string().trim_end());
            if server.data_dir.is_none() && cli.config.is_empty() && !PathBuf::from(DEFAULT_CONFIG).exists() {
                print::error("\nTo start without any file: simple-registry server --data-dir ./data");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            print::error_line(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns the sources of the server's configuration. The error is about the file of the administrator's password.
fn sources(files: &[PathBuf], server: &Server) -> Result<Sources, String> {
    let Some(dir) = &server.data_dir else { return Ok(Sources::Files(named(files))) };
    let login = match &server.admin_password_file {
        None => Login::None,
        Some(file) => Login::Admin { hash: hash_password::hash_of_file(file)?.into(), private: server.private },
    };
    let mut config = Config::for_data_dir(dir, login);
    config.server.port = server.port.unwrap_or(config.server.port);
    Ok(Sources::Fixed(Box::new(config)))
}

/// Loads the configuration that the options name.
fn load(files: &[PathBuf]) -> Result<Config, Problems> {
    Config::load(&named(files))
}

fn named(files: &[PathBuf]) -> Vec<PathBuf> {
    if files.is_empty() { vec![DEFAULT_CONFIG.into()] } else { files.to_vec() }
}
