//! The `simple-registry` command.

use std::process::ExitCode;

/// Gives memory back soon after a burst of transfers, and is quicker at the sizes that they use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    simple_registry::cli::run()
}
