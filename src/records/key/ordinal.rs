//! The numbers of versions, and digests as parts of keys.

use std::fmt::{self, Display, Formatter};

use crate::{oci::Digest, storage::parse_hex};

/// The number of a version among the versions of one thing. The larger number is newer.
///
/// It is shown as 16 hexadecimal digits that count down, so the newest version sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u64);

impl Ordinal {
    /// Returns the ordinal of a version that follows `newest`, or of a first version.
    ///
    /// Ordinals are a counter and no clock, so a clock that steps back hides no version. The first ordinal is the time
    /// `now_ms`, in milliseconds since 1970. So a thing whose versions were all freed does not begin again below them.
    #[must_use]
    pub fn after(newest: Option<Self>, now_ms: u64) -> Self {
        newest.map_or(Self(now_ms), |newest| Self(newest.0.saturating_add(1)))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(|inverse| Self(u64::MAX - inverse))
    }

    /// Returns the version that a claim comes after, from the last part of the claim's key; 0 for the first place.
    #[must_use]
    pub fn of_claim(key: &str) -> Option<Self> {
        Upwards::parse(key.rsplit_once('/')?.1)
    }
}

impl Display for Ordinal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::MAX - self.0)
    }
}

/// An ordinal that counts up.
pub(super) struct Upwards(pub(super) Ordinal);

impl Upwards {
    pub(super) fn parse(text: &str) -> Option<Ordinal> {
        parse_hex(text).map(Ordinal)
    }
}

impl Display for Upwards {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.0)
    }
}

/// A digest with a dot for the colon.
pub(super) struct Dotted<'a>(pub(super) &'a Digest);

impl Display for Dotted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.algorithm().as_str(), self.0.hex())
    }
}

pub(super) fn parse_dotted(text: &str) -> Option<Digest> {
    let (algorithm, hex) = text.split_once('.')?;
    Digest::from_parts(algorithm.parse().ok()?, hex).ok()
}

/// A version of a tag, manifest or referrer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number of the version.
    pub ordinal: Ordinal,
    /// True for a version that exists from here on, false for a tombstone.
    pub there: bool,
}

/// A version of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// The number of the version.
    pub ordinal: Ordinal,
    /// The manifest and its version that the tag means; `None` for a tombstone.
    pub target: Option<(Digest, Ordinal)>,
}

impl TagVersion {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ordinal, rest) = text.split_once('.')?;
        let ordinal = Ordinal::parse(ordinal)?;
        if rest == "not" {
            return Some(Self { ordinal, target: None });
        }
        let (digest, version) = rest.strip_prefix("is.")?.rsplit_once('.')?;
        Some(Self { ordinal, target: Some((parse_dotted(digest)?, Upwards::parse(version)?)) })
    }
}

impl Display for TagVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some((digest, version)) => write!(f, "{}.is.{}.{}", self.ordinal, Dotted(digest), Upwards(*version)),
            None => write!(f, "{}.not", self.ordinal),
        }
    }
}
