//! Every key of the store: the only file that builds or parses one.
//!
//! ```text
//! format                                            which layout this is
//! data/<hh>/<id>/!<scrub>                           mark: that scrub means to free these bytes (sorts before them)
//! data/<hh>/<id>/!rotten.<attempt>                  note: these bytes are not what they were; nobody reads them
//! data/<hh>/<id>/<offset>-<attempt>                 bytes of an upload, one object per PATCH
//! blobs/<alg>/<hh>/<hex>/at.<id>                    fact: these bytes are this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/grant.<attempt>                fact: this repository was told that it has this digest
//! blobs/<alg>/<hh>/<hex>/in/<name>!/left.<attempt>                 fact: it was taken from here; keeps the bytes a lease
//! blobs/<alg>/<hh>/<hex>/in/<name>!/pin.<alg>.<hex>.<attempt>      fact: that manifest needs it
//! repos/<name>!/manifests/<alg>/<hex>/<newest-first>.put.<attempt> fact: a version of a manifest; or `.rm.`, gone from here on
//! repos/<name>!/manifests/<alg>/<hex>/going.<version>.<attempt>    fact: a delete that ends in that version has begun
//! repos/<name>!/manifests/<alg>/<hex>/kid.<alg>.<hex>.<attempt>    fact: that index needs it
//! repos/<name>!/tags/<tag>!/<newest-first>.is.<alg>.<hex>.<version> fact: from here on the tag means that version; or `.not`
//! repos/<name>!/referrers/<alg>/<hex>/<alg>.<hex>!/<newest-first>.is.<attempt> fact: that manifest refers to this one; or `.not.`
//! repos/<name>!/tag-claims/<tag>!/<ordinal>         claim on the place after that version of the tag; created exclusively
//! repos/<name>!/manifest-claims/<alg>/<hex>/<ordinal> claim on the place after that version of the manifest; the same
//! repos/<name>!/history/<tag>!/<attempt>            what a tag meant before: its versions that were freed
//! repos/<name>!/pulls/<newest-first>.<attempt>      when tags and manifests were last pulled: what one server saw in a while
//! catalog/<name>!/<attempt>                         fact: the repository exists
//! catalog/<name>!/!<scrub>                          mark: that scrub found the repository empty
//! pulls-recorded-since                              when pulls began to be recorded
//! corrupt/<newest-first>.<alg>.<hex>.<attempt>      report: what is stored of that digest was found missing or corrupt
//! leases/<milliseconds>.<attempt>                   fact: somebody wishes a lease of that length
//! quarantine/<key>!/<attempt>                       note: what is under that key is wrong
//! scrub/...                                         what scrub remembers from run to run
//! uploads/<id>/<newest-first>                       an upload's state, and the small chunk that it keeps
//! uploads/<id>/~<attempt>                           fact: the upload is alive
//! ```
//!
//! `!` cannot occur in a name or tag and sorts before every character that can, so keys parse back, and `<tag>!` and
//! `<name>!` sort as tags and names do. `<newest-first>` counts down, so the newest version of anything is the first key
//! under its prefix. At one ordinal the smaller key wins, and `is` < `not`: a push beats a removal.

mod attempt;
mod leases;
mod scrub;
mod sessions;

use std::fmt::Write as _;

pub use self::attempt::{attempt, attempt_before};
pub use self::sessions::{UPLOADS, is_upload_state, upload, upload_alive, upload_id, upload_sequence, upload_state};
pub use self::{leases::*, scrub::*};
use crate::{
    action::UploadId,
    oci::{Algorithm, Digest, Name, Tag},
};

/// The object that says which layout a store has.
pub const FORMAT: &str = "format";

/// The prefixes of all keys of a store, [`FORMAT`] and [`PULLS_SINCE`] aside. Other keys in the same place belong to
/// somebody else: nothing lists, sweeps or judges them.
pub const PREFIXES: [&str; 9] = [BLOBS, CATALOG, CORRUPT, DATA, LEASES, QUARANTINE, REPOSITORIES, SCRUB, UPLOADS];

/// Sorts after every key below a prefix whose next characters are those of keys.
const LAST: char = '~';

