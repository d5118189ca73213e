//! The crate below `http`: tests that call its functions, and run its commands on stores that they made.
//!
//! Tests that start a server are in `it`. A test that changes its process (standard output, the process's subscriber, a limit to the
//! length of files) starts this binary again for itself alone.

mod audit;
mod config;
mod credentials;
mod disk;
mod faults;
mod mirror;
mod policy;
mod registry;
mod scrub;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "shared with the tests in `it`, which ask it for more")]
mod shared;
mod support;
mod telemetry;
mod tls;
mod upstream;
