//! Past meanings of tags, and claims on the versions of tags and manifests.

use serde::{Deserialize, Serialize};

use super::{
    Actor,
    key::{Ordinal, Suffix, TagVersion},
};
use crate::oci::Digest;

/// A past meaning of a tag. An object under `history/` has a list of them, newest first.
///
/// As JSON: `{"ordinal":1,"digest":"sha256:...","version":1,"at":1,"by":{...}}`. The keys `digest` and `version` are
/// left out if the tag was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TagEntryText", into = "TagEntryText")]
pub struct TagEntry {
    /// The ordinal of the tag's version.
    pub ordinal: u64,
    /// The manifest and the ordinal of its version. `None` if the tag was deleted from here on.
    pub target: Option<(Digest, u64)>,
    /// The time of the write, in milliseconds since 1970.
    pub at: u64,
    /// The author of the version.
    pub by: Actor,
}

#[derive(Serialize, Deserialize)]
struct TagEntryText {
    ordinal: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    at: u64,
    by: Actor,
}

impl From<TagEntryText> for TagEntry {
    fn from(text: TagEntryText) -> Self {
        let TagEntryText { ordinal, digest, version, at, by } = text;
        // a digest alone names no version that could be newer than a delete
        Self { ordinal, target: digest.map(|digest| (digest, version.unwrap_or(0))), at, by }
    }
}

impl From<TagEntry> for TagEntryText {
    fn from(entry: TagEntry) -> Self {
        let TagEntry { ordinal, target, at, by } = entry;
        Self { ordinal, digest: target.map(|it| it.0), version: target.map(|it| it.1), at, by }
    }
}

/// A claim on the next place among the versions of a tag or manifest; see `registry::claims`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The ordinal of the version to come. A claim without one closes the order: no version comes here, and the
    /// versions begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
    /// Set if the claim is the commit: of an immutable tag, or under a condition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// The manifest that the tag will mean. `None` for the delete of a tag, and in a claim of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The ordinal of that manifest's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The attempt that made the claim. It makes the content of the claim unique.
    pub attempt: Suffix,
    /// The time of the claim, in milliseconds since 1970.
    pub at: u64,
    /// The author of the claim.
    pub by: Actor,
}

impl Claim {
    /// Returns the version of a tag that the claim commits, if the claim is a commit.
    #[must_use]
    pub fn committed(&self) -> Option<TagVersion> {
        self.version().filter(|_| self.once)
    }

    /// Returns the version of a tag that the writer of the claim is about to write. `None` for a claim that closes an order.
    #[must_use]
    pub fn version(&self) -> Option<TagVersion> {
        let target = self.digest.map(|digest| (digest, Ordinal(self.version.unwrap_or(0))));
        self.ordinal.map(|ordinal| TagVersion { ordinal: Ordinal(ordinal), target })
    }
}
