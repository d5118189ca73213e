//! The keys that exist for scrub, and what it needs to read keys that others write: of [`super`], which is the only place
//! that builds or parses one.

use super::{CATALOG, LAST, Ordinal, data, shard, tag, tags};
use crate::{
    action::UploadId,
    oci::{Digest, Name, Tag},
};

/// What the note begins with that bytes are rotten. No mark does: those are hexadecimal.
pub(super) const ROTTEN: &str = "!rotten.";

/// Prefix of all bytes.
pub const DATA: &str = "data/";

/// Prefix of all facts about digests.
pub const BLOBS: &str = "blobs/";

/// Prefix of all repositories.
pub const REPOSITORIES: &str = "repos/";

/// The object that says since when pulls are recorded.
pub const PULLS_SINCE: &str = "pulls-recorded-since";

/// Prefix of the notes about what is wrong.
pub const QUARANTINE: &str = "quarantine/";

/// Prefix of what scrub remembers.
pub const SCRUB: &str = "scrub/";

/// The prefix of the reports that something was found missing or corrupt.
pub const CORRUPT: &str = "corrupt/";

/// Returns the key of a report that something stored of a digest was found missing or corrupt; the newest sorts first.
#[must_use]
pub fn corrupt(at_ms: u64, digest: &Digest, attempt: &str) -> String {
    format!("{CORRUPT}{}.{}.{}.{attempt}", Ordinal(at_ms).newest_first(), digest.algorithm().as_str(), digest.hex())
}

/// Returns the digest that a key of [`corrupt`] is about.
#[must_use]
pub fn corrupt_digest(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(CORRUPT)?.split('.').skip(1);
    Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()
}

/// The prefix of the objects by which processes learn the store's time.
pub const CLOCKS: &str = "scrub/clock/";

/// Where the scrub of that run finds out the store's time.
#[must_use]
pub fn clock(attempt: &str) -> String {
    format!("{CLOCKS}{attempt}")
}

/// The prefix of the objects that servers try a bucket with.
pub const PROBES: &str = "scrub/probe/";

/// Returns the prefix of the objects that a server tries a bucket with.
#[must_use]
pub fn probe(attempt: &str) -> String {
    format!("{PROBES}{attempt}/")
}

/// How far the check of content came; the newest attempt counts.
pub const CONTENT_CURSOR: &str = "scrub/content/";

/// The mark by which a scrub says that it means to free the bytes of an upload.
#[must_use]
pub fn mark(id: &UploadId, scrub: &str) -> String {
    format!("{}!{scrub}", data(id))
}

/// Whether a key under [`data`] is a mark.
#[must_use]
pub fn is_mark(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&data(id)).is_some_and(|rest| rest.starts_with('!') && !rest.starts_with(ROTTEN))
}

/// The note that the bytes of an upload are not what they were.
#[must_use]
pub fn rotten(id: &UploadId, attempt: &str) -> String {
    format!("{}{ROTTEN}{attempt}", data(id))
}

/// Whether a key under [`data`] is a note that the bytes are rotten.
#[must_use]
pub fn is_rotten(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&data(id)).is_some_and(|rest| rest.starts_with(ROTTEN))
}

/// The upload that a key under [`DATA`] belongs to.
#[must_use]
pub fn data_id(key: &str) -> Option<UploadId> {
    let (hh, rest) = key.strip_prefix(DATA)?.split_once('/')?;
    let id: UploadId = rest.split_once('/')?.0.parse().ok()?;
    (shard(&id) == hh).then_some(id)
}

