//! Blob links by manifests: the blobs that a manifest gives its repository.
//!
//! A push records in the manifest's version what the repository did not have. From that push to the next delete, the
//! manifest links its repository to everything else that it lists. A pin keeps the bytes; a pin alone is no link.

use std::{collections::HashSet, sync::Arc};

use super::{Error, Registry, Result, attempt::Attempt, manifests::StoredManifest, references::Referenced, several};
use crate::{
    oci::{Descriptor, Digest, Manifest, Name},
    records::{
        ManifestHeader,
        key::{BlobLink, ManifestKey, Prefix, Version, suffix_before},
    },
    storage::{
        StorageError,
        mutation::{Mutation, mutated},
    },
};

/// The blobs of a manifest, as a push found them.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// Blobs that the manifest needs and the repository does not have.
    pub(super) missing: Vec<Digest>,
    /// Foreign layers that the repository does not have.
    pub(super) foreign: Vec<Digest>,
    /// The entries of an index that are blobs of the repository.
    pub(super) entries: HashSet<Digest>,
}

impl Registry {
    /// Pins the blobs that the manifest lists and the repository has, and makes sure of their bytes.
    ///
    /// A blob that the repository does not have gets no pin: naming a digest must not be a way to read it, or to keep
    /// it. If a needed blob is missing and that is an error, nothing is pinned.
    pub(super) async fn pin_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: &Digest,
        before: Option<&[Digest]>,
        attempt: &Attempt<'_>,
    ) -> Result<Linked> {
        let has = manifest.listed_blobs().map(async |blob| {
            let blob = &blob.digest;
            let has = match self.checked_size(name, blob).await? {
                Some(_) => self.repository_has_blob(name, blob).await?,
                None => self.repository_has_blob_afresh(name, blob).await?,
            };
            Ok(has || self.linked_before(name, digest, blob, before).await?)
        });
        let has = several(has.collect()).await?;
        let (here, absent): (Vec<_>, Vec<_>) = manifest.listed_blobs().zip(has).partition(|(_, has)| *has);
        let mut absent: HashSet<Digest> = absent.into_iter().map(|(blob, _)| blob.digest).collect();
        let needed = || manifest.blobs.iter().map(|blob| blob.digest);
        if self.options.allow_missing_references || before.is_some() || needed().all(|it| !absent.contains(&it)) {
            let pins = here.into_iter().map(|(blob, _)| self.pin(name, blob, digest, attempt));
            absent.extend(several(pins.collect()).await?.into_iter().flatten());
        }
        let entries = manifest.listed_blobs().map(|blob| blob.digest).collect::<HashSet<_>>();
        let entries = manifest.children.iter().map(|child| child.digest).filter(|child| entries.contains(child));
        Ok(Linked {
            missing: needed().filter(|blob| absent.contains(blob)).collect(),
            foreign: manifest.foreign.iter().map(|blob| blob.digest).filter(|blob| absent.contains(blob)).collect(),
            entries: entries.filter(|entry| !absent.contains(entry)).collect(),
        })
    }

    /// Returns whether a manifest in restore linked the repository to a blob before the manifest was deleted.
    async fn linked_before(
        &self,
        name: &Name,
        manifest: &Digest,
        blob: &Digest,
        before: Option<&[Digest]>,
    ) -> Result<bool> {
        let linked = before.is_some_and(|absent| !absent.contains(blob) || mutated(Mutation::PinsGiveLinks));
        if !linked {
            return Ok(false);
        }
        Ok(!self.store.list(&Prefix::Pins(blob, name, manifest).to_string(), None, 1).await?.is_empty())
    }

    /// Pins one blob and makes sure of its bytes. Returns its digest if the bytes are gone.
    ///
    /// # Errors
    /// [`Error::DescriptorSize`] if the blob has another size than the descriptor.
    async fn pin(
        &self,
        name: &Name,
        blob: &Descriptor,
        manifest: &Digest,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Digest>> {
        let size = self.checked_size(name, &blob.digest).await?;
        if let Some(found) = size.filter(|size| *size != blob.size) {
            return Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found });
        }
        let late = mutated(Mutation::LookBeforeReference);
        let reference = if late {
            Referenced::before(&blob.digest)
        } else {
            self.write_pin(name, &blob.digest, manifest, attempt).await?
        };
        if size.is_some() {
            return Ok(None);
        }
        let copy = self.ensure_sound_copy(reference, attempt.by).await?;
        if late {
            let _ = self.write_pin(name, &blob.digest, manifest, attempt).await?;
        }
        match copy {
            Some(copy) if copy.size() == blob.size => Ok(None),
            Some(copy) => Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found: copy.size() }),
            None => Ok(Some(blob.digest)),
        }
    }

    /// Returns whether a manifest exists and links its repository to a blob. `newest` is the newest version of the
    /// manifest, or `None` if it is deleted.
    pub(super) async fn manifest_links_blob(
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
        let life = self.last_life(name, manifest).await?;
        Ok(life.stands && life.absent().is_some_and(|absent| !absent.contains(blob)))
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

    /// Returns the last life of a manifest: its versions from the last push back to the delete before it.
    pub(super) async fn last_life(&self, name: &Name, manifest: &Digest) -> Result<Life> {
        let listed = self.store.list_all(&Prefix::Manifest(name, manifest).to_string()).await?;
        let versions = || listed.iter().filter_map(|entry| Some((&entry.key, Version::at_end_of(&entry.key)?)));
        let stands = versions().next().is_some_and(|(_, version)| version.there);
        let mut life = Life { stands, ..Life::default() };
        let ended = versions().skip_while(|(_, version)| !version.there);
        for (key, Version { ordinal, .. }) in ended.take_while(|(_, version)| version.there) {
            let Some(content) = self.store.get(key).await? else { continue };
            // the header has the links and comes before the bytes. It may be whole if the bytes are damaged
            let Ok((header, bytes)) = ManifestHeader::split(&content) else { continue };
            life.records.push(header.absent.clone());
            if life.whole.is_none() && Digest::of(manifest.algorithm(), &bytes) == *manifest {
                life.whole = Some(StoredManifest::new(*manifest, header.media_type, bytes, ordinal, header.absent));
            }
        }
        Ok(life)
    }

    /// Writes a version of a manifest beside the version under the key `newest`. The new version counts in its place,
    /// and links the repository to everything that the manifest lists except `absent`.
    ///
    /// Both versions have one ordinal. So tags mean both, and a delete of one deletes both.
    ///
    /// # Errors
    /// Those of the store, and damage if the version cannot be read.
    pub async fn record_links(&self, name: &Name, manifest: &Digest, newest: &str, absent: Vec<Digest>) -> Result<()> {
        let Some(content) = self.store.get(newest).await? else { return Ok(()) };
        let damaged = |what: String| StorageError::damaged("get", newest, what);
        let (header, bytes) = ManifestHeader::split(&content).map_err(damaged)?;
        let version = Version::at_end_of(newest).ok_or_else(|| damaged("its name is not one of the layout".into()))?;
        let content = ManifestHeader { absent, ..header }.join(&bytes);
        let attempt = suffix_before(newest);
        let key = ManifestKey::Version(Version { ordinal: version.ordinal, there: true }, attempt).of(name, manifest);
        let _forgetting = self.standing.forget_afterwards((name.clone(), *manifest));
        Ok(self.store.put(&key, content).await?)
    }

    /// Returns whether the repository has a blob without manifest `except`: by an upload, a mount, or another manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn has_without(&self, name: &Name, blob: &Digest, except: &Digest) -> Result<bool> {
        let mut asked = HashSet::from([*except]);
        for entry in self.store.list_all(&Prefix::Links(blob, name).to_string()).await? {
            match BlobLink::at_end_of(&entry.key) {
                Some(BlobLink::Link) => return Ok(true),
                Some(BlobLink::Pin(manifest)) if asked.insert(manifest) => {
                    let newest = self.standing(name, &manifest).await;
                    if self.manifest_links_blob(name, &manifest, newest, blob).await? {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The versions of a manifest between two deletes.
#[derive(Default)]
pub(super) struct Life {
    /// Set if the manifest exists now.
    stands: bool,
    /// The newest version whose bytes match the digest.
    pub(super) whole: Option<StoredManifest>,
    /// The unlinked digests of each version, newest version first.
    records: Vec<Vec<Digest>>,
}

impl Life {
    /// Returns the digests that no version links: a link of any version holds until the manifest is deleted. `None` if
    /// no record can be read.
    pub(super) fn absent(&self) -> Option<Vec<Digest>> {
        let (first, others) = self.records.split_first()?;
        let never = |digest: &&Digest| others.iter().all(|absent| absent.contains(digest));
        Some(first.iter().filter(never).copied().collect())
    }
}
