//! Builds and parses every key of the store. No other code does.
//!
//! ```text
//! format                                            the number of the layout
//! data/<hh>/<id>/!<scrub>                           mark: that run of scrub means to free these segments (sorts first)
//! data/<hh>/<id>/!corrupt.<attempt>                 corruption note: no server reads these segments
//! data/<hh>/<id>/<offset>-<attempt>                 segment: bytes of an upload, one object for each request
//! blobs/<alg>/<hh>/<hex>/copy.<id>                  blob copy: these segments are this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/link.<attempt>                 blob link: this repository has this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/pin.<alg>.<hex>.<attempt>      pin: that manifest lists this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/unlinked.<attempt>             unlink: it was deleted here; keeps bytes a while
//! repos/<name>!/manifests/<alg>/<hex>/<newest-first>.put.<attempt> version of a manifest; `.rm.` is a tombstone
//! repos/<name>!/manifests/<alg>/<hex>/index-ref.<alg>.<hex>.<attempt>     index reference: that index needs this manifest
//! repos/<name>!/manifests/<alg>/<hex>/pending-delete.<version>.<attempt>  pending delete, which ends in that version
//! repos/<name>!/tags/<tag>!/<newest-first>.is.<alg>.<hex>.<version> version of a tag; `.not` is a tombstone
//! repos/<name>!/referrers/<alg>/<hex>/<alg>.<hex>!/<newest-first>.is.<attempt> version of a referrer; or `.not.`
//! repos/<name>!/tag-claims/<tag>!/<ordinal>         claim on the place after that version; created exclusively
//! repos/<name>!/manifest-claims/<alg>/<hex>/<ordinal> the same for versions of a manifest
//! repos/<name>!/downloads/<alg>/<hex>/<newest-first> turn of one server to download a blob; created exclusively
//! repos/<name>!/first-seen/<alg>/<hex>/at           time at which that manifest was first seen; created exclusively
//! repos/<name>!/first-seen/<alg>/<hex>/tag.<tag>    that tag leads to that manifest, which was held back; created exclusively
//! repos/<name>!/history/<tag>!/<attempt>            earlier meanings of a tag: its versions that scrub freed
//! repos/<name>!/pulls/<newest-first>.<attempt>      times of the last pulls that one server saw in a while
//! catalog/<name>!/!<scrub>                          mark: that run of scrub found the repository empty (sorts first)
//! catalog/<name>!/<attempt>                         record: the repository exists
//! pulls-recorded-since                              the time since which pulls are recorded
//! corrupt/<newest-first>.<alg>.<hex>.<attempt>      report: data of that digest was found missing or corrupt
//! leases/<milliseconds>.<attempt>                   wish: a process relies on a lease of that length
//! quarantine/<key>!/<attempt>                       quarantine note: the object under that key is wrong
//! scrub/clock/<attempt>                             probe of the store's clock
//! scrub/probe/<attempt>/<name>                      trial of a bucket
//! scrub/content/<newest-first>.<attempt>            position that the check of content reached
//! uploads/<id>/<newest-first>                       state of an upload, and the small chunk that it keeps
//! uploads/<id>/~<attempt>                           sign of life of an upload
//! ```
//!
//! Names and tags cannot contain `!`, which sorts before all their characters. So each key parses back, and `<tag>!`
//! and `<name>!` sort as tags and names do. `<newest-first>` counts down, so the newest version of a thing is the first
//! key under its prefix. At one ordinal the smaller key wins, and `is` < `not`: a push beats a removal.

mod after;
mod blob;
mod ordinal;
mod prefix;
mod repository;
mod upload;

use std::fmt::{self, Display, Formatter};

use self::ordinal::{Dotted, parse_dotted};
pub use self::{
    after::{after_catalog_text, after_tag_text},
    blob::{BlobKey, BlobLink, DataKey},
    ordinal::{Ordinal, TagVersion, Version},
    prefix::{Prefix, after_tag_version},
    repository::{ManifestKey, Referrer, RepositoryKey},
    upload::UploadKey,
};
pub use crate::storage::Suffix;
use crate::{
    action::UploadId,
    oci::{Digest, Name},
    storage::{CLOCKS, FORMAT, PROBES},
};

