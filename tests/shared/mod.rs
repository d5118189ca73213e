//! Support for the tests below `library` and below `it`.

pub(crate) mod certificates;
pub(crate) mod collector;
