//! Builds and parses every key of the store. No other code does.
//!
//! ```text
//! format                                            the number of the layout
//! data/<hh>/<id>/!<scrub>                           mark: that run of scrub means to free these segments (sorts first)
//! data/<hh>/<id>/!rotten.<attempt>                  corruption note: no server reads these segments
//! data/<hh>/<id>/<offset>-<attempt>                 segment: bytes of an upload, one object for each request
//! blobs/<alg>/<hh>/<hex>/at.<id>                    blob copy: these segments are this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/grant.<attempt>                blob link: this repository has this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/left.<attempt>                 unlink: it was deleted here; keeps bytes a while
//! blobs/<alg>/<hh>/<hex>/in/<name>!/pin.<alg>.<hex>.<attempt>      pin: that manifest lists this digest
//! repos/<name>!/manifests/<alg>/<hex>/<newest-first>.put.<attempt> version of a manifest; `.rm.` is a tombstone
//! repos/<name>!/manifests/<alg>/<hex>/going.<version>.<attempt>    pending delete, which ends in that version
//! repos/<name>!/manifests/<alg>/<hex>/kid.<alg>.<hex>.<attempt>    index reference: that index needs this manifest
//! repos/<name>!/tags/<tag>!/<newest-first>.is.<alg>.<hex>.<version> version of a tag; `.not` is a tombstone
//! repos/<name>!/referrers/<alg>/<hex>/<alg>.<hex>!/<newest-first>.is.<attempt> version of a referrer; or `.not.`
//! repos/<name>!/tag-claims/<tag>!/<ordinal>         claim on the place after that version; created exclusively
//! repos/<name>!/manifest-claims/<alg>/<hex>/<ordinal> the same for versions of a manifest
//! repos/<name>!/history/<tag>!/<attempt>            earlier meanings of a tag: its versions that scrub freed
//! repos/<name>!/pulls/<newest-first>.<attempt>      times of the last pulls that one server saw in a while
//! catalog/<name>!/<attempt>                         record: the repository exists
//! catalog/<name>!/!<scrub>                          mark: that run of scrub found the repository empty
//! pulls-recorded-since                              the time since which pulls are recorded
//! corrupt/<newest-first>.<alg>.<hex>.<attempt>      report: data of that digest was found missing or corrupt
//! leases/<milliseconds>.<attempt>                   wish: a process relies on a lease of that length
//! quarantine/<key>!/<attempt>                       quarantine note: the object under that key is wrong
//! scrub/...                                         objects that scrub keeps from run to run, and probes
//! uploads/<id>/<newest-first>                       state of an upload, and the small chunk that it keeps
//! uploads/<id>/~<attempt>                           sign of life of an upload
//! ```
//!
//! Names and tags cannot contain `!`, which sorts before all their characters. So each key parses back, and `<tag>!`
//! and `<name>!` sort as tags and names do. `<newest-first>` counts down, so the newest version of a thing is the first
//! key under its prefix. At one ordinal the smaller key wins, and `is` < `not`: a push beats a removal.

mod after;
mod attempt;
mod leases;
mod scrub;
mod sessions;

use std::fmt::Write as _;

pub use self::after::{after_catalog_text, after_tag_text};
pub use self::attempt::{attempt, attempt_before};
pub use self::sessions::{UPLOADS, is_upload_state, upload, upload_alive, upload_id, upload_sequence, upload_state};
pub use self::{leases::*, scrub::*};
use crate::{
    action::UploadId,
    oci::{Algorithm, Digest, Name, Tag},
};

/// The key of the object that holds the number of the store's layout.
pub const FORMAT: &str = "format";

/// The prefixes of all keys of a store except [`FORMAT`] and [`PULLS_SINCE`]. No code lists, sweeps or judges other
/// keys at the same place, since they do not belong to the registry.
pub const PREFIXES: [&str; 9] = [BLOBS, CATALOG, CORRUPT, DATA, LEASES, QUARANTINE, REPOSITORIES, SCRUB, UPLOADS];