/// Returns the part of a key before its last slash: neighbours with the same folder belong to one thing.
#[must_use]
pub fn folder(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Draws a suffix that sorts before the one at the end of a version's key. A version with the new suffix counts in its
/// place.
#[must_use]
pub fn suffix_before(key: &str) -> Suffix {
    let suffix = key.rsplit_once('.').and_then(|(_, suffix)| suffix.parse().ok());
    suffix.unwrap_or(Suffix(u64::MAX)).before()
}

/// A character that sorts after all keys below a prefix that go on with characters of keys.
const LAST: char = '~';

/// The key of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The number of the layout.
    Format,
    /// The time since which pulls are recorded.
    PullsSince,
    /// A record about a digest.
    Blob(Digest, BlobKey),
    /// A segment of an upload, or a note about its segments.
    Data(UploadId, DataKey),
    /// A record of a repository.
    Repository(Name, RepositoryKey),
    /// A record of the catalog.
    Catalog(Name, CatalogKey),
    /// A record of the session of an upload.
    Upload(UploadId, UploadKey),
    /// A report that data of the digest was found missing or corrupt at this time, in milliseconds since 1970. The
    /// newest report sorts first.
    Corrupt(u64, Digest, Suffix),
    /// A wish for a lease of this many milliseconds.
    Lease(u64, Suffix),
    /// A quarantine note about the object under this key.
    Quarantine(String, Suffix),
    /// An object by which one attempt learns the store's time.
    Clock(Suffix),
    /// An object of one trial of a bucket.
    Probe(Suffix, String),
    /// The position that a check of content reached at this time, in milliseconds since 1970. The newest sorts first.
    Cursor(u64, Suffix),
}

/// The last part of a key of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogKey {
    /// A mark: this run of scrub found the repository empty.
    Mark(Suffix),
    /// The record that the repository exists.
    Entry(Suffix),
}

/// A thing that many keys belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A digest, under `blobs/`.
    Blob(Digest),
    /// An upload, under `data/`.
    Data(UploadId),
    /// A repository, under `repos/`.
    Repository(Name),
    /// An upload, under `uploads/`.
    Upload(UploadId),
}

impl Owner {
    /// Returns the thing that a key belongs to, and the rest of the key. The rest may be no key of the layout.
    #[must_use]
    pub fn of(key: &str) -> Option<(Self, &str)> {
        let (root, rest) = key.split_once('/')?;
        match root {
            "blobs" => {
                let mut parts = rest.splitn(4, '/');
                let (algorithm, hh, hex, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
                let digest = Digest::from_parts(algorithm.parse().ok()?, hex).ok()?;
                (hh == &hex[..2]).then_some((Self::Blob(digest), rest))
            }
            "data" => {
                let (hh, rest) = rest.split_once('/')?;
                let (id, rest) = rest.split_once('/')?;
                let upload = id.parse().ok()?;
                (hh == &id[..2]).then_some((Self::Data(upload), rest))
            }
            "repos" => {
                let (name, rest) = rest.split_once("!/")?;
                Some((Self::Repository(name.parse().ok()?), rest))
            }
            "uploads" => {
                let (id, rest) = rest.split_once('/')?;
                Some((Self::Upload(id.parse().ok()?), rest))
            }
            _ => None,
        }
    }

    /// Returns the digest that a key under `blobs/` belongs to.
    #[must_use]
    pub fn digest(key: &str) -> Option<Digest> {
        if let Self::Blob(digest) = Self::of(key)?.0 { Some(digest) } else { None }
    }

    /// Returns the upload that a key under `data/` or `uploads/` belongs to.
    #[must_use]
    pub fn upload(key: &str) -> Option<UploadId> {
        if let Self::Data(id) | Self::Upload(id) = Self::of(key)?.0 { Some(id) } else { None }
    }

    /// Returns the repository that a key under `repos/` belongs to.
    #[must_use]
    pub fn repository(key: &str) -> Option<Name> {
        if let Self::Repository(name) = Self::of(key)?.0 { Some(name) } else { None }
    }
}

impl Key {
    /// Parses a key. Returns `None` for a text that is not exactly a key of the layout.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((owner, rest)) = Owner::of(text) {
            return Some(match owner {
                Owner::Blob(digest) => Self::Blob(digest, BlobKey::parse(rest)?),
                Owner::Data(id) => Self::Data(id, DataKey::parse(rest)?),
                Owner::Repository(name) => Self::Repository(name, RepositoryKey::parse(rest)?),
                Owner::Upload(id) => Self::Upload(id, UploadKey::parse(rest)?),
            });
        }
        let Some((root, rest)) = text.split_once('/') else {
            return [Self::Format, Self::PullsSince].into_iter().find(|key| key.to_string() == text);
        };
        match root {
            "catalog" => Self::catalog(text).map(|(name, key)| Self::Catalog(name, key)),
            "corrupt" => {
                let (at, rest) = rest.split_once('.')?;
                let (digest, attempt) = rest.rsplit_once('.')?;
                Some(Self::Corrupt(Ordinal::parse(at)?.0, parse_dotted(digest)?, attempt.parse().ok()?))
            }
            "leases" => {
                let (lease, attempt) = rest.split_once('.')?;
                let lease_ms: u64 = lease.parse().ok()?;
                (lease_ms.to_string() == lease).then_some(Self::Lease(lease_ms, attempt.parse().ok()?))
            }
            "quarantine" => {
                let (key, attempt) = rest.rsplit_once("!/")?;
                Some(Self::Quarantine(key.to_owned(), attempt.parse().ok()?))
            }
            _ => Self::parse_of_scrub(text),
        }
    }

    fn parse_of_scrub(text: &str) -> Option<Self> {
        if let Some(attempt) = text.strip_prefix(CLOCKS) {
            return Some(Self::Clock(attempt.parse().ok()?));
        }
        if let Some(rest) = text.strip_prefix(PROBES) {
            let (attempt, name) = rest.split_once('/')?;
            return Some(Self::Probe(attempt.parse().ok()?, name.to_owned()));
        }
        let (at, attempt) = text.strip_prefix("scrub/content/")?.split_once('.')?;
        Some(Self::Cursor(Ordinal::parse(at)?.0, attempt.parse().ok()?))
    }

    /// Returns the digest and the upload of a blob copy.
    #[must_use]
    pub fn copy(text: &str) -> Option<(Digest, UploadId)> {
        match Owner::of(text)? {
            (Owner::Blob(digest), rest) => BlobKey::parse_copy(rest).map(|id| (digest, id)),
            _ => None,
        }
    }

    /// Returns the repository of a blob link, unlink or pin, and the kind of the record.
    #[must_use]
    pub fn link(text: &str) -> Option<(Name, BlobLink)> {
        match Self::parse(text)? {
            Self::Blob(_, BlobKey::Link(name, link, _)) => Some((name, link)),
            _ => None,
        }
    }

    /// Returns the repository of a key of the catalog, and the last part of the key.
    #[must_use]
    pub fn catalog(text: &str) -> Option<(Name, CatalogKey)> {
        let (name, rest) = text.strip_prefix("catalog/")?.split_once("!/")?;
        Some((name.parse().ok()?, CatalogKey::parse(rest)?))
    }
}

