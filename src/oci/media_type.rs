//! Parses media types: RFC 6838, and the names of the image specifications.

use std::{str::FromStr, sync::Arc};

/// A media type without parameters, in the case of the sender.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

/// The reason why a text is not a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media type is written type/subtype, with at most 255 visible ASCII characters")]
pub struct MediaTypeError;

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// The artifact manifest of an early draft of OCI 1.1, which some clients still push.
    pub const OCI_ARTIFACT: &'static str = "application/vnd.oci.artifact.manifest.v1+json";
    /// A Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// Returns the media type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether content of this type is a manifest that this registry takes.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        [Self::OCI_MANIFEST, Self::OCI_INDEX, Self::OCI_ARTIFACT, Self::DOCKER_MANIFEST, Self::DOCKER_LIST]
            .contains(&self.as_str())
    }

    /// Returns whether content of this type lies outside the registry by design, so that it need not be here.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.0.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    /// Drops parameters (`; charset=...`), as the distribution spec says a registry should.
    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b',' | b'"' | b'\\'))
        };
        match essence.split_once('/') {
            Some((kind, subtype)) if essence.len() <= 255 && token(kind) && token(subtype) => Ok(Self(essence.into())),
            _ => Err(MediaTypeError),
        }
    }
}

super::text_traits!(MediaType);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped() {
        assert_eq!("application/json; charset=utf-8".parse::<MediaType>().unwrap().as_str(), "application/json");
        for bad in ["", "json", "a/", "/b", "a/b/c", "a b/c"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad}");
        }
    }
}
