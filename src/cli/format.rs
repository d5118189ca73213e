//! Names the forms in which commands write their output.

use clap::ValueEnum;

/// The form of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    Text,
    /// JSON for programs, one object a line
    Json,
}
