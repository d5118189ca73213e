//! The command line.

mod hash_password;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    app,
    config::{Config, Login},
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
                  Exit codes: 0 well, 1 failed, 2 wrong use"
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
    Server(Server),
    /// Print the hash of a password, for `[identity.<id>] password`: asks for it on a terminal, reads standard input
    /// otherwise
    HashPassword,
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
}

/// Does what the command line says; its exit code.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse(); // exits with 2 on wrong use
    match &cli.command {
        Command::Server(server) => serve(&cli, server),
        Command::HashPassword => hash_password::run(),
    }
}

fn serve(cli: &Cli, server: &Server) -> ExitCode {
    if server.data_dir.is_some() && !cli.config.is_empty() {
        eprintln!(
            "error: --data-dir reads no configuration file; leave out -c, or set storage.fs.root_dir in the file"
        );
        return ExitCode::from(2);
    }
    let config = match load(&cli.config, server) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", error.trim_end());
            if server.data_dir.is_none() && cli.config.is_empty() && !PathBuf::from(DEFAULT_CONFIG).exists() {
                eprintln!("\nTo start without any file: simple-registry server --data-dir ./data");
            }
            return ExitCode::FAILURE;
        }
    };
    match app::serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, or what to tell about why there is none.
fn load(files: &[PathBuf], server: &Server) -> Result<Config, String> {
    let Some(dir) = &server.data_dir else {
        let default = [DEFAULT_CONFIG.into()];
        let files = if files.is_empty() { &default } else { files };
        return Config::load(files).map_err(|error| error.to_string());
    };
    let login = match &server.admin_password_file {
        None => Login::None,
        Some(file) => {
            let hash = hash_password::hash_of_file(file).map_err(|error| format!("error: {error}"))?;
            Login::Admin { hash: hash.into(), private: server.private }
        }
    };
    Ok(Config::for_data_dir(dir, login))
}
