//! Parses and computes content digests: OCI image spec, `descriptor.md#digests`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// A digest algorithm that the registry computes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// Returns the name before the colon of a digest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest: 32 or 64.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::Unsupported),
        }
    }
}

/// A valid digest such as `sha256:e3b0...`, of a supported algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// Zero beyond the algorithm's length, so that equality is that of the digests.
    bytes: [u8; 64],
}

/// The reason why a text is not a digest that this registry takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon, or nothing before it.
    #[error("a digest is written <algorithm>:<hex>, for example sha256:e3b0c442...")]
    Form,
    /// Not `sha256` or `sha512`.
    #[error("the digest's algorithm is not supported; use sha256 or sha512")]
    Unsupported,
    /// A wrong number of digits, or a character that is not a lower-case hex digit.
    #[error("after the colon a {0} digest has exactly {1} lower-case hex digits")]
    Hex(&'static str, usize),
}

impl Digest {
    /// Returns the algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the lower-case hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(self.algorithm.size() * 2);
        for byte in &self.bytes[..self.algorithm.size()] {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        hex
    }

    /// Builds a digest from an algorithm and its hex digits.
    pub fn from_parts(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        let wrong = DigestError::Hex(algorithm.as_str(), algorithm.size() * 2);
        if hex.len() != algorithm.size() * 2 {
            return Err(wrong);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong),
        };
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }

    /// Computes the digest of `content`.
    #[must_use]
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Form)?;
        if algorithm.is_empty() {
            return Err(DigestError::Form);
        }
        Self::from_parts(algorithm.parse()?, hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest being computed; its state can be saved between the chunks of an upload.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// First byte of a saved state: the form that follows. Another form is not restored, the content is hashed again instead.
const SAVED_FORM: u8 = 1;

impl Hasher {
    /// Starts a hasher without input.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Returns the algorithm of the hasher.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, content: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(content),
            State::Sha512(hasher) => hasher.update(content),
        }
    }

    /// Returns the digest of the whole input.
    #[must_use]
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let mut bytes = [0; 64];
        match self.0 {
            State::Sha256(hasher) => bytes[..32].copy_from_slice(&hasher.finalize()),
            State::Sha512(hasher) => bytes.copy_from_slice(&hasher.finalize()),
        }
        Digest { algorithm, bytes }
    }

    /// Returns the state as bytes, for [`Hasher::restore`] in this or another process.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut saved = vec![SAVED_FORM];
        match &self.0 {
            State::Sha256(hasher) => saved.extend_from_slice(&hasher.serialize()),
            State::Sha512(hasher) => saved.extend_from_slice(&hasher.serialize()),
        }
        saved
    }

    /// Restores a hasher from the bytes of [`Hasher::save`]. Returns nothing for bytes of another form or algorithm.
    #[must_use]
    pub fn restore(algorithm: Algorithm, saved: &[u8]) -> Option<Self> {
        let (&form, state) = saved.split_first()?;
        if form != SAVED_FORM {
            return None;
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => {
                State::Sha256(Sha256::deserialize(&SerializedState::<Sha256>::try_from(state).ok()?).ok()?)
            }
            Algorithm::Sha512 => {
                State::Sha512(Sha512::deserialize(&SerializedState::<Sha512>::try_from(state).ok()?).ok()?)
            }
        }))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_well_formed_digests_parse() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for (bad, why) in [
            ("", DigestError::Form),
            ("sha256", DigestError::Form),
            (":abc", DigestError::Form),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Unsupported),
            ("SHA256:aa", DigestError::Unsupported),
            ("sha256:aa", DigestError::Hex("sha256", 64)),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(why), "{bad}");
        }
        assert!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>().is_err());
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(
            Digest::of(Algorithm::Sha256, b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Digest>();
        }

        #[test]
        fn a_saved_state_goes_on_where_it_was(a in prop::collection::vec(any::<u8>(), 0..300), b in prop::collection::vec(any::<u8>(), 0..300), long in any::<bool>()) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut first = Hasher::new(algorithm);
            first.update(&a);
            let mut second = Hasher::restore(algorithm, &first.save()).unwrap();
            second.update(&b);
            prop_assert_eq!(second.finish(), Digest::of(algorithm, &[a, b].concat()));
        }
    }
}
