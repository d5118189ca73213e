//! Support for the tests below `library` and below `it`.

pub(crate) mod collector;