/// A character that sorts after all keys below a prefix that go on with characters of keys.
const LAST: char = '~';

/// The number of a version among the versions of one thing. The larger number is newer.
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

    fn newest_first(self) -> String {
        format!("{:016x}", u64::MAX - self.0)
    }

    fn parse_newest_first(text: &str) -> Option<Self> {
        let inverse = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
        Some(Self(u64::MAX - inverse))
    }
}

fn shard(id: &UploadId) -> String {
    id.to_string()[..2].to_owned()
}

/// Returns the prefix of an upload's segments, marks and corruption notes.
#[must_use]
pub fn data(id: &UploadId) -> String {
    format!("data/{}/{id}/", shard(id))
}

/// Returns the key of the segment that one attempt received, beginning at byte `offset` of the upload.
#[must_use]
pub fn segment(id: &UploadId, offset: u64, attempt: &str) -> String {
    format!("{}{offset:020}-{attempt}", data(id))
}

fn blob(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}/", digest.algorithm().as_str(), &hex[..2])
}

/// Returns the prefix of the blob copies of a digest.
#[must_use]
pub fn places(digest: &Digest) -> String {
    format!("{}at.", blob(digest))
}

/// Returns the key of the blob copy: the segments of upload `id` are `digest`.
#[must_use]
pub fn place(digest: &Digest, id: &UploadId) -> String {
    format!("{}{id}", places(digest))
}

/// Returns the upload in a key of [`place`].
#[must_use]
pub fn place_id(key: &str) -> Option<UploadId> {
    key.rsplit_once("/at.")?.1.parse().ok()
}

/// Returns the prefix of all repositories' blob links, unlinks and pins of a digest.
#[must_use]
pub fn holders(digest: &Digest) -> String {
    format!("{}in/", blob(digest))
}

/// Returns the repository in a key under [`holders`], and the key after which a listing has the next repository.
#[must_use]
pub fn holder(digest: &Digest, key: &str) -> Option<(Name, String)> {
    let prefix = holders(digest);
    let (name, _) = key.strip_prefix(&prefix)?.split_once("!/")?;
    Some((name.parse().ok()?, format!("{prefix}{name}!/{LAST}")))
}

/// Returns the prefix of one repository's blob links, unlinks and pins of a digest.
#[must_use]
pub fn rights(digest: &Digest, name: &Name) -> String {
    format!("{}{name}!/", holders(digest))
}

/// Returns the key of a blob link: the repository has the digest.
#[must_use]
pub fn grant(digest: &Digest, name: &Name, attempt: &str) -> String {
    format!("{}grant.{attempt}", rights(digest, name))
}

/// Returns the key of an unlink: the digest was deleted from the repository. An unlink gives no access, and keeps the
/// bytes for the trash time, which is at least a lease. A server may rely for a lease on a check from just before the
/// delete.
#[must_use]
pub fn left(digest: &Digest, name: &Name, attempt: &str) -> String {
    format!("{}left.{attempt}", rights(digest, name))
}

/// Returns the key of a pin: that manifest of the repository lists the digest.
#[must_use]
pub fn pin(digest: &Digest, name: &Name, manifest: &Digest, attempt: &str) -> String {
    format!("{}pin.{}.{attempt}", rights(digest, name), dotted(manifest))
}

/// The meaning of a key under [`rights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// A blob link: the repository has the digest.
    Grant,
    /// An unlink: it gives no access, but keeps the bytes for the trash time.
    Left,
    /// A pin: this manifest lists the digest.
    Pin(Digest),
}

