//! Policy files: one policy each, with names for its rules and its own tests.
//!
//! `docs/reference/policy.md` says what a file may have. All problems with the shape of a file are told at once.

mod document;
mod images;
mod limits;
mod names;
mod read;
mod test;

pub(super) use document::{Document, parse};
pub(super) use images::RetentionCase;
pub(super) use test::{AccessCase, Case, Expectation, Test};

pub use limits::{MAX_FILE, MAX_IMAGES, MAX_RULES};
pub use read::{read_dir, read_file};
pub use test::faults;
