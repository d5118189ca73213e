//! The content of the store's records, for the registry and for scrub.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::By;
use crate::{
    action::UploadId,
    oci::{Digest, MediaType, Tag},
    storage::layout::{self, Ordinal, TagVersion},
};

/// The content of a record that holds only its author and its time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The time of the write, in milliseconds since 1970 by the store's clock.
    pub at: u64,
    /// The author of the record.
    pub by: By,
}

/// A segment: one object of an upload's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Offset of its first byte in the upload.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The attempt that wrote the segment. Its key is made of the offset and the attempt.
    pub attempt: String,
}

impl Segment {
    /// Returns the key of this segment in upload `id`.
    #[must_use]
    pub fn key(&self, id: &UploadId) -> String {
        layout::segment(id, self.offset, &self.attempt)
    }
}

/// The content of a blob copy: some segments are a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlaceFact {
    /// Their length in bytes, all together.
    pub size: u64,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The time of the write, in milliseconds since 1970.
    pub at: u64,
    /// The author of the upload.
    pub by: By,
}

/// The header of a manifest's version. It stands before the manifest's bytes in the object, on a line of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// The media type of the manifest, as pushed.
    pub media_type: MediaType,
    /// The time when this version was written, in milliseconds since 1970.
    pub at: u64,
    /// The author of the version.
    pub by: By,
    /// The subject of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// The manifests that an index lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Digest>,
    /// The digests that the manifest names and its repository did not have when this version was pushed. The version
    /// links its repository to every other blob that the manifest lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Digest>,
}

impl ManifestHeader {
    /// Splits the object of a version into its header and the manifest's bytes. It does not check the bytes.
    ///
    /// # Errors
    /// The fault, in a few words.
    pub fn split(content: &Bytes) -> Result<(Self, Bytes), String> {
        let (line, rest) = split_line(content);
        if line.len() == content.len() {
            return Err("it is cut short".to_owned());
        }
        Ok((serde_json::from_slice(&line).map_err(|error| error.to_string())?, rest))
    }

    /// Returns the object that stores this version; [`ManifestHeader::split`] reads it back.
    #[must_use]
    pub fn join(&self, bytes: &[u8]) -> Vec<u8> {
        let mut content = super::json(self);
        content.push(b'\n');
        content.extend_from_slice(bytes);
        content
    }
}

/// Splits an object into its first line, without the line's end, and the bytes after it.
#[must_use]
pub fn split_line(content: &Bytes) -> (Bytes, Bytes) {
    match content.iter().position(|byte| *byte == b'\n') {
        Some(end) => (content.slice(..end), content.slice(end + 1..)),
        None => (content.clone(), Bytes::new()),
    }
}

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
    pub by: By,
}

#[derive(Serialize, Deserialize)]
struct TagEntryText {
    ordinal: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    at: u64,
    by: By,
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
    /// Set if the claim is the commit: of an immutable tag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// The manifest that the tag will mean. `None` for the delete of a tag, and in a claim of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The ordinal of that manifest's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The attempt that made the claim. It makes the content of the claim unique.
    pub attempt: String,
    /// The time of the claim, in milliseconds since 1970.
    pub at: u64,
    /// The author of the claim.
    pub by: By,
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
