//! The lives of a manifest, each from a push to the next delete, and the blobs that it gives its repository.
//!
//! A push records in the manifest's version what the repository did not have. From that push to the next delete, the
//! manifest links its repository to everything else that it lists. A pin keeps the bytes; a pin alone is no link.

use std::sync::Arc;

use super::{StoredManifest, Versions};
use crate::{
    oci::{Digest, Name},
    records::{
        ManifestHeader,
        key::{Prefix, Version, suffix_before},
    },
    registry::{Result, core::Attempt},
    storage::{
        StorageError,
        mutation::{Mutation, mutated},
    },
};

impl Versions {
    /// Returns whether a manifest exists and links its repository to a blob. `newest` is the newest version of the
    /// manifest, or `None` if it is deleted.
    pub(in crate::registry) async fn links_blob(
        &self,
        name: &Name,
        manifest: &Digest,
        newest: Result<Option<Arc<StoredManifest>>>,
        blob: &Digest,
    ) -> Result<bool> {
        match newest {
            Ok(None) => return Ok(false),
            Ok(Some(newest)) if !newest.absent.contains(blob) || mutated(Mutation::PinsGiveLinks) => return Ok(true),
            Ok(Some(_)) => {}
            // the damaged manifest exists, and a client needs its blobs to push it again
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        // another push at the same time may have found the blob
        Ok(self.last_life(name, manifest).await?.links(blob))
    }

    /// Returns the blobs that a manifest lists and does not link its repository to. `None` if the manifest does not
    /// exist, or no version of it can be read.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unlinked(&self, name: &Name, manifest: &Digest) -> Result<Option<Vec<Digest>>> {
        let life = self.last_life(name, manifest).await?;
        Ok(if life.stands { life.absent() } else { None })
    }

    /// Returns the blobs that a manifest lists and does not link its repository to, or did not before its last delete. `None`
    /// if no version of that life can be read.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn last_unlinked(&self, name: &Name, manifest: &Digest) -> Result<Option<Vec<Digest>>> {
        Ok(self.last_life(name, manifest).await?.absent())
    }

    /// Returns the last life of a manifest: its versions from the last push back to the delete before it.
    pub(in crate::registry) async fn last_life(&self, name: &Name, manifest: &Digest) -> Result<Life> {
        let listed = self.core.store.list_all(&Prefix::Manifest(name, manifest).to_string()).await?;
        let versions = || listed.iter().filter_map(|entry| Some((&entry.key, Version::at_end_of(&entry.key)?)));
        let stands = versions().next().is_some_and(|(_, version)| version.there);
        let mut life = Life { stands, ..Life::default() };
        let ended = versions().skip_while(|(_, version)| !version.there);
        let mut from = None;
        for (key, Version { ordinal, .. }) in ended.take_while(|(_, version)| version.there) {
            if from.is_some_and(|from| ordinal < from) {
                break;
            }
            life.newest.get_or_insert_with(|| key.clone());
            if let Some(stored) = self.known(key).await? {
                from = from.or_else(|| stored.anew.then_some(ordinal));
                life.records.push(stored.absent.clone());
                life.whole.get_or_insert_with(|| stored.as_ref().clone());
                continue;
            }
            let Some(content) = self.core.store.get(key).await? else { continue };
            // the header has the links and comes before the bytes. It may be whole if the bytes are damaged
            let Ok((header, bytes)) = ManifestHeader::split(&content) else { continue };
            from = from.or_else(|| header.anew.then_some(ordinal));
            life.records.push(header.absent.clone());
            if life.whole.is_none() && Digest::of(manifest.algorithm(), &bytes) == *manifest {
                life.whole = Some(StoredManifest::under(header, *manifest, bytes, ordinal));
            }
        }
        Ok(life)
    }

    /// Writes a version of a manifest beside the version under the key `newest`. The new version counts in its place,
    /// and links the repository to everything that the manifest lists except `absent`.
    ///
    /// Both versions have one ordinal. So tags mean both, and a delete of one deletes both. Returns false if the version
    /// under `newest` is gone, since there is a newer one.
    ///
    /// # Errors
    /// Those of the store, and damage if the version cannot be read.
    pub async fn record_links(
        &self,
        name: &Name,
        manifest: &Digest,
        newest: &str,
        absent: Vec<Digest>,
    ) -> Result<bool> {
        self.record_links_in_time(name, manifest, newest, absent, None).await
    }

    /// Records links as [`Versions::record_links`] does, unless the attempt is too slow. Scrub may have freed a manifest that
    /// was deleted meanwhile, and no version of it may come after that.
    pub(in crate::registry) async fn record_links_in_time(
        &self,
        name: &Name,
        manifest: &Digest,
        newest: &str,
        absent: Vec<Digest>,
        attempt: Option<&Attempt<'_>>,
    ) -> Result<bool> {
        let Some(content) = self.core.store.get(newest).await? else { return Ok(false) };
        let damaged = |what: String| StorageError::damaged("get", newest, what);
        let (header, bytes) = ManifestHeader::split(&content).map_err(damaged)?;
        let version = Version::at_end_of(newest).ok_or_else(|| damaged("its name is not one of the layout".into()))?;
        let header = ManifestHeader { absent, ..header };
        let content = header.join(&bytes);
        let version = Version { ordinal: version.ordinal, there: true };
        attempt.map_or(Ok(()), Attempt::in_time)?;
        let key = self.write(name, manifest, version, suffix_before(newest), content).await?;
        if Digest::of(manifest.algorithm(), &bytes) == *manifest {
            self.by_key.insert(key, StoredManifest::under(header, *manifest, bytes, version.ordinal).into());
        }
        Ok(true)
    }
}

/// The versions of a manifest between two deletes.
#[derive(Default)]
pub(in crate::registry) struct Life {
    /// Set if the manifest exists now.
    stands: bool,
    /// The key of the newest version that is no tombstone.
    newest: Option<String>,
    /// The newest version whose bytes match the digest.
    pub(in crate::registry) whole: Option<StoredManifest>,
    /// The unlinked digests of each version, newest version first.
    records: Vec<Vec<Digest>>,
}

impl Life {
    /// Returns the digests that no version links: a link of any version holds until the manifest is deleted. `None` if
    /// no record can be read.
    pub(in crate::registry) fn absent(&self) -> Option<Vec<Digest>> {
        let (first, others) = self.records.split_first()?;
        let never = |digest: &&Digest| others.iter().all(|absent| absent.contains(digest));
        Some(first.iter().filter(never).copied().collect())
    }

    /// Returns the key of the newest version, and the digests that the manifest does not link once it links `came`.
    /// `None` if the manifest does not exist, or links that already.
    pub(in crate::registry) fn without(&self, came: &Digest) -> Option<(&str, Vec<Digest>)> {
        let mut absent = self.absent().filter(|absent| self.stands && absent.contains(came))?;
        absent.retain(|digest| digest != came);
        Some((self.newest.as_deref()?, absent))
    }

    /// Returns whether the manifest exists and links its repository to a blob that it lists.
    pub(in crate::registry) fn links(&self, blob: &Digest) -> bool {
        self.stands && self.absent().is_some_and(|absent| !absent.contains(blob))
    }
}
