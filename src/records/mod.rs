//! The records of a store: their keys, their contents, and the questions that the registry and scrub both ask of them.
//!
//! | file | content |
//! | --- | --- |
//! | `key` | the keys of all records and segments |
//! | `blob` | blob copies and segments |
//! | `groups` | groups of neighbours in a listing |
//! | `manifest` | versions of manifests, and the state of a manifest |
//! | `tag` | versions of tags, their history, and claims |
//! | `pulls` | times of pulls |

mod blob;
mod download;
mod groups;
pub mod key;
mod manifest;
mod pulls;
mod tag;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::key::Suffix;
pub use self::{
    blob::{CopyRecord, SeenSegments, Segment},
    download::DownloadTurn,
    groups::Groups,
    manifest::{ManifestHeader, ManifestRecords, ManifestState, ReadManifest, newest_version},
    pulls::{Pull, PullsSince},
    tag::{Claim, TagEntry},
};

/// The identity and the request that caused a write. Records name them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The identity's name.
    pub identity: String,
    /// The request's id.
    pub request: String,
}

impl Actor {
    const SCRUB: &str = "scrub";

    /// Returns the author of what a run of scrub writes.
    #[must_use]
    pub fn scrub(run: Suffix) -> Self {
        Self { identity: Self::SCRUB.to_owned(), request: run.to_string() }
    }

    /// Returns whether the author is a run of scrub.
    #[must_use]
    pub fn is_scrub(&self) -> bool {
        self.identity == Self::SCRUB
    }
}

/// The author and the time of a record. Many records hold nothing else.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// The time of the write, in milliseconds since 1970 by the store's clock.
    pub at: u64,
    /// The author of the record.
    pub by: Actor,
}

/// Splits an object into its first line, without the line's end, and the bytes after it.
#[must_use]
pub fn split_line(content: &Bytes) -> (Bytes, Bytes) {
    match content.iter().position(|byte| *byte == b'\n') {
        Some(end) => (content.slice(..end), content.slice(end + 1..)),
        None => (content.clone(), Bytes::new()),
    }
}

/// Returns the JSON text of a record. This cannot fail: all keys are strings, and all numbers are finite.
#[must_use]
pub fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("records are plain values: {error}"))
}
