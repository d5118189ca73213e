//! The directory service, seen through an opendal operator: its promises beyond opendal's own `fs`.
//!
//! Promises that a bucket also makes are in `common`. They run over opendal's memory service as well, so that the two agree.

mod common;
mod faults;
mod listing;
mod support;
mod writing;
