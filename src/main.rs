//! The `simple-registry` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    simple_registry::cli::run()
}
