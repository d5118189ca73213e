//! The beginnings of keys that are listed.

use std::fmt::{self, Display, Formatter};

use super::{BlobLink, Key, LAST, Ordinal, ordinal::Dotted};
use crate::{
    action::UploadId,
    oci::{Digest, Name, Tag},
    storage::{CLOCKS, PROBES, UNSYNCED},
};

/// The beginning of keys that are listed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix<'a> {
    /// All records about digests.
    Blobs,
    /// The blob copies of a digest.
    Copies(&'a Digest),
    /// The blob links, unlinks and pins of a digest, of all repositories.
    AllLinks(&'a Digest),
    /// The blob links, unlinks and pins of a digest, of the repositories below this name.
    LinksBelow(&'a Digest, &'a Name),
    /// The blob links, unlinks and pins of a digest, of one repository.
    Links(&'a Digest, &'a Name),
    /// The pins of a digest by one manifest of a repository.
    Pins(&'a Digest, &'a Name, &'a Digest),
    /// All segments, with the marks and corruption notes beside them.
    AllData,
    /// The segments, marks and corruption notes of an upload.
    Data(&'a UploadId),
    /// All records of repositories.
    Repositories,
    /// The records of a repository, except its blob links, unlinks and pins, and its catalog records.
    Repository(&'a Name),
    /// The records of all manifests of a repository.
    Manifests(&'a Name),
    /// The records of a manifest: versions, index references, pending deletes.
    Manifest(&'a Name, &'a Digest),
    /// The index references of a manifest.
    IndexReferences(&'a Name, &'a Digest),
    /// The index references of a manifest by one index.
    IndexReferencesBy(&'a Name, &'a Digest, &'a Digest),
    /// The pending deletes of a manifest.
    PendingDeletes(&'a Name, &'a Digest),
    /// The versions of all tags of a repository.
    Tags(&'a Name),
    /// The versions of a tag.
    Tag(&'a Name, &'a Tag),
    /// The versions of the tags that are named after a subject, such as `sha256-<hex>`, and of few other tags.
    TagsNamedAfter(&'a Name, &'a Digest),
    /// The versions of all referrers of a repository.
    AllReferrers(&'a Name),
    /// The versions of the referrers of a subject.
    Referrers(&'a Name, &'a Digest),
    /// The versions of one referrer of a subject.
    Referrer(&'a Name, &'a Digest, &'a Digest),
    /// The claims on versions of all tags of a repository.
    AllTagClaims(&'a Name),
    /// The claims on versions of a tag.
    TagClaims(&'a Name, &'a Tag),
    /// The claims on versions of all manifests of a repository.
    AllManifestClaims(&'a Name),
    /// The claims on versions of a manifest.
    ManifestClaims(&'a Name, &'a Digest),
    /// The downloads of all blobs of a repository.
    AllDownloads(&'a Name),
    /// The downloads of a blob of a repository.
    Downloads(&'a Name, &'a Digest),
    /// The times at which the manifests of a repository were first seen, and the tags that lead to them.
    AllFirstSeen(&'a Name),
    /// The time at which a manifest was first seen, and the tags that lead to it.
    FirstSeen(&'a Name, &'a Digest),
    /// The earlier meanings of all tags of a repository.
    AllHistory(&'a Name),
    /// The earlier meanings of a tag.
    History(&'a Name, &'a Tag),
    /// The records of pulls from a repository.
    Pulls(&'a Name),
    /// The whole catalog.
    Catalog,
    /// The catalog's records of the repositories whose names begin so.
    CatalogBelow(&'a str),
    /// The catalog's records of a repository. They are in a directory of their own, so reading them costs the same for
    /// any number of repositories.
    CatalogOf(&'a Name),
    /// All sessions of uploads.
    Uploads,
    /// The session of an upload: its states, and signs of life.
    Upload(&'a UploadId),
    /// The reports that data of a digest was found missing or corrupt.
    Corrupt,
    /// The wishes for a lease.
    Leases,
    /// The quarantine notes about objects whose keys begin so.
    NotesBelow(&'a str),
    /// The quarantine notes about the object under this key.
    NotesAbout(&'a str),
    /// The record of the time since which pulls are recorded.
    PullsSince,
    /// The objects by which processes learn the store's time.
    Clocks,
    /// The objects with which servers try a bucket.
    Probes,
    /// The positions that checks of content reached. The newest position counts.
    Cursors,
}

impl Prefix<'_> {
    /// Returns the key after which a listing has what follows everything under this prefix.
    #[must_use]
    pub fn end(self) -> String {
        let mut end = self.to_string();
        if end.ends_with('/') {
            end.pop();
        }
        end.push(LAST);
        end
    }

    /// Returns whether a key is under this prefix.
    #[must_use]
    pub fn has(self, key: &str) -> bool {
        key.starts_with(&self.to_string())
    }
}

/// Returns the key after which a listing has only the versions of a tag that are older than `ordinal`.
#[must_use]
pub fn after_tag_version(name: &Name, tag: &Tag, ordinal: Ordinal) -> String {
    format!("{}{ordinal}{LAST}", Prefix::Tag(name, tag))
}

impl Display for Prefix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blobs => f.write_str("blobs/"),
            Self::Copies(digest) => write!(f, "{}copy.", OfBlob(digest)),
            Self::AllLinks(digest) => write!(f, "{}in/", OfBlob(digest)),
            Self::LinksBelow(digest, name) => write!(f, "{}{name}/", Self::AllLinks(digest)),
            Self::Links(digest, name) => write!(f, "{}{name}!/", Self::AllLinks(digest)),
            Self::Pins(digest, name, manifest) => {
                write!(f, "{}{}", Self::Links(digest, name), BlobLink::Pin(**manifest))
            }
            Self::AllData => f.write_str("data/"),
            Self::Data(id) => {
                let id = id.to_string();
                write!(f, "{}{}/{id}/", Self::AllData, &id[..2])
            }
            Self::Repositories => f.write_str("repos/"),
            Self::Repository(name) => write!(f, "{}{name}!/", Self::Repositories),
            Self::Manifests(name) => write!(f, "{}manifests/", Self::Repository(name)),
            Self::Manifest(name, digest) => write!(f, "{}{}", Self::Manifests(name), Folder(digest)),
            Self::IndexReferences(name, digest) => write!(f, "{}index-ref.", Self::Manifest(name, digest)),
            Self::IndexReferencesBy(name, digest, index) => {
                write!(f, "{}{}.", Self::IndexReferences(name, digest), Dotted(index))
            }
            Self::PendingDeletes(name, digest) => write!(f, "{}pending-delete.", Self::Manifest(name, digest)),
            Self::Tags(name) => write!(f, "{}tags/", Self::Repository(name)),
            Self::Tag(name, tag) => write!(f, "{}{tag}!/", Self::Tags(name)),
            Self::TagsNamedAfter(name, subject) => {
                write!(f, "{}{}-{}", Self::Tags(name), subject.algorithm().as_str(), subject.hex())
            }
            Self::AllReferrers(name) => write!(f, "{}referrers/", Self::Repository(name)),
            Self::Referrers(name, subject) => write!(f, "{}{}", Self::AllReferrers(name), Folder(subject)),
            Self::Referrer(name, subject, manifest) => {
                write!(f, "{}{}!/", Self::Referrers(name, subject), Dotted(manifest))
            }
            Self::AllTagClaims(name) => write!(f, "{}tag-claims/", Self::Repository(name)),
            Self::TagClaims(name, tag) => write!(f, "{}{tag}!/", Self::AllTagClaims(name)),
            Self::AllManifestClaims(name) => write!(f, "{}manifest-claims/", Self::Repository(name)),
            Self::ManifestClaims(name, digest) => write!(f, "{}{}", Self::AllManifestClaims(name), Folder(digest)),
            Self::AllDownloads(name) => write!(f, "{}downloads/", Self::Repository(name)),
            Self::Downloads(name, digest) => write!(f, "{}{}", Self::AllDownloads(name), Folder(digest)),
            Self::AllFirstSeen(name) => write!(f, "{}first-seen/", Self::Repository(name)),
            Self::FirstSeen(name, digest) => write!(f, "{}{}", Self::AllFirstSeen(name), Folder(digest)),
            Self::AllHistory(name) => write!(f, "{}history/", Self::Repository(name)),
            Self::History(name, tag) => write!(f, "{}{tag}!/", Self::AllHistory(name)),
            Self::Pulls(name) => write!(f, "{}pulls/", Self::Repository(name)),
            Self::Catalog => f.write_str("catalog/"),
            Self::CatalogBelow(beginning) => write!(f, "{}{beginning}", Self::Catalog),
            Self::CatalogOf(name) => write!(f, "{}{name}!/", Self::Catalog),
            Self::Uploads => f.write_str(UNSYNCED),
            Self::Upload(id) => write!(f, "{}{id}/", Self::Uploads),
            Self::Corrupt => f.write_str("corrupt/"),
            Self::Leases => f.write_str("leases/"),
            Self::NotesBelow(prefix) => write!(f, "quarantine/{prefix}"),
            Self::NotesAbout(key) => write!(f, "{}!/", Self::NotesBelow(key)),
            Self::PullsSince => Display::fmt(&Key::PullsSince, f),
            Self::Clocks => f.write_str(CLOCKS),
            Self::Probes => f.write_str(PROBES),
            Self::Cursors => f.write_str("scrub/content/"),
        }
    }
}

/// The beginning of all keys of a digest under `blobs/`.
struct OfBlob<'a>(&'a Digest);

impl Display for OfBlob<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hex = self.0.hex();
        write!(f, "{}{}/{}/{hex}/", Prefix::Blobs, self.0.algorithm().as_str(), &hex[..2])
    }
}

/// A digest as two folders.
struct Folder<'a>(&'a Digest);

impl Display for Folder<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.0.algorithm().as_str(), self.0.hex())
    }
}