/// Reads a key under [`rights`]. Returns `None` if the key is none of those.
#[must_use]
pub fn right(key: &str) -> Option<Right> {
    let (_, last) = key.rsplit_once('/')?;
    if last.starts_with("grant.") {
        return Some(Right::Grant);
    }
    if last.starts_with("left.") {
        return Some(Right::Left);
    }
    let (manifest, _) = last.strip_prefix("pin.")?.rsplit_once('.')?;
    Some(Right::Pin(parse_dotted(manifest)?))
}

/// Returns the prefix of a manifest's versions, pending deletes and index references.
#[must_use]
pub fn manifest(name: &Name, digest: &Digest) -> String {
    format!("repos/{name}!/manifests/{}/{}/", digest.algorithm().as_str(), digest.hex())
}

/// Returns the key of a version of a manifest: a tombstone unless `put` is true.
#[must_use]
pub fn manifest_version(name: &Name, digest: &Digest, ordinal: Ordinal, put: bool, attempt: &str) -> String {
    let word = if put { "put" } else { "rm" };
    format!("{}{}.{word}.{attempt}", manifest(name, digest), ordinal.newest_first())
}

/// Returns the key of a pending delete: a delete of the manifest has begun and ends in version `ordinal`. It is written
/// before the delete looks for the tags that it must delete. The key sorts after those of all versions.
#[must_use]
pub fn going(name: &Name, digest: &Digest, ordinal: Ordinal, attempt: &str) -> String {
    format!("{}{:016x}.{attempt}", goings(name, digest), ordinal.0)
}

/// Returns the prefix of a manifest's pending deletes.
#[must_use]
pub fn goings(name: &Name, digest: &Digest) -> String {
    format!("{}going.", manifest(name, digest))
}

/// Returns the version in a key of [`going`].
#[must_use]
pub fn going_version(key: &str) -> Option<Ordinal> {
    let (_, last) = key.rsplit_once('/')?;
    let (ordinal, _) = last.strip_prefix("going.")?.split_once('.')?;
    u64::from_str_radix(ordinal, 16).ok().map(Ordinal)
}

/// Returns the key of an index reference: the index `parent` needs the manifest.
#[must_use]
pub fn kid(name: &Name, digest: &Digest, parent: &Digest, attempt: &str) -> String {
    format!("{}{}.{attempt}", kids(name, digest), dotted(parent))
}

/// Returns the prefix of a manifest's index references.
#[must_use]
pub fn kids(name: &Name, digest: &Digest) -> String {
    format!("{}kid.", manifest(name, digest))
}

/// Returns the index in a key of [`kid`].
#[must_use]
pub fn kid_parent(key: &str) -> Option<Digest> {
    let (_, last) = key.rsplit_once('/')?;
    parse_dotted(last.strip_prefix("kid.")?.rsplit_once('.')?.0)
}

/// A version in a key of [`manifest_version`] or of a referrer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number of the version.
    pub ordinal: Ordinal,
    /// True for a version that exists from here on, false for a tombstone.
    pub there: bool,
}

/// Reads the last part of a key of a manifest's or referrer's version. Returns `None` for other keys.
#[must_use]
pub fn version(key: &str) -> Option<Version> {
    let (_, last) = key.rsplit_once('/')?;
    let mut parts = last.split('.');
    let ordinal = Ordinal::parse_newest_first(parts.next()?)?;
    let there = match parts.next()? {
        "put" | "is" => true,
        "rm" | "not" => false,
        _ => return None,
    };
    Some(Version { ordinal, there })
}

/// Returns the prefix of a repository's tags.
#[must_use]
pub fn tags(name: &Name) -> String {
    format!("repos/{name}!/tags/")
}

/// Returns the prefix of a tag's versions.
#[must_use]
pub fn tag(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/", tags(name))
}

/// A version of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// The number of the version.
    pub ordinal: Ordinal,
    /// The manifest and its version that the tag means; `None` for a tombstone.
    pub target: Option<(Digest, Ordinal)>,
}

