//! Builds the keys that exist for scrub, and parses the keys that scrub reads, as a part of [`super`].

use super::{CATALOG, LAST, Ordinal, data, shard, tag, tags};
use crate::{
    action::UploadId,
    oci::{Digest, Name, Tag},
};

/// The beginning of the last part of a corruption note's key. No mark begins so, since marks are hexadecimal.
pub(super) const ROTTEN: &str = "!rotten.";

/// The prefix of all segments, with the marks and corruption notes beside them.
pub const DATA: &str = "data/";

/// The prefix of all records about digests.
pub const BLOBS: &str = "blobs/";

/// The prefix of all repositories.
pub const REPOSITORIES: &str = "repos/";

/// The key of the object that holds the time since which pulls are recorded.
pub const PULLS_SINCE: &str = "pulls-recorded-since";

/// The prefix of quarantine notes.
pub const QUARANTINE: &str = "quarantine/";

/// The prefix of the objects that scrub keeps from run to run.
pub const SCRUB: &str = "scrub/";

/// The prefix of the reports that data of a digest was found missing or corrupt.
pub const CORRUPT: &str = "corrupt/";

/// Returns the key of a report that data of a digest was found missing or corrupt at `at_ms`, in milliseconds since
/// 1970. The newest report sorts first.
#[must_use]
pub fn corrupt(at_ms: u64, digest: &Digest, attempt: &str) -> String {
    format!("{CORRUPT}{}.{}.{}.{attempt}", Ordinal(at_ms).newest_first(), digest.algorithm().as_str(), digest.hex())
}

/// Returns the digest in a key of [`corrupt`].
#[must_use]
pub fn corrupt_digest(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(CORRUPT)?.split('.').skip(1);
    Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()
}

/// The prefix of the objects by which processes learn the store's time.
pub const CLOCKS: &str = "scrub/clock/";

/// Returns the key of the object by which one attempt learns the store's time.
#[must_use]
pub fn clock(attempt: &str) -> String {
    format!("{CLOCKS}{attempt}")
}

/// The prefix of the objects with which servers try a bucket.
pub const PROBES: &str = "scrub/probe/";

/// Returns the prefix of the objects of one trial of a bucket.
#[must_use]
pub fn probe(attempt: &str) -> String {
    format!("{PROBES}{attempt}/")
}

/// The prefix of the positions that checks of content reached. The newest position counts.
pub const CONTENT_CURSOR: &str = "scrub/content/";

/// Returns the key of the mark by which a run of scrub announces that it means to free the segments of an upload.
#[must_use]
pub fn mark(id: &UploadId, scrub: &str) -> String {
    format!("{}!{scrub}", data(id))
}

/// Returns whether a key under [`data`] is a mark.
#[must_use]
pub fn is_mark(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&data(id)).is_some_and(|rest| rest.starts_with('!') && !rest.starts_with(ROTTEN))
}

/// Returns the key of a corruption note: the segments of the upload no longer match their digest.
#[must_use]
pub fn rotten(id: &UploadId, attempt: &str) -> String {
    format!("{}{ROTTEN}{attempt}", data(id))
}

/// Returns whether a key under [`data`] is a corruption note.
#[must_use]
pub fn is_rotten(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&data(id)).is_some_and(|rest| rest.starts_with(ROTTEN))
}

/// Returns the upload of a key under [`DATA`].
#[must_use]
pub fn data_id(key: &str) -> Option<UploadId> {
    let (hh, rest) = key.strip_prefix(DATA)?.split_once('/')?;
    let id: UploadId = rest.split_once('/')?.0.parse().ok()?;
    (shard(&id) == hh).then_some(id)
}

