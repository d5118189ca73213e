//! Turns of servers that download a blob from an upstream.

use serde::{Deserialize, Serialize};

use super::{Actor, key::Suffix};
use crate::action::UploadId;

/// The turn of one server to download a blob; see `registry::downloads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadTurn {
    /// The upload that takes the bytes.
    pub upload: UploadId,
    /// Set if the server has stopped, so that another may go on at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// The attempt that wrote the record. It makes the content unique.
    pub attempt: Suffix,
    /// The time of the write, in milliseconds since 1970.
    pub at: u64,
    /// The author.
    pub by: Actor,
}
