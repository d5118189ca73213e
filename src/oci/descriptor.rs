//! Defines descriptors: OCI image spec, `descriptor.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{digest::Digest, media_type::MediaType};

/// The media type, the length and the digest of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's type.
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// The type of a referrer: `artifactType` of its manifest, or its config's media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Places outside the registry where the content can be had (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}