/// Where a version stands among the versions of one thing: larger is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u64);

impl Ordinal {
    /// The ordinal of a version that is made after `newest` was seen.
    ///
    /// A counter, not a clock: a clock that steps back never hides a version. Time is the floor, so that what was freed
    /// whole and comes again does not begin below it.
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

/// Prefix of an upload's bytes and of the marks on them.
#[must_use]
pub fn data(id: &UploadId) -> String {
    format!("data/{}/{id}/", shard(id))
}

/// Bytes received by one attempt, beginning at `offset` of the upload.
#[must_use]
pub fn segment(id: &UploadId, offset: u64, attempt: &str) -> String {
    format!("{}{offset:020}-{attempt}", data(id))
}

fn blob(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}/", digest.algorithm().as_str(), &hex[..2])
}

/// Prefix of the facts that say where a digest's bytes are.
#[must_use]
pub fn places(digest: &Digest) -> String {
    format!("{}at.", blob(digest))
}

/// The fact that the bytes of `id` are `digest`.
#[must_use]
pub fn place(digest: &Digest, id: &UploadId) -> String {
    format!("{}{id}", places(digest))
}

/// The id in a key of [`place`].
#[must_use]
pub fn place_id(key: &str) -> Option<UploadId> {
    key.rsplit_once("/at.")?.1.parse().ok()
}

/// Prefix of all repositories' rights to a digest.
#[must_use]
pub fn holders(digest: &Digest) -> String {
    format!("{}in/", blob(digest))
}

/// The repository in a key under [`holders`], and where its keys end, to list on from.
#[must_use]
pub fn holder(digest: &Digest, key: &str) -> Option<(Name, String)> {
    let prefix = holders(digest);
    let (name, _) = key.strip_prefix(&prefix)?.split_once("!/")?;
    Some((name.parse().ok()?, format!("{prefix}{name}!/{LAST}")))
}

/// Prefix of one repository's rights to a digest.
#[must_use]
pub fn rights(digest: &Digest, name: &Name) -> String {
    format!("{}{name}!/", holders(digest))
}

/// The fact that a repository was told that it has a digest.
#[must_use]
pub fn grant(digest: &Digest, name: &Name, attempt: &str) -> String {
    format!("{}grant.{attempt}", rights(digest, name))
}

/// The fact that a digest was taken from a repository. It gives no right, but keeps the bytes for a lease: a server that
/// made sure of them a moment before the deletion relies on them without another look.
#[must_use]
pub fn left(digest: &Digest, name: &Name, attempt: &str) -> String {
    format!("{}left.{attempt}", rights(digest, name))
}

/// The fact that a manifest of the repository needs a digest.
#[must_use]
pub fn pin(digest: &Digest, name: &Name, manifest: &Digest, attempt: &str) -> String {
    format!("{}pin.{}.{attempt}", rights(digest, name), dotted(manifest))
}

/// What a key under [`rights`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The repository was told that it has the digest.
    Grant,
    /// None any more, but the bytes stay for a lease.
    Left,
    /// A manifest needs it.
    Pin(Digest),
}

/// Reads a key under [`rights`].
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

/// Prefix of a manifest's versions and of the facts about who needs it.
#[must_use]
pub fn manifest(name: &Name, digest: &Digest) -> String {
    format!("repos/{name}!/manifests/{}/{}/", digest.algorithm().as_str(), digest.hex())
}

/// A version of a manifest: put, or gone from here on.
#[must_use]
pub fn manifest_version(name: &Name, digest: &Digest, ordinal: Ordinal, put: bool, attempt: &str) -> String {
    let word = if put { "put" } else { "rm" };
    format!("{}{}.{word}.{attempt}", manifest(name, digest), ordinal.newest_first())
}

/// The fact that a delete of the manifest has begun, which ends in version `ordinal`: written before it looks for the tags
/// that it has to say gone. Sorts after all versions.
#[must_use]
pub fn going(name: &Name, digest: &Digest, ordinal: Ordinal, attempt: &str) -> String {
    format!("{}{:016x}.{attempt}", goings(name, digest), ordinal.0)
}

