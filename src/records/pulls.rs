//! Times of pulls.

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Tag};

/// The last pull of a manifest, by one name. An object under `pulls/` has a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// The tag that the client asked for. `None` if the client asked for the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The manifest.
    pub digest: Digest,
    /// The time of the last pull, in milliseconds since 1970.
    pub at: u64,
}

/// The content of `pulls-recorded-since`: the time from which on pulls are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullsSince {
    /// Milliseconds since 1970.
    pub at: u64,
}