/// Returns the digest of a key under [`BLOBS`].
#[must_use]
pub fn blob_digest(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(BLOBS)?.splitn(4, '/');
    let (algorithm, hh, hex, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digest = Digest::from_parts(algorithm.parse().ok()?, hex).ok()?;
    hex.starts_with(hh).then_some(digest)
}

/// Returns the repository of a key under [`REPOSITORIES`], and the rest of the key behind `<name>!/`.
#[must_use]
pub fn repository_name(key: &str) -> Option<(Name, &str)> {
    let (name, rest) = key.strip_prefix(REPOSITORIES)?.split_once("!/")?;
    Some((name.parse().ok()?, rest))
}

/// Returns the end of the keys of a repository, as the key after which a listing goes on.
#[must_use]
pub fn after_repository(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!~")
}

/// Returns the prefix of a repository's manifests.
#[must_use]
pub fn manifests(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/manifests/")
}

/// Returns the manifest of a key under [`manifests`].
#[must_use]
pub fn manifest_digest(name: &Name, key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(&manifests(name))?.splitn(3, '/');
    Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()
}

/// Returns the prefix of all referrers of a repository.
#[must_use]
pub fn all_referrers(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/referrers/")
}

/// Returns the subject of a key under [`all_referrers`].
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

/// Returns the key of the claim on the place after version `after`, or on the first place for `None`. `claims` is a
/// prefix from [`tag_claims`] or [`manifest_claims`]. Only one attempt can create the claim.
#[must_use]
pub fn claim(claims: &str, after: Option<Ordinal>) -> String {
    format!("{claims}{:016x}", after.map_or(0, |ordinal| ordinal.0))
}

/// Returns the key after which a listing has the claim on the place after version `after`, and all later claims.
/// Returns `None` if a listing must begin at the first claim.
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

/// Returns the tag in the key of a claim on a tag's version.
#[must_use]
pub fn claimed_tag(name: &Name, key: &str) -> Option<Tag> {
    let (tag, _) = key.strip_prefix(&all_tag_claims(name))?.split_once("!/")?;
    claim_after(key).and_then(|_| tag.parse().ok())
}

/// Returns the manifest in the key of a claim on a manifest's version.
#[must_use]
pub fn claimed_manifest(name: &Name, key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(&all_manifest_claims(name))?.splitn(3, '/');
    let digest = Digest::from_parts(parts.next()?.parse().ok()?, parts.next()?).ok()?;
    claim_after(key).map(|_| digest)
}

/// Returns the prefix of the earlier meanings of a tag.
#[must_use]
pub fn history(name: &Name, tag: &Tag) -> String {
    format!("{}{tag}!/", all_history(name))
}

/// Returns the prefix of the earlier meanings of all tags of a repository.
#[must_use]
pub fn all_history(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/history/")
}

/// Returns the tag of a key under [`all_history`].
#[must_use]
pub fn history_tag(name: &Name, key: &str) -> Option<Tag> {
    key.strip_prefix(&all_history(name))?.split_once("!/")?.0.parse().ok()
}

/// Returns the prefix of the records of pulls from a repository.
#[must_use]
pub fn pulls(name: &Name) -> String {
    format!("{REPOSITORIES}{name}!/pulls/")
}

/// Returns the key of the pulls that one server saw until `at_ms`, in milliseconds since 1970. The newest record sorts
/// first.
#[must_use]
pub fn pulls_until(name: &Name, at_ms: u64, attempt: &str) -> String {
    format!("{}{}.{attempt}", pulls(name), Ordinal(at_ms).newest_first())
}

/// Returns the key of the mark by which a run of scrub announces that it found a repository empty.
#[must_use]
pub fn catalog_mark(name: &Name, scrub: &str) -> String {
    format!("{CATALOG}{name}!/!{scrub}")
}

/// Returns the repository of a mark in the catalog; `None` for other keys.
#[must_use]
pub fn catalog_mark_name(key: &str) -> Option<Name> {
    key.strip_prefix(CATALOG)?.split_once("!/!")?.0.parse().ok()
}

/// Returns the prefix of the quarantine notes about the object under `key`.
#[must_use]
pub fn notes(key: &str) -> String {
    format!("{QUARANTINE}{key}!/")
}

/// Returns the key of the object that a quarantine note is about.
#[must_use]
pub fn noted(key: &str) -> Option<&str> {
    Some(key.strip_prefix(QUARANTINE)?.rsplit_once("!/")?.0)
}

/// Returns the prefix of the tags that are named after `subject`, such as `sha256-<hex>`. Few other tags have this
/// prefix.
#[must_use]
pub fn tags_named_after(name: &Name, subject: &Digest) -> String {
    format!("{}{}-{}", tags(name), subject.algorithm().as_str(), subject.hex())
}

/// Returns whether a key belongs to a version of a tag of `name`.
#[must_use]
pub fn is_tag(name: &Name, key: &str) -> bool {
    key.starts_with(&tags(name))
}

/// Returns the key after which a listing has only the versions of a tag that are older than `ordinal`.
#[must_use]
pub fn after_tag_version(name: &Name, of: &Tag, ordinal: Ordinal) -> String {
    format!("{}{}{LAST}", tag(name, of), ordinal.newest_first())
}

/// Returns the key of the position that a check of content reached at `at_ms`, in milliseconds since 1970. The newest
/// sorts first.
#[must_use]
pub fn content_cursor(at_ms: u64, attempt: &str) -> String {
    format!("{CONTENT_CURSOR}{}.{attempt}", Ordinal(at_ms).newest_first())
}

/// Returns the offset and the attempt in a key of [`segment`](super::segment).
#[must_use]
pub fn segment_parts<'a>(id: &UploadId, key: &'a str) -> Option<(u64, &'a str)> {
    let (offset, attempt) = key.strip_prefix(&data(id))?.split_once('-')?;
    Some((offset.parse().ok()?, attempt))
}
