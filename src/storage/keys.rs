//! The keys that the store itself writes, the roots of all other keys, and the suffixes of attempts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The key of the object that holds the number of the store's layout.
pub const FORMAT: &str = "format";

/// The roots of all keys that are no single objects. No code lists, sweeps or judges other keys at the same place, since
/// they do not belong to the registry.
pub const ROOTS: [&str; 9] =
    ["blobs/", "catalog/", "corrupt/", "data/", "leases/", "quarantine/", "repos/", "scrub/", UNSYNCED];

/// The root of the keys that a directory does not sync: the sessions of uploads.
///
/// An answer 201 promises nothing under this root. If a power cut removes states of a session, the client learns that
/// from the status of the upload, or begins again.
pub const UNSYNCED: &str = "uploads/";

/// The prefix of the objects by which processes learn the store's time.
pub const CLOCKS: &str = "scrub/clock/";

/// The prefix of the objects with which servers try a bucket.
pub const PROBES: &str = "scrub/probe/";

/// The random end of the keys of one attempt, as 16 hexadecimal digits. No two attempts share a key that scrub may
/// delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Suffix(pub u64);

/// A text that is no [`Suffix`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the end of a key is 16 hexadecimal digits in lower case")]
pub struct NoSuffix;

impl Suffix {
    /// Draws a suffix for a new attempt.
    #[must_use]
    pub fn random() -> Self {
        #[cfg(test)]
        if let Some(drawn) = crate::action::seeded::draw() {
            return Self(drawn);
        }
        Self(rand::random())
    }

    /// Draws a suffix that sorts before this one. A version with the new suffix counts in place of the version with
    /// this one.
    ///
    /// It is close before, since many may follow each other: each blob that comes to a cached manifest draws one.
    #[must_use]
    pub fn before(self) -> Self {
        let room = self.0.div_ceil(1 << 7).max(1);
        Self(self.0.saturating_sub(1 + Self::random().0 % room))
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Suffix {
    type Err = NoSuffix;

    fn from_str(text: &str) -> Result<Self, NoSuffix> {
        parse_hex(text).map(Self).ok_or(NoSuffix)
    }
}

impl Serialize for Suffix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Suffix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Parses 16 hexadecimal digits in lower case.
#[must_use]
pub fn parse_hex(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u64::from_str_radix(text, 16).ok() } else { None }
}
