//! How commands write what they found.

use clap::ValueEnum;

/// For whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs: JSON, one object a line
    Json,
}
