//! The directory service, seen through an opendal operator: what it promises beyond opendal's own `fs`.
//!
//! What a bucket promises too is in `common` and runs over opendal's memory service as well, so that the two agree.

mod common;
mod faults;
mod listing;
mod support;
mod writing;