impl CatalogKey {
    /// Returns the text of the key for a repository.
    #[must_use]
    pub fn of(self, name: &Name) -> String {
        Key::Catalog(name.clone(), self).to_string()
    }

    fn parse(rest: &str) -> Option<Self> {
        match rest.strip_prefix('!') {
            Some(scrub) => scrub.parse().ok().map(Self::Mark),
            None => rest.parse().ok().map(Self::Entry),
        }
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str(FORMAT),
            Self::PullsSince => f.write_str("pulls-recorded-since"),
            Self::Blob(digest, BlobKey::Copy(id)) => write!(f, "{}{id}", Prefix::Copies(digest)),
            Self::Blob(digest, BlobKey::Link(name, link, attempt)) => {
                write!(f, "{}{link}{attempt}", Prefix::Links(digest, name))
            }
            Self::Data(id, key) => write!(f, "{}{key}", Prefix::Data(id)),
            Self::Repository(name, key) => key.fmt_of(name, f),
            Self::Catalog(name, CatalogKey::Mark(scrub)) => write!(f, "{}!{scrub}", Prefix::CatalogOf(name)),
            Self::Catalog(name, CatalogKey::Entry(attempt)) => write!(f, "{}{attempt}", Prefix::CatalogOf(name)),
            Self::Upload(id, key) => write!(f, "{}{key}", Prefix::Upload(id)),
            Self::Corrupt(at, digest, attempt) => {
                write!(f, "{}{}.{}.{attempt}", Prefix::Corrupt, Ordinal(*at), Dotted(digest))
            }
            Self::Lease(lease_ms, attempt) => write!(f, "{}{lease_ms}.{attempt}", Prefix::Leases),
            Self::Quarantine(key, attempt) => write!(f, "{}{attempt}", Prefix::NotesAbout(key)),
            Self::Clock(attempt) => write!(f, "{}{attempt}", Prefix::Clocks),
            Self::Probe(attempt, name) => write!(f, "{}{attempt}/{name}", Prefix::Probes),
            Self::Cursor(at, attempt) => write!(f, "{}{}.{attempt}", Prefix::Cursors, Ordinal(*at)),
        }
    }
}

#[cfg(test)]
mod tests;
