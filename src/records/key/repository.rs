//! Keys of a repository's records.

use std::fmt::{self, Display, Formatter};

use super::{
    Key, Prefix, Suffix,
    ordinal::{Dotted, Ordinal, TagVersion, Upwards, Version, parse_dotted},
};
use crate::oci::{Digest, Name, Tag};

/// The rest of a key of a repository, behind `repos/<name>!/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryKey {
    /// A record of a manifest.
    Manifest(Digest, ManifestKey),
    /// A version of a tag.
    Tag(Tag, TagVersion),
    /// A version of a referrer, at the ordinal of its manifest's version.
    Referrer(Referrer, Version, Suffix),
    /// A claim on the place after this version of a tag; 0 for the first place. Only one attempt can create it.
    TagClaim(Tag, Ordinal),
    /// A claim on the place after this version of a manifest; 0 for the first place.
    ManifestClaim(Digest, Ordinal),
    /// The turn of one server to download a blob from an upstream. Only one attempt can create it; the newest counts.
    Download(Digest, Ordinal),
    /// The time at which this registry first learned from an upstream that a manifest is there. Only one attempt can create
    /// it.
    FirstSeen(Digest),
    /// The record that an upstream's tag leads to a manifest that was first seen a short while ago.
    Lead(Digest, Tag),
    /// Earlier meanings of a tag.
    History(Tag, Suffix),
    /// The pulls that one server saw until this time, in milliseconds since 1970. The newest record sorts first.
    Pulls(u64, Suffix),
}

/// The last part of a key of a manifest, in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKey {
    /// A version of the manifest.
    Version(Version, Suffix),
    /// An index reference: this index needs the manifest.
    IndexReference(Digest, Suffix),
    /// A pending delete: a delete of the manifest has begun and ends in this version. It is written before the delete
    /// looks for the tags that it must delete.
    PendingDelete(Ordinal, Suffix),
}

/// A manifest that refers to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest that it refers to.
    pub subject: Digest,
    /// The manifest that refers.
    pub manifest: Digest,
}

