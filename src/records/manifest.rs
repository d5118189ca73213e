//! Versions of manifests, and the state of a manifest.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Actor, json,
    key::{ManifestKey, Ordinal, Prefix, Version},
    split_line,
};
use crate::{
    oci::{Digest, Manifest, MediaType, Name},
    storage::{self, Entry, Store},
};

/// The header of a manifest's version. It stands before the manifest's bytes in the object, on a line of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// The media type of the manifest, as pushed.
    pub media_type: MediaType,
    /// The time when this version was written, in milliseconds since 1970.
    pub at: u64,
    /// The author of the version.
    pub by: Actor,
    /// The subject of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// The manifests that an index lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Digest>,
    /// The digests that the manifest names and its repository did not have when this version was pushed. The version
    /// links its repository to every other blob that the manifest lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Digest>,
    /// Set if an upstream gave the manifest. The content that it names may come later, or never.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Set if an attempt before took so long that scrub may have freed its pins: no version before this one links
    /// anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

impl ManifestHeader {
    /// Splits the object of a version into its header and the manifest's bytes. It does not check the bytes.
    ///
    /// # Errors
    /// The fault, in a few words.
    pub fn split(content: &Bytes) -> Result<(Self, Bytes), String> {
        let (line, rest) = split_line(content);
        if line.len() == content.len() {
            return Err("it is cut short".to_owned());
        }
        Ok((serde_json::from_slice(&line).map_err(|error| error.to_string())?, rest))
    }

    /// Splits the object of a version of `digest`, and checks that its bytes match the digest.
    ///
    /// # Errors
    /// The fault, in a few words.
    pub fn checked(digest: &Digest, content: &Bytes) -> Result<(Self, Bytes), String> {
        let (header, bytes) = Self::split(content)?;
        if Digest::of(digest.algorithm(), &bytes) == *digest {
            Ok((header, bytes))
        } else {
            Err("its bytes do not match its digest".to_owned())
        }
    }

    /// Returns the object that stores this version; [`ManifestHeader::split`] reads it back.
    #[must_use]
    pub fn join(&self, bytes: &[u8]) -> Vec<u8> {
        let mut content = json(self);
        content.push(b'\n');
        content.extend_from_slice(bytes);
        content
    }
}

/// A version of a manifest whose bytes match its digest, and parse.
#[derive(Clone, Debug)]
pub struct ReadManifest {
    /// The header before the bytes.
    pub header: ManifestHeader,
    /// The bytes of the manifest.
    pub bytes: Bytes,
    /// The parsed bytes.
    pub manifest: Manifest,
}

impl ReadManifest {
    /// Reads the object of a version of `digest`.
    ///
    /// # Errors
    /// The fault, in a few words.
    pub fn of(digest: &Digest, content: &Bytes) -> Result<Self, String> {
        let (header, bytes) = ManifestHeader::checked(digest, content)?;
        let manifest = Manifest::parse(Some(&header.media_type), &bytes).map_err(|error| error.to_string())?;
        Ok(Self { header, bytes, manifest })
    }
}

/// The state of a manifest, by the first key under its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// Its newest version exists. Its bytes may be damaged.
    Stands,
    /// Its newest version is a tombstone.
    Deleted,
    /// It has no version: its push did not complete, or scrub freed all of it.
    Never,
    /// The first key is none of the layout's, so nobody knows.
    Unknown,
}

impl ManifestState {
    /// Returns the state by the first key under the manifest's prefix, if there is any.
    #[must_use]
    pub fn by(first: Option<&str>) -> Self {
        match first.map(ManifestKey::at_end_of) {
            Some(Some(ManifestKey::Version(Version { there: true, .. }, _))) => Self::Stands,
            Some(Some(ManifestKey::Version(..))) => Self::Deleted,
            Some(None) => Self::Unknown,
            _ => Self::Never,
        }
    }

    /// Reads the state of a manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(store: &Store, name: &Name, digest: &Digest) -> storage::Result<Self> {
        let listed = store.list(&Prefix::Manifest(name, digest).to_string(), None, 1).await?;
        Ok(Self::by(listed.first().map(|entry| entry.key.as_str())))
    }
}

/// Returns the newest version of a manifest.
///
/// # Errors
/// Those of the store.
pub async fn newest_version(store: &Store, name: &Name, digest: &Digest) -> storage::Result<Option<(Entry, Version)>> {
    let newest = store.list(&Prefix::Manifest(name, digest).to_string(), None, 1).await?.into_iter().next();
    Ok(newest.and_then(|entry| Version::at_end_of(&entry.key).map(|version| (entry, version))))
}

/// All records of a manifest.
#[derive(Debug)]
pub struct ManifestRecords {
    /// The manifest.
    pub digest: Digest,
    /// Its versions, newest first.
    pub versions: Vec<(Entry, Version)>,
    /// Its index references, with the indexes that need it.
    pub index_references: Vec<(Entry, Digest)>,
    /// Its pending deletes.
    pub pending_deletes: Vec<Entry>,
}

impl ManifestRecords {
    /// Sorts the objects that were listed under a manifest's prefix. Leaves out other keys.
    #[must_use]
    pub fn new(digest: Digest, entries: Vec<Entry>) -> Self {
        let mut records =
            Self { digest, versions: Vec::new(), index_references: Vec::new(), pending_deletes: Vec::new() };
        for entry in entries {
            match ManifestKey::at_end_of(&entry.key) {
                Some(ManifestKey::Version(version, _)) => records.versions.push((entry, version)),
                Some(ManifestKey::IndexReference(index, _)) => records.index_references.push((entry, index)),
                Some(ManifestKey::PendingDelete(..)) => records.pending_deletes.push(entry),
                None => {}
            }
        }
        records
    }

    /// Reads all records of a manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(store: &Store, name: &Name, digest: Digest) -> storage::Result<Self> {
        Ok(Self::new(digest, store.list_all(&Prefix::Manifest(name, &digest).to_string()).await?))
    }

    /// Returns the newest version, if the manifest exists.
    #[must_use]
    pub fn standing(&self) -> Option<(&Entry, Version)> {
        self.versions.first().filter(|(_, version)| version.there).map(|(entry, version)| (entry, *version))
    }

    /// Returns the newest tombstone.
    #[must_use]
    pub fn last_tombstone(&self) -> Option<(&Entry, Ordinal)> {
        let tombstone = self.versions.iter().find(|(_, version)| !version.there);
        tombstone.map(|(entry, version)| (entry, version.ordinal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oci::Algorithm, records::key::Suffix};

    #[test]
    fn the_first_key_of_a_manifest_tells_its_state() {
        let (name, digest) = ("a/b".parse().unwrap(), Digest::of(Algorithm::Sha256, b"m"));
        let by = |key: ManifestKey| ManifestState::by(Some(&key.of(&name, &digest)));
        let version = |there| ManifestKey::Version(Version { ordinal: Ordinal(1), there }, Suffix(0));
        assert_eq!(by(version(true)), ManifestState::Stands);
        assert_eq!(by(version(false)), ManifestState::Deleted);
        assert_eq!(by(ManifestKey::IndexReference(digest, Suffix(0))), ManifestState::Never);
        assert_eq!(by(ManifestKey::PendingDelete(Ordinal(1), Suffix(0))), ManifestState::Never);
        let strange = Prefix::Manifest(&name, &digest).to_string() + "what";
        assert_eq!(ManifestState::by(Some(&strange)), ManifestState::Unknown);
        assert_eq!(ManifestState::by(None), ManifestState::Never);
    }
}
