//! Keys of records about digests, and keys of segments.

use std::fmt::{self, Display, Formatter};

use super::{
    Key, Suffix,
    ordinal::{Dotted, parse_dotted},
};
use crate::{
    action::UploadId,
    oci::{Digest, Name},
};

/// The rest of a key of a record about a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobKey {
    /// A blob copy: the segments of this upload are the digest.
    Copy(UploadId),
    /// A record of a repository.
    Link(Name, BlobLink, Suffix),
}

/// The kind of a record of a repository about a digest, in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobLink {
    /// A blob link: the repository has the digest.
    Link,
    /// A pin: this manifest lists the digest.
    Pin(Digest),
    /// An unlink: the digest was deleted from the repository. It gives no access, and keeps the bytes for the trash
    /// time, which is at least a lease. A server may rely for a lease on a check from just before the delete.
    Unlinked,
}

impl BlobKey {
    pub(super) fn parse(rest: &str) -> Option<Self> {
        if let Some(id) = Self::parse_copy(rest) {
            return Some(Self::Copy(id));
        }
        let (name, last) = rest.strip_prefix("in/")?.split_once("!/")?;
        let (link, attempt) = BlobLink::parse(last)?;
        Some(Self::Link(name.parse().ok()?, link, attempt))
    }

    pub(super) fn parse_copy(rest: &str) -> Option<UploadId> {
        rest.strip_prefix("copy.")?.parse().ok()
    }

    /// Returns the text of the key for a digest.
    #[must_use]
    pub fn of(self, digest: &Digest) -> String {
        Key::Blob(*digest, self).to_string()
    }
}

impl BlobLink {
    fn parse(last: &str) -> Option<(Self, Suffix)> {
        let (link, attempt) = last.rsplit_once('.')?;
        let link = match link {
            "link" => Self::Link,
            "unlinked" => Self::Unlinked,
            pin => Self::Pin(parse_dotted(pin.strip_prefix("pin.")?)?),
        };
        Some((link, attempt.parse().ok()?))
    }

    /// Parses the last part of a key of a repository's record about a digest.
    #[must_use]
    pub fn at_end_of(key: &str) -> Option<Self> {
        Self::parse(key.rsplit_once('/')?.1).map(|(link, _)| link)
    }

    /// Returns the text of the key of such a record.
    #[must_use]
    pub fn of(self, digest: &Digest, name: &Name, attempt: Suffix) -> String {
        BlobKey::Link(name.clone(), self, attempt).of(digest)
    }
}

impl Display for BlobLink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("link."),
            Self::Pin(manifest) => write!(f, "pin.{}.", Dotted(manifest)),
            Self::Unlinked => f.write_str("unlinked."),
        }
    }
}

/// The last part of a key of an upload under `data/`, in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKey {
    /// A mark: this run of scrub means to free the segments.
    Mark(Suffix),
    /// A corruption note: the segments no longer match their digest.
    Corrupt(Suffix),
    /// The segment that one attempt received, beginning at this byte of the upload.
    Segment(u64, Suffix),
}

impl DataKey {
    pub(super) fn parse(rest: &str) -> Option<Self> {
        if let Some(attempt) = rest.strip_prefix("!corrupt.") {
            return attempt.parse().ok().map(Self::Corrupt);
        }
        if let Some(scrub) = rest.strip_prefix('!') {
            return scrub.parse().ok().map(Self::Mark);
        }
        let (offset, attempt) = rest.split_once('-')?;
        let is_offset = offset.len() == 20 && offset.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self::Segment(offset.parse().ok().filter(|_| is_offset)?, attempt.parse().ok()?))
    }

    /// Returns the text of the key for an upload.
    #[must_use]
    pub fn of(self, id: &UploadId) -> String {
        Key::Data(id.clone(), self).to_string()
    }

    /// Parses the last part of the key of an object of an upload.
    #[must_use]
    pub fn at_end_of(key: &str) -> Option<Self> {
        Self::parse(key.rsplit_once('/')?.1)
    }

    /// Returns whether the last part of a key is a mark.
    #[must_use]
    pub fn is_mark(key: &str) -> bool {
        matches!(Self::at_end_of(key), Some(Self::Mark(_)))
    }

    /// Returns whether the last part of a key is a corruption note.
    #[must_use]
    pub fn is_corrupt(key: &str) -> bool {
        matches!(Self::at_end_of(key), Some(Self::Corrupt(_)))
    }
}

impl Display for DataKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(scrub) => write!(f, "!{scrub}"),
            Self::Corrupt(attempt) => write!(f, "!corrupt.{attempt}"),
            Self::Segment(offset, attempt) => write!(f, "{offset:020}-{attempt}"),
        }
    }
}
