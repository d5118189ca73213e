//! What is written in the store's facts, for whoever reads them: the registry itself, and scrub.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::By;
use crate::{
    action::UploadId,
    oci::{Digest, MediaType, Tag},
    storage::layout::{self, Ordinal, TagVersion},
};

/// The body of a fact that says no more than who made it, and when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970 by the clock of the server that wrote it.
    pub at: u64,
    /// Who made it.
    pub by: By,
}

/// One object of an upload's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Offset of its first byte in the whole.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The attempt that wrote it: with the offset, its key.
    pub attempt: String,
}

impl Segment {
    /// Its key, as bytes of upload `id`.
    #[must_use]
    pub fn key(&self, id: &UploadId) -> String {
        layout::segment(id, self.offset, &self.attempt)
    }
}

/// The fact that some bytes are a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlaceFact {
    /// Their length in bytes.
    pub size: u64,
    /// Where they are.
    pub segments: Vec<Segment>,
    /// Milliseconds since 1970.
    pub at: u64,
    /// Who uploaded them.
    pub by: By,
}

/// What stands before a manifest's bytes in its object, on a line of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// Its type, as it was pushed.
    pub media_type: MediaType,
    /// When this version was written: milliseconds since 1970.
    pub at: u64,
    /// By whom.
    pub by: By,
    /// The manifest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// The manifests that it lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Digest>,
    /// What it names and its repository did not have when this version was pushed. The version links its repository to
    /// every other blob that the manifest lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Digest>,
}

impl ManifestHeader {
    /// Reads a version of a manifest: its header, and the manifest's bytes, which are not looked at.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
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

/// What a tag meant from some time on; in the store's `history/` a list of them, newest first.
///
/// As JSON: `{"ordinal":1,"digest":"sha256:...","version":1,"at":1,"by":{...}}`, without digest and version where the tag was
/// gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TagEntryText", into = "TagEntryText")]
pub struct TagEntry {
    /// Its place among the tag's versions.
    pub ordinal: u64,
    /// The manifest, and the ordinal of its version; nothing where the tag was gone from here on.
    pub target: Option<(Digest, u64)>,
    /// When it was written: milliseconds since 1970.
    pub at: u64,
    /// By whom.
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
    /// The ordinal that the version is to have. Without one nothing comes here, and the versions begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
    /// Set where the claim is the commit: of an immutable tag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// The manifest that the tag is to mean; nothing where it is to be gone, or where the claim is about a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The ordinal of that manifest's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Makes the claim this attempt's own.
    pub attempt: String,
    /// When it was made: milliseconds since 1970.
    pub at: u64,
    /// By whom.
    pub by: By,
}

impl Claim {
    /// Returns the version of a tag that the claim commits, if it does.
    #[must_use]
    pub fn committed(&self) -> Option<TagVersion> {
        let target = self.digest.map(|digest| (digest, Ordinal(self.version.unwrap_or(0))));
        self.ordinal.filter(|_| self.once).map(|ordinal| TagVersion { ordinal: Ordinal(ordinal), target })
    }
}

/// That a manifest was pulled; in the store's `pulls/` a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// The tag that it was asked for by; nothing where that was its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The manifest.
    pub digest: Digest,
    /// When it was last: milliseconds since 1970.
    pub at: u64,
}

/// Since when pulls are recorded, in the store's `pulls-recorded-since`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullsSince {
    /// Milliseconds since 1970.
    pub at: u64,
}