/// Prefix of the facts about deletes that have begun.
#[must_use]
pub fn goings(name: &Name, digest: &Digest) -> String {
    format!("{}going.", manifest(name, digest))
}

/// The version in a key of [`going`].
#[must_use]
pub fn going_version(key: &str) -> Option<Ordinal> {
    let (_, last) = key.rsplit_once('/')?;
    let (ordinal, _) = last.strip_prefix("going.")?.split_once('.')?;
    u64::from_str_radix(ordinal, 16).ok().map(Ordinal)
}

/// The fact that index `parent` needs the manifest.
#[must_use]
pub fn kid(name: &Name, digest: &Digest, parent: &Digest, attempt: &str) -> String {
    format!("{}{}.{attempt}", kids(name, digest), dotted(parent))
}

/// Prefix of the facts about which indexes need a manifest.
#[must_use]
pub fn kids(name: &Name, digest: &Digest) -> String {
    format!("{}kid.", manifest(name, digest))
}

/// The parent in a key of [`kid`].
#[must_use]
pub fn kid_parent(key: &str) -> Option<Digest> {
    let (_, last) = key.rsplit_once('/')?;
    parse_dotted(last.strip_prefix("kid.")?.rsplit_once('.')?.0)
}

/// A version in a key of [`manifest_version`] or of a referrer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its place among the versions.
    pub ordinal: Ordinal,
    /// Whether it is there from here on, or gone.
    pub there: bool,
}

/// Reads the last part of a key of a manifest's or referrer's version.
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

/// Prefix of a repository's tags.
#[must_use]
pub fn tags(name: &Name) -> String {
    format!("repos/{name}!/tags/")
}

/// Prefix of a tag's versions.
#[must_use]
pub fn tag(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/", tags(name))
}

/// What a version of a tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagVersion {
    /// Its place among the versions.
    pub ordinal: Ordinal,
    /// The manifest and which of its versions; nothing where the tag is gone from here on.
    pub target: Option<(Digest, Ordinal)>,
}

/// The key of a tag's version.
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

/// Reads a key of [`tag_version`]: the tag, and what the version says.
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

/// Where the keys of `tag` end: to list the tags after it.
#[must_use]
pub fn after_tag(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/{LAST}", tags(name))
}

/// Prefix of the manifests that refer to `subject`.
#[must_use]
pub fn referrers(name: &Name, subject: &Digest) -> String {
    format!("repos/{name}!/referrers/{}/{}/", subject.algorithm().as_str(), subject.hex())
}

/// Prefix of the versions of one referrer.
#[must_use]
pub fn referrer(name: &Name, subject: &Digest, manifest: &Digest) -> String {
    format!("{}{}!/", referrers(name, subject), dotted(manifest))
}

/// A version of a referrer, at the ordinal of its manifest's version.
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

/// The manifest in a key under [`referrers`].
#[must_use]
pub fn referrer_manifest(key: &str) -> Option<Digest> {
    let (front, _) = key.rsplit_once("!/")?;
    parse_dotted(front.rsplit_once('/')?.1)
}

/// Where the keys of one referrer end, to list on from.
#[must_use]
pub fn after_referrer(name: &Name, subject: &Digest, manifest: &Digest) -> String {
    format!("{}{LAST}", referrer(name, subject, manifest))
}

/// Prefix of the catalog.
pub const CATALOG: &str = "catalog/";

/// Prefix of the facts that a repository exists: a directory of its own, which costs the same to read however many
/// repositories there are. (Older stores have the attempt right behind the `!`; [`catalog_name`] reads both.)
#[must_use]
pub fn catalog(name: &Name) -> String {
    format!("{CATALOG}{name}!/")
}

/// Where the catalog's facts about `name` end, to list on from.
#[must_use]
pub fn after_catalog(name: &Name) -> String {
    format!("{CATALOG}{name}!{LAST}")
}

/// Prefix of everything that was pushed to a repository, blobs aside.
#[must_use]
pub fn repository(name: &Name) -> String {
    format!("repos/{name}!/")
}

/// The repository in a key of the catalog.
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
