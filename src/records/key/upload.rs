//! Keys of the sessions of uploads.

use std::fmt::{self, Display, Formatter};

use super::{Key, LAST, Suffix};
use crate::action::UploadId;

/// The last part of a key of an upload's session, in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadKey {
    /// The state with this number. The newest state sorts first.
    State(u32),
    /// A sign of life.
    Alive(Suffix),
}

impl UploadKey {
    pub(super) fn parse(rest: &str) -> Option<Self> {
        if let Some(attempt) = rest.strip_prefix(LAST) {
            return attempt.parse().ok().map(Self::Alive);
        }
        let is_hex = rest.len() == 8 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let inverse = u32::from_str_radix(rest, 16).ok().filter(|_| is_hex)?;
        Some(Self::State(u32::MAX - inverse))
    }

    /// Returns the text of the key for an upload.
    #[must_use]
    pub fn of(self, id: &UploadId) -> String {
        Key::Upload(id.clone(), self).to_string()
    }

    /// Returns the number of the state, if the last part of a key is a state of an upload.
    #[must_use]
    pub fn state(key: &str) -> Option<u32> {
        match Self::parse(key.rsplit_once('/')?.1)? {
            Self::State(number) => Some(number),
            Self::Alive(_) => None,
        }
    }
}

impl Display for UploadKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(number) => write!(f, "{:08x}", u32::MAX - number),
            Self::Alive(attempt) => write!(f, "{LAST}{attempt}"),
        }
    }
}