/// Returns the key of a tag's version.
#[must_use]
pub fn tag_version(name: &Name, of: &Tag, version: TagVersion) -> String {
    let mut key = tag(name, of) + &version.ordinal.newest_first();
    match version.target {
        None => key.push_str(".not"),
        Some((digest, ordinal)) => {
            let _ = write!(key, ".is.{}.{:016x}", dotted(&digest), ordinal.0);
        }
    }
    key
}

/// Reads a key of [`tag_version`]: the tag and its version. Returns `None` for other keys.
#[must_use]
pub fn parse_tag_version(name: &Name, key: &str) -> Option<(Tag, TagVersion)> {
    let (tag, last) = key.strip_prefix(&tags(name))?.split_once("!/")?;
    let (ordinal, rest) = last.split_once('.')?;
    let ordinal = Ordinal::parse_newest_first(ordinal)?;
    let target = if rest == "not" {
        None
    } else {
        let (digest, version) = rest.strip_prefix("is.")?.rsplit_once('.')?;
        Some((parse_dotted(digest)?, Ordinal(u64::from_str_radix(version, 16).ok()?)))
    };
    Some((tag.parse().ok()?, TagVersion { ordinal, target }))
}

/// Returns the key after which a listing has the tags after `tag`.
#[must_use]
pub fn after_tag(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/{LAST}", tags(name))
}

/// Returns the prefix of the referrers of `subject`.
#[must_use]
pub fn referrers(name: &Name, subject: &Digest) -> String {
    format!("repos/{name}!/referrers/{}/{}/", subject.algorithm().as_str(), subject.hex())
}

/// Returns the prefix of the versions of one referrer.
#[must_use]
pub fn referrer(name: &Name, subject: &Digest, manifest: &Digest) -> String {
    format!("{}{}!/", referrers(name, subject), dotted(manifest))
}

/// Returns the key of a version of a referrer, at the ordinal of its manifest's version: a tombstone unless `there` is
/// true.
#[must_use]
pub fn referrer_version(
    name: &Name,
    subject: &Digest,
    manifest: &Digest,
    ordinal: Ordinal,
    there: bool,
    attempt: &str,
) -> String {
    let word = if there { "is" } else { "not" };
    format!("{}{}.{word}.{attempt}", referrer(name, subject, manifest), ordinal.newest_first())
}

/// Returns the manifest in a key under [`referrers`].
#[must_use]
pub fn referrer_manifest(key: &str) -> Option<Digest> {
    let (front, _) = key.rsplit_once("!/")?;
    parse_dotted(front.rsplit_once('/')?.1)
}

/// The prefix of the catalog.
pub const CATALOG: &str = "catalog/";

/// Returns the prefix of the records that a repository exists. It is a directory of its own, so reading it costs the
/// same for any number of repositories.
///
/// In older stores the attempt follows right after the `!`; [`catalog_name`] reads both forms.
#[must_use]
pub fn catalog(name: &Name) -> String {
    format!("{CATALOG}{name}!/")
}

/// Returns the key after which a listing of the catalog has the repositories after `name`.
#[must_use]
pub fn after_catalog(name: &Name) -> String {
    format!("{CATALOG}{name}!{LAST}")
}

/// Returns the prefix of all keys of a repository except its blob links, unlinks and pins, and its catalog records.
#[must_use]
pub fn repository(name: &Name) -> String {
    format!("repos/{name}!/")
}

/// Returns the repository in a key of the catalog.
#[must_use]
pub fn catalog_name(key: &str) -> Option<Name> {
    key.strip_prefix(CATALOG)?.rsplit_once('!')?.0.parse().ok()
}

fn dotted(digest: &Digest) -> String {
    format!("{}.{}", digest.algorithm().as_str(), digest.hex())
}

fn parse_dotted(text: &str) -> Option<Digest> {
    let (algorithm, hex) = text.split_once('.')?;
    Digest::from_parts(algorithm.parse::<Algorithm>().ok()?, hex).ok()
}

#[cfg(test)]
mod tests;
