//! The `simple-registry` command.

fn main() {}
