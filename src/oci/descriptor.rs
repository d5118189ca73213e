//! Defines descriptors: OCI image spec, `descriptor.md`.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Places outside the registry where the content can be had (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub urls: Vec<String>,
}

/// Reads annotations. Leaves out those whose value is `null`.
pub(super) fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let annotations = Option::<BTreeMap<String, Option<String>>>::deserialize(from)?;
    Ok(annotations.map(|all| all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
}

/// Reads a list. `null` is an empty one.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Reads a media type. The empty text is none.
pub(super) fn media_type_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MediaType>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(from)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}
