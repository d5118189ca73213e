//! Pins of blobs by manifests. A pin keeps the bytes; a pin alone is no link.

use std::collections::{BTreeSet, HashSet};

use super::Blobs;
use crate::{
    oci::{Descriptor, Digest, Manifest, Name},
    records::{
        Actor,
        key::{BlobLink, Prefix},
    },
    registry::{Error, Result, core::Attempt, references::Referenced, several},
    storage::mutation::{Mutation, mutated},
};

/// The blobs of a manifest, as a push found them.
#[derive(Debug, Default)]
pub(in crate::registry) struct Linked {
    /// Blobs that the manifest needs and the repository does not have.
    pub(in crate::registry) missing: Vec<Digest>,
    /// Other listed blobs that the repository does not have: foreign layers, and the entries of a cached index.
    pub(in crate::registry) others: Vec<Digest>,
    /// The entries of an index that are blobs of the repository.
    pub(in crate::registry) entries: HashSet<Digest>,
}

impl Blobs {
    /// Pins the blobs that the manifest lists and the repository has, and makes sure of their bytes.
    ///
    /// A blob that the repository does not have gets no pin: naming a digest must not be a way to read it, or to keep
    /// it. If a needed blob is missing and that is an error, nothing is pinned.
    ///
    /// A `cached` manifest pins all its blobs, since they come after it. Such a pin keeps bytes and gives no access.
    pub(in crate::registry) async fn pin_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: &Digest,
        before: Option<&[Digest]>,
        cached: bool,
        attempt: &Attempt<'_>,
    ) -> Result<Linked> {
        let has = manifest.listed_blobs().map(async |blob| {
            let blob = &blob.digest;
            let has = match self.copies.checked_size(name, blob).await? {
                Some(_) => self.repository_has_blob(name, blob).await?,
                None => self.repository_has_blob_afresh(name, blob).await?,
            };
            Ok(has || self.linked_before(name, digest, blob, before).await?)
        });
        let has = several(has.collect()).await?;
        let (here, absent): (Vec<_>, Vec<_>) = manifest.listed_blobs().zip(has).partition(|(_, has)| *has);
        let mut absent: HashSet<Digest> = absent.into_iter().map(|(blob, _)| blob.digest).collect();
        let needed = || manifest.blobs.iter().map(|blob| blob.digest);
        let may_miss = self.core.options.allow_missing_references || before.is_some() || cached;
        if cached {
            let listed = manifest.listed_blobs().map(|blob| &blob.digest).filter(|blob| absent.contains(blob));
            let pins = listed.map(async |blob| attempt.write_pin(name, blob, digest).await.map(drop));
            several(pins.collect()).await?;
        }
        if may_miss || needed().all(|it| !absent.contains(&it)) {
            let pins = here.into_iter().map(|(blob, _)| self.pin(name, blob, digest, cached, attempt));
            absent.extend(several(pins.collect()).await?.into_iter().flatten());
        }
        let others = |blob: &&Descriptor| cached || manifest.foreign.contains(blob);
        let entries = manifest.listed_blobs().map(|blob| blob.digest).collect::<HashSet<_>>();
        let entries = manifest.children.iter().map(|child| child.digest).filter(|child| entries.contains(child));
        Ok(Linked {
            missing: needed().filter(|blob| absent.contains(blob)).collect(),
            others: manifest
                .listed_blobs()
                .filter(others)
                .map(|it| it.digest)
                .filter(|it| absent.contains(it))
                .collect(),
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
        Ok(!self.core.store.list(&Prefix::Pins(blob, name, manifest).to_string(), None, 1).await?.is_empty())
    }

    /// Pins one blob and makes sure of its bytes. Returns its digest if the bytes are gone.
    ///
    /// # Errors
    /// [`Error::DescriptorSize`] if the blob has another size than the descriptor. A `cached` manifest is what the
    /// upstream says, so its clients judge it.
    async fn pin(
        &self,
        name: &Name,
        blob: &Descriptor,
        manifest: &Digest,
        cached: bool,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Digest>> {
        let size = self.copies.checked_size(name, &blob.digest).await?;
        let is_other = |size: u64| size != blob.size && !cached;
        if let Some(found) = size.filter(|size| is_other(*size)) {
            return Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found });
        }
        let late = mutated(Mutation::LookBeforeReference);
        let reference = if late {
            Referenced::before(&blob.digest)
        } else {
            attempt.write_pin(name, &blob.digest, manifest).await?
        };
        if size.is_some() {
            return Ok(None);
        }
        let copy = self.copies.ensure_sound_copy(reference, attempt.by).await?;
        if late {
            let _ = attempt.write_pin(name, &blob.digest, manifest).await?;
        }
        match copy {
            Some(copy) if is_other(copy.size()) => {
                Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found: copy.size() })
            }
            Some(_) => Ok(None),
            None => Ok(Some(blob.digest)),
        }
    }

    /// Returns the size of a blob in bytes that the repository's manifests say. `None` if none lists it, or if they
    /// contradict each other.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn listed_size(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let mut sizes = BTreeSet::new();
        for entry in self.core.store.list_all(&Prefix::Links(digest, name).to_string()).await? {
            let Some(BlobLink::Pin(manifest)) = BlobLink::at_end_of(&entry.key) else { continue };
            let stored = match self.versions.standing(name, &manifest).await {
                Ok(Some(stored)) => stored,
                Ok(None) => continue,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)?;
            let listed = manifest.listed_blobs().filter(|blob| blob.digest == *digest);
            sizes.extend(listed.map(|blob| blob.size));
        }
        Ok(if sizes.len() == 1 { sizes.pop_first() } else { None })
    }

    /// Gives every manifest that was cached before this blob came its link to it. The repository has the blob: if it does
    /// not, this gives nothing.
    ///
    /// A blob that was deleted here before gets its links from scrub, as does a manifest that is cached at the same
    /// moment. Scrub keeps the blob's own link until then.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if two attempts took too long.
    pub async fn link_to_cached(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<()> {
        for _ in 0..2 {
            let attempt = self.core.begin(by).await?;
            match self.attempt_link(name, digest, &attempt).await {
                Err(Error::TooSlow) => {}
                result => return result,
            }
        }
        Err(Error::TooSlow)
    }

    /// Links a blob to the manifests that pin it and were cached without it.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the attempt took too long, or a manifest has a newer version by now.
    async fn attempt_link(&self, name: &Name, digest: &Digest, attempt: &Attempt<'_>) -> Result<()> {
        let links = || async { self.core.store.list_all(&Prefix::Links(digest, name).to_string()).await };
        let listed = links().await?;
        let pins = listed.iter().filter_map(|entry| match BlobLink::at_end_of(&entry.key) {
            Some(BlobLink::Pin(manifest)) => Some(manifest),
            _ => None,
        });
        let lives = pins.collect::<BTreeSet<_>>().into_iter();
        let lives = lives.map(async |manifest| Ok((manifest, self.versions.last_life(name, &manifest).await?)));
        let lives = several(lives.collect()).await?;
        if lives.iter().all(|(_, life)| life.without(digest).is_none()) {
            return Ok(());
        }
        // a delete of the blob that this listing does not show finds that a manifest needs the blob
        let listed = links().await?;
        let is = |link: BlobLink| listed.iter().any(|entry| BlobLink::at_end_of(&entry.key) == Some(link));
        let has = is(BlobLink::Link)
            || mutated(Mutation::CachedLinksWithoutLook)
            || lives.iter().any(|(_, life)| life.links(digest));
        if !has || is(BlobLink::Unlinked) {
            return Ok(());
        }
        let recorded = lives.iter().filter_map(|(manifest, life)| Some((manifest, life.without(digest)?)));
        let recorded = recorded.map(async |(manifest, (newest, absent))| {
            match self.versions.record_links_in_time(name, manifest, newest, absent, Some(attempt)).await {
                // scrub tells of a damaged manifest, and keeps the blob's own link
                Err(error) if error.is_damage() => Ok(true),
                recorded => recorded,
            }
        });
        if several(recorded.collect()).await?.contains(&false) { Err(Error::TooSlow) } else { Ok(()) }
    }
}