impl RepositoryKey {
    pub(super) fn parse(rest: &str) -> Option<Self> {
        let (part, rest) = rest.split_once('/')?;
        match part {
            "manifests" => {
                let (digest, last) = split_digest(rest)?;
                Some(Self::Manifest(digest, ManifestKey::parse(last)?))
            }
            "tags" => {
                let (tag, last) = rest.split_once("!/")?;
                Some(Self::Tag(tag.parse().ok()?, TagVersion::parse(last)?))
            }
            "referrers" => {
                let (subject, rest) = split_digest(rest)?;
                let (manifest, last) = rest.split_once("!/")?;
                let (version, attempt) = Version::split(last, ["is", "not"])?;
                Some(Self::Referrer(Referrer { subject, manifest: parse_dotted(manifest)? }, version, attempt))
            }
            "tag-claims" => {
                let (tag, after) = rest.split_once("!/")?;
                Some(Self::TagClaim(tag.parse().ok()?, Upwards::parse(after)?))
            }
            "manifest-claims" => {
                let (digest, after) = split_digest(rest)?;
                Some(Self::ManifestClaim(digest, Upwards::parse(after)?))
            }
            "downloads" => {
                let (digest, number) = split_digest(rest)?;
                Some(Self::Download(digest, Ordinal::parse(number)?))
            }
            "first-seen" => {
                let (digest, last) = split_digest(rest)?;
                match last.strip_prefix("tag.") {
                    Some(tag) => Some(Self::Lead(digest, tag.parse().ok()?)),
                    None => (last == "at").then_some(Self::FirstSeen(digest)),
                }
            }
            "history" => {
                let (tag, attempt) = rest.split_once("!/")?;
                Some(Self::History(tag.parse().ok()?, attempt.parse().ok()?))
            }
            "pulls" => {
                let (until, attempt) = rest.split_once('.')?;
                Some(Self::Pulls(Ordinal::parse(until)?.0, attempt.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Parses a key of the repository `name`. It compares the name and does not parse it.
    #[must_use]
    pub fn under(name: &Name, key: &str) -> Option<Self> {
        let rest = key.strip_prefix("repos/")?.strip_prefix(name.as_str())?.strip_prefix("!/")?;
        Self::parse(rest)
    }

    /// Returns the text of the key for a repository.
    #[must_use]
    pub fn of(self, name: &Name) -> String {
        Key::Repository(name.clone(), self).to_string()
    }

    /// Writes the text of the key for a repository.
    pub(super) fn fmt_of(&self, name: &Name, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(digest, key) => write!(f, "{}{key}", Prefix::Manifest(name, digest)),
            Self::Tag(tag, version) => write!(f, "{}{version}", Prefix::Tag(name, tag)),
            Self::Referrer(Referrer { subject, manifest }, Version { ordinal, there }, attempt) => {
                let word = if *there { "is" } else { "not" };
                write!(f, "{}{ordinal}.{word}.{attempt}", Prefix::Referrer(name, subject, manifest))
            }
            Self::TagClaim(tag, after) => write!(f, "{}{}", Prefix::TagClaims(name, tag), Upwards(*after)),
            Self::ManifestClaim(digest, after) => {
                write!(f, "{}{}", Prefix::ManifestClaims(name, digest), Upwards(*after))
            }
            Self::Download(digest, number) => write!(f, "{}{number}", Prefix::Downloads(name, digest)),
            Self::FirstSeen(digest) => write!(f, "{}at", Prefix::FirstSeen(name, digest)),
            Self::Lead(digest, tag) => write!(f, "{}tag.{tag}", Prefix::FirstSeen(name, digest)),
            Self::History(tag, attempt) => write!(f, "{}{attempt}", Prefix::History(name, tag)),
            Self::Pulls(until, attempt) => write!(f, "{}{}.{attempt}", Prefix::Pulls(name), Ordinal(*until)),
        }
    }

    /// Returns the manifest of a key of the repository `name`, and the last part of the key.
    #[must_use]
    pub fn manifest(name: &Name, key: &str) -> Option<(Digest, ManifestKey)> {
        if let Self::Manifest(digest, key) = Self::under(name, key)? { Some((digest, key)) } else { None }
    }

    /// Returns the tag of a version of a tag of the repository `name`, and the version.
    #[must_use]
    pub fn tag_version(name: &Name, key: &str) -> Option<(Tag, TagVersion)> {
        if let Self::Tag(tag, version) = Self::under(name, key)? { Some((tag, version)) } else { None }
    }

    /// Returns the referrer of a version of a referrer of the repository `name`, and the version.
    #[must_use]
    pub fn referrer(name: &Name, key: &str) -> Option<(Referrer, Version)> {
        if let Self::Referrer(referrer, version, _) = Self::under(name, key)? {
            Some((referrer, version))
        } else {
            None
        }
    }
}

impl Referrer {
    /// Returns the text of the key of a version of the referrer in a repository.
    #[must_use]
    pub fn version(self, name: &Name, version: Version, attempt: Suffix) -> String {
        RepositoryKey::Referrer(self, version, attempt).of(name)
    }
}

impl ManifestKey {
    fn parse(last: &str) -> Option<Self> {
        if let Some(rest) = last.strip_prefix("pending-delete.") {
            let (version, attempt) = rest.split_once('.')?;
            return Some(Self::PendingDelete(Upwards::parse(version)?, attempt.parse().ok()?));
        }
        if let Some(rest) = last.strip_prefix("index-ref.") {
            let (index, attempt) = rest.rsplit_once('.')?;
            return Some(Self::IndexReference(parse_dotted(index)?, attempt.parse().ok()?));
        }
        let (version, attempt) = Version::split(last, ["put", "rm"])?;
        Some(Self::Version(version, attempt))
    }

    /// Parses the last part of a key of a manifest.
    #[must_use]
    pub fn at_end_of(key: &str) -> Option<Self> {
        Self::parse(key.rsplit_once('/')?.1)
    }

    /// Returns the text of the key for a manifest of a repository.
    #[must_use]
    pub fn of(self, name: &Name, digest: &Digest) -> String {
        RepositoryKey::Manifest(*digest, self).of(name)
    }

    /// Returns the index, if the last part of a key is an index reference.
    #[must_use]
    pub fn index(key: &str) -> Option<Digest> {
        if let Self::IndexReference(index, _) = Self::at_end_of(key)? { Some(index) } else { None }
    }

    /// Returns the version in which a delete ends, if the last part of a key is a pending delete.
    #[must_use]
    pub fn pending_delete(key: &str) -> Option<Ordinal> {
        if let Self::PendingDelete(end, _) = Self::at_end_of(key)? { Some(end) } else { None }
    }
}

impl Version {
    /// Splits the last part of a key into a version and its attempt. `words` are those of a version that is there and
    /// of a tombstone.
    fn split(last: &str, words: [&str; 2]) -> Option<(Self, Suffix)> {
        let (ordinal, rest) = last.split_once('.')?;
        let (word, attempt) = rest.split_once('.')?;
        let there = words.iter().position(|known| *known == word)? == 0;
        Some((Self { ordinal: Ordinal::parse(ordinal)?, there }, attempt.parse().ok()?))
    }

    /// Parses the last part of the key of a version of a manifest, tag or referrer. Returns `None` for other keys.
    #[must_use]
    pub fn at_end_of(key: &str) -> Option<Self> {
        let last = key.rsplit_once('/')?.1;
        let of_other = || Self::split(last, ["put", "rm"]).or_else(|| Self::split(last, ["is", "not"]));
        let of_tag = || TagVersion::parse(last).map(|tag| Self { ordinal: tag.ordinal, there: tag.target.is_some() });
        of_other().map(|(version, _)| version).or_else(of_tag)
    }
}

fn split_digest(rest: &str) -> Option<(Digest, &str)> {
    let (algorithm, rest) = rest.split_once('/')?;
    let (hex, rest) = rest.split_once('/')?;
    Some((Digest::from_parts(algorithm.parse().ok()?, hex).ok()?, rest))
}

impl Display for ManifestKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(Version { ordinal, there }, attempt) => {
                write!(f, "{ordinal}.{}.{attempt}", if *there { "put" } else { "rm" })
            }
            Self::IndexReference(index, attempt) => write!(f, "index-ref.{}.{attempt}", Dotted(index)),
            Self::PendingDelete(end, attempt) => write!(f, "pending-delete.{}.{attempt}", Upwards(*end)),
        }
    }
}
