//! The registry, seen from outside: every test starts the real binary, or shares one that is running, and speaks HTTP to it.
//!
//! Each test runs on a directory (`directory::...`) and on S3 (`s3::...`). Three variables change what is tested:
//!
//! - `SIMPLE_REGISTRY_TEST_S3`: the endpoint of an S3 server, with the keys `minioadmin`/`minioadmin`, in place of the one in this process
//!   (tests that inject faults keep their own).
//! - `SIMPLE_REGISTRY_TEST_URL`: the address (`host:port`) of a running registry, in place of the shared one that this suite starts; to see
//!   what another registry makes of the same statements (tests that restart or configure their server keep their own).
//! - `SIMPLE_REGISTRY_TEST_ACCESS`: `password` or `certificate`: the same tests over TLS, let in by that; those of `access` and `live` have
//!   their own ways in.

#![allow(clippy::unnecessary_debug_formatting, reason = "a path in a test's TOML is quoted as Debug quotes it")]

mod access;
mod caches;

mod conformance;
mod crash;
mod disk_full;
mod errors;
mod faults;
mod heal;
mod http2;
mod late_writes;
mod lease;
mod life;
mod live;
mod mirrors;
mod open_uploads;
mod production;
mod pull_through;
mod queue;
mod quirks;
mod record;
mod s3_use;
mod scrub;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "shared with the tests in `library`, which ask it for more")]
mod shared;
mod shares;
mod start;
mod stores;
mod strict;
mod support;
mod tag_rules;
mod tags;
mod time;
mod uploads;
mod wrong_reads;
