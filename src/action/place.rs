//! Parses places in a list of referrers.

use std::{fmt, str::FromStr};

use super::ActionError;
use crate::oci::Digest;

/// The place of a referrer in a list that begins with the newest: the ordinal of its version, then its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferrerPlace {
    /// The ordinal of the referrer's newest version.
    pub ordinal: u64,
    /// The digest of the referrer.
    pub digest: Digest,
}

impl ReferrerPlace {
    /// Returns true if this place comes after another.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        (other.ordinal, &self.digest) > (self.ordinal, &other.digest)
    }
}

impl FromStr for ReferrerPlace {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let rule = "it is the place in a Link of this list; follow the Link as it is";
        let wrong = || ActionError::Query { name: "last", rule };
        let (ordinal, digest) = text.split_once('-').ok_or_else(wrong)?;
        Ok(Self { ordinal: ordinal.parse().map_err(|_| wrong())?, digest: digest.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for ReferrerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ordinal, self.digest)
    }
}
