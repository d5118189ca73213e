//! Pins of blobs by manifests. A pin keeps the bytes; a pin alone is no link.

use std::collections::HashSet;

use super::Blobs;
use crate::{
    oci::{Descriptor, Digest, Manifest, Name},
    records::key::Prefix,
    registry::{Error, Result, core::Attempt, references::Referenced, several},
    storage::mutation::{Mutation, mutated},
};

/// The blobs of a manifest, as a push found them.
#[derive(Debug, Default)]
pub(in crate::registry) struct Linked {
    /// Blobs that the manifest needs and the repository does not have.
    pub(in crate::registry) missing: Vec<Digest>,
    /// Foreign layers that the repository does not have.
    pub(in crate::registry) foreign: Vec<Digest>,
    /// The entries of an index that are blobs of the repository.
    pub(in crate::registry) entries: HashSet<Digest>,
}

impl Blobs {
    /// Pins the blobs that the manifest lists and the repository has, and makes sure of their bytes.
    ///
    /// A blob that the repository does not have gets no pin: naming a digest must not be a way to read it, or to keep
    /// it. If a needed blob is missing and that is an error, nothing is pinned.
    pub(in crate::registry) async fn pin_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: &Digest,
        before: Option<&[Digest]>,
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
        if self.core.options.allow_missing_references || before.is_some() || needed().all(|it| !absent.contains(&it)) {
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
        Ok(!self.core.store.list(&Prefix::Pins(blob, name, manifest).to_string(), None, 1).await?.is_empty())
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
        let size = self.copies.checked_size(name, &blob.digest).await?;
        if let Some(found) = size.filter(|size| *size != blob.size) {
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
            Some(copy) if copy.size() == blob.size => Ok(None),
            Some(copy) => Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found: copy.size() }),
            None => Ok(Some(blob.digest)),
        }
    }
}
