//! An OCI container registry: the library behind the `simple-registry` binary.
//!
//! `ARCHITECTURE.md` is the map: which module does what, and which may import which.

pub mod action;
pub mod app;
pub mod audit;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod diagnostics;
pub mod http;
pub mod identity;
pub mod memory;
pub mod mirror;
#[cfg(test)]
mod model_check;
pub mod oci;
pub mod policy;
pub mod priority;
pub mod records;
pub mod registry;
pub mod reload;
pub mod scrub;
pub mod snapshot;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod upstream;
