//! Parses tags and references: distribution spec, "Pulling manifests".

use std::{fmt, str::FromStr, sync::Arc};

use super::digest::{Algorithm, Digest, DigestError};

/// A valid tag: 1 to 128 characters of `[a-zA-Z0-9_][a-zA-Z0-9._-]*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// The reason why a text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag is 1 to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'")]
pub struct TagError;

impl Tag {
    /// Most characters of a tag.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the digest in the name `sha256-<hex>`, with any suffix such as `.sig`. Clients that sign keep
    /// signatures under such tags.
    #[must_use]
    pub fn named_subject(&self) -> Option<Digest> {
        let (algorithm, rest) = self.0.split_once('-')?;
        let algorithm: Algorithm = algorithm.parse().ok()?;
        let end = rest.find(['.', '-', '_']).unwrap_or(rest.len());
        Digest::from_parts(algorithm, &rest[..end]).ok()
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        match text.as_bytes() {
            [first, rest @ ..]
                if word(first)
                    && rest.len() < Self::MAX_LENGTH
                    && rest.iter().all(|byte| word(byte) || matches!(byte, b'.' | b'-')) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(TagError),
        }
    }
}

super::text_traits!(Tag);

/// A tag or a digest, by which a request names a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By a name that can move.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

/// The reason why a text is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text has a colon, so it was meant as a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The text has no colon, so it was meant as a tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_follow_the_specification() {
        for good in ["latest", "v1.0.0-rc.1_x", "_", "A", "0", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "a:b", "ä", "a!", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_that_name_what_they_are_about() {
        let digest = Digest::of(Algorithm::Sha256, b"image");
        let long = Digest::of(Algorithm::Sha512, b"image");
        let subject = |text: String| text.parse::<Tag>().unwrap().named_subject();
        for suffix in ["", ".sig", ".att", ".sbom", "-other", ".a.b"] {
            assert_eq!(subject(format!("sha256-{}{suffix}", digest.hex())), Some(digest), "{suffix}");
        }
        assert_eq!(subject(format!("sha256-{}x", digest.hex())), None);
        assert_eq!(subject(format!("v1-{}", digest.hex())), None);
        for other in ["latest", "sha256-abc", "main-3f2a91c", "sha256"] {
            assert_eq!(subject(other.to_owned()), None, "{other}");
        }
        // as long as a tag can be, the digest of 512 bits is cut short
        assert!(format!("sha512-{}", long.hex()).parse::<Tag>().is_err());
    }

    #[test]
    fn a_colon_means_a_digest() {
        assert!(matches!("sha256:zz".parse::<Reference>(), Err(ReferenceError::Digest(_))));
        assert!(matches!("a b".parse::<Reference>(), Err(ReferenceError::Tag(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Reference>();
        }
    }
}