/// The digest that a key under [`BLOBS`] is about.
#[must_use]
pub fn blob_digest(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(BLOBS)?.splitn(4, '/');
    let (algorithm, hh, hex, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digest = Digest::from_parts(algorithm.parse().ok()?, hex).ok()?;
    hex.starts_with(hh).then_some(digest)
}

/// The repository that a key under [`REPOSITORIES`] belongs to, and the rest of the key behind `<name>!/`.
#[must_use]
pub fn repository_name(key: &str) -> Option<(Name, &str)> {
    let (name, rest) = key.strip_prefix(REPOSITORIES)?.split_once("!/")?;
    Some((name.parse().ok()?, rest))
}

/// Where the keys of a repository end, to list on from.
#[must_use]
pub fn after_repository(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!~")
}

/// Prefix of a repository's manifests.
#[must_use]
pub fn manifests(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/manifests/")
}

/// The manifest that a key under [`manifests`] is about.
#[must_use]
pub fn manifest_digest(name: &Name, key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(&manifests(name))?.splitn(3, '/');
    Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()
}

/// Prefix of all that refers to anything in a repository.
#[must_use]
pub fn all_referrers(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/referrers/")
}

/// The subject that a key under [`all_referrers`] is about.
#[must_use]
pub fn referrer_subject(name: &Name, key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(&all_referrers(name))?.splitn(3, '/');
    Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()
}

/// Returns the prefix of the claims on versions of a tag.
#[must_use]
pub fn tag_claims(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/", all_tag_claims(name))
}

/// Returns the prefix of the claims on versions of all tags of a repository.
#[must_use]
pub fn all_tag_claims(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/tag-claims/")
}

/// Returns the prefix of the claims on versions of a manifest.
#[must_use]
pub fn manifest_claims(name: &Name, digest: &Digest) -> String {
    format!("{}{}/{}/", all_manifest_claims(name), digest.algorithm().as_str(), digest.hex())
}

/// Returns the prefix of the claims on versions of all manifests of a repository.
#[must_use]
pub fn all_manifest_claims(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/manifest-claims/")
}

/// Returns the key of the claim on the place after version `after`, or on the first place: under `claims`, one of [`tag_claims`] and
/// [`manifest_claims`]. One attempt can create it.
#[must_use]
pub fn claim(claims: &str, after: Option<Ordinal>) -> String {
    format!("{claims}{:016x}", after.map_or(0, |ordinal| ordinal.0))
}

/// Returns the key to list from to find the claim on the place after version `after`, and all later ones.
#[must_use]
pub fn before_claim(claims: &str, after: Option<Ordinal>) -> Option<String> {
    let before = after?.0.checked_sub(1)?;
    Some(claim(claims, Some(Ordinal(before))))
}

/// Returns the version in the last part of a key of [`claim`]; 0 for the first place.
#[must_use]
pub fn claim_after(key: &str) -> Option<Ordinal> {
    let (_, after) = key.rsplit_once('/')?;
    u64::from_str_radix(after, 16).ok().filter(|_| after.len() == 16).map(Ordinal)
}

/// Returns the tag whose versions the claim under this key is about.
#[must_use]
pub fn claimed_tag(name: &Name, key: &str) -> Option<Tag> {
    let (tag, _) = key.strip_prefix(&all_tag_claims(name))?.split_once("!/")?;
    claim_after(key).and_then(|_| tag.parse().ok())
}

/// Returns the manifest whose versions the claim under this key is about.
#[must_use]
pub fn claimed_manifest(name: &Name, key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(&all_manifest_claims(name))?.splitn(3, '/');
    let digest = Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()?;
    claim_after(key).map(|_| digest)
}

/// Prefix of what a tag meant before.
#[must_use]
pub fn history(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/", all_history(name))
}

/// Prefix of what the tags of a repository meant before.
#[must_use]
pub fn all_history(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/history/")
}

/// The tag in a key under [`all_history`].
#[must_use]
pub fn history_tag(name: &Name, key: &str) -> Option<Tag> {
    key.strip_prefix(&all_history(name))?.split_once("!/")?.0.parse().ok()
}

/// Prefix of what was seen of pulls from a repository.
#[must_use]
pub fn pulls(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/pulls/")
}

/// What one server saw of pulls until `at_ms`.
#[must_use]
pub fn pulls_until(name: &Name, at_ms: u64, attempt: &str) -> String {
    format!("{}{}.{attempt}", pulls(name), Ordinal(at_ms).newest_first())
}

/// The mark by which a scrub says that it found a repository empty.
#[must_use]
pub fn catalog_mark(name: &Name, scrub: &str) -> String {
    format!("{CATALOG}{name}!/!{scrub}")
}

/// Whether a key under the catalog is a mark, and of which repository.
#[must_use]
pub fn catalog_mark_name(key: &str) -> Option<Name> {
    key.strip_prefix(CATALOG)?.split_once("!/!")?.0.parse().ok()
}

/// Prefix of the notes about the object under `key`.
#[must_use]
pub fn notes(key: &str) -> String {
    format!("{QUARANTINE}{key}!/")
}

/// The object that a key under [`QUARANTINE`] is about.
#[must_use]
pub fn noted(key: &str) -> Option<&str> {
    Some(key.strip_prefix(QUARANTINE)?.rsplit_once("!/")?.0)
}

/// Prefix of the tags that name this manifest as what they are about, and of few others.
#[must_use]
pub fn tags_named_after(name: &Name, subject: &Digest) -> String {
    format!("{}{}-{}", tags(name), subject.algorithm().as_str(), subject.hex())
}

/// Whether a key is that of a version of a tag of `name`.
#[must_use]
pub fn is_tag(name: &Name, key: &str) -> bool {
    key.starts_with(&tags(name))
}

/// Where the versions of a tag end that are as new as `ordinal` or newer: to list the older ones after it.
#[must_use]
pub fn after_tag_version(name: &Name, of: &Tag, ordinal: Ordinal) -> String {
    format!("{}{}{LAST}", tag(name, of), ordinal.newest_first())
}

/// Where a check of content came at that time; the newest sorts first.
#[must_use]
pub fn content_cursor(at_ms: u64, attempt: &str) -> String {
    format!("{CONTENT_CURSOR}{}.{attempt}", Ordinal(at_ms).newest_first())
}

/// The offset and the attempt in a key of [`segment`](super::segment).
#[must_use]
pub fn segment_parts<'a>(id: &UploadId, key: &'a str) -> Option<(u64, &'a str)> {
    let (offset, attempt) = key.strip_prefix(&data(id))?.split_once('-')?;
    Some((offset.parse().ok()?, attempt))
}
