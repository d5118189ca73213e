//! Blob links by manifests: which blobs a manifest gives its repository.
//!
//! A push records in the manifest's version what the repository did not have. From that push to the next delete, the
//! manifest links its repository to everything else that it lists. A pin keeps the bytes; a pin alone is no link.

use std::{collections::HashSet, sync::Arc};

use super::{
    By, Error, Registry, Result, facts::ManifestHeader, manifests::StoredManifest, put_manifest::Asked, several,
};
use crate::{
    oci::{Descriptor, Digest, Manifest, Name},
    storage::{
        StorageError, layout,
        layout::{Right, Version},
        mutation::mutated,
    },
};

/// The blobs of a manifest, as a push found them.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// What the manifest needs and the repository does not have.
    pub(super) missing: Vec<Digest>,
    /// Foreign layers that the repository does not have.
    pub(super) foreign: Vec<Digest>,
    /// The entries of an index that are blobs of the repository.
    pub(super) entries: HashSet<Digest>,
}

impl Registry {
    /// Pins the blobs that the manifest lists and the repository has, and makes sure of their bytes.
    ///
    /// A blob that the repository does not have gets no pin: naming a digest must not be a way to read it, or to keep it.
    pub(super) async fn pin_blobs(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: &Digest,
        attempt: &str,
        asked: &Asked,
        by: &By,
    ) -> Result<Linked> {
        let has = manifest.listed_blobs().map(async |blob| {
            let blob = &blob.digest;
            let has = match self.held(name, blob).await? {
                Some(_) => self.has(name, blob).await?,
                None => self.has_afresh(name, blob).await?,
            };
            Ok(has || self.had(name, digest, blob, asked).await?)
        });
        let has = several(has.collect()).await?;
        let (here, absent): (Vec<_>, Vec<_>) = manifest.listed_blobs().zip(has).partition(|(_, has)| *has);
        let mut absent: HashSet<Digest> = absent.into_iter().map(|(blob, _)| blob.digest).collect();
        let needed = || manifest.blobs.iter().map(|blob| blob.digest);
        if self.options.allow_missing_references || asked.before.is_some() || needed().all(|it| !absent.contains(&it)) {
            let pins = here.into_iter().map(|(blob, _)| self.pin(name, blob, digest, attempt, by));
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

    /// Returns whether a manifest that is restored linked the repository to a blob before it was deleted.
    async fn had(&self, name: &Name, manifest: &Digest, blob: &Digest, asked: &Asked) -> Result<bool> {
        let linked = asked.before.as_ref().is_some_and(|absent| !absent.contains(blob) || mutated("pins give links"));
        if !linked {
            return Ok(false);
        }
        Ok(!self.store.list(&layout::pin(blob, name, manifest, ""), None, 1).await?.is_empty())
    }

    /// Pins one blob and makes sure of its bytes; returns its digest where they are gone.
    async fn pin(
        &self,
        name: &Name,
        blob: &Descriptor,
        manifest: &Digest,
        attempt: &str,
        by: &By,
    ) -> Result<Option<Digest>> {
        let size = self.held(name, &blob.digest).await?;
        if let Some(found) = size.filter(|size| *size != blob.size) {
            return Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found });
        }
        let pin = layout::pin(&blob.digest, name, manifest, if mutated("shared pins") { "p" } else { attempt });
        let late = mutated("look before reference");
        if !late {
            self.store.put(&pin, self.fact(by)).await?;
        }
        if size.is_some() {
            return Ok(None);
        }
        let relied = self.rely_on(&blob.digest, by).await?;
        if late {
            self.store.put(&pin, self.fact(by)).await?;
        }
        match relied {
            Some(place) if place.size == blob.size => Ok(None),
            Some(place) => Err(Error::DescriptorSize { digest: blob.digest, said: blob.size, found: place.size }),
            None => Ok(Some(blob.digest)),
        }
    }

    /// Returns whether a manifest stands and links its repository to a blob; `newest` is its newest version, if it stands.
    pub(super) async fn links(
        &self,
        name: &Name,
        manifest: &Digest,
        newest: Result<Option<Arc<StoredManifest>>>,
        blob: &Digest,
    ) -> Result<bool> {
        match newest {
            Ok(None) => return Ok(false),
            Ok(Some(newest)) if !newest.absent.contains(blob) || mutated("pins give links") => return Ok(true),
            Ok(Some(_)) => {}
            // it stands, and its blobs are what a client needs to push it again
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        // a push beside the newest one may have found the blob
        let life = self.last_life(name, manifest).await?;
        Ok(life.stands && life.absent().is_some_and(|absent| !absent.contains(blob)))
    }

    /// Returns what a manifest lists and does not link its repository to; nothing where it does not stand, or no record of
    /// it can be read.
    pub async fn unlinked(&self, name: &Name, manifest: &Digest) -> Result<Option<Vec<Digest>>> {
        let life = self.last_life(name, manifest).await?;
        Ok(if life.stands { life.absent() } else { None })
    }

    /// Returns what a manifest was from its last push back to the delete before it.
    pub(super) async fn last_life(&self, name: &Name, manifest: &Digest) -> Result<Life> {
        let listed = self.store.list_all(&layout::manifest(name, manifest)).await?;
        let versions = || listed.iter().filter_map(|entry| Some((&entry.key, layout::version(&entry.key)?)));
        let stands = versions().next().is_some_and(|(_, version)| version.there);
        let mut life = Life { stands, ..Life::default() };
        let ended = versions().skip_while(|(_, version)| !version.there);
        for (key, Version { ordinal, .. }) in ended.take_while(|(_, version)| version.there) {
            let Some(content) = self.store.get(key).await? else { continue };
            // what it links is written before the manifest's bytes, and may be whole where those are not
            let Ok((header, bytes)) = ManifestHeader::split(&content) else { continue };
            life.records.push(header.absent.clone());
            if life.whole.is_none() && Digest::of(manifest.algorithm(), &bytes) == *manifest {
                life.whole = Some(StoredManifest::new(*manifest, header.media_type, bytes, ordinal, header.absent));
            }
        }
        Ok(life)
    }

    /// Writes a version of a manifest beside that of key `newest`, in whose place it counts, and which links the repository
    /// to all that the manifest lists but `absent`. Tags mean both, and a delete of either is a delete of both.
    pub async fn record_links(&self, name: &Name, manifest: &Digest, newest: &str, absent: Vec<Digest>) -> Result<()> {
        let Some(content) = self.store.get(newest).await? else { return Ok(()) };
        let damaged = |what: String| StorageError::damaged("get", newest, what);
        let (header, bytes) = ManifestHeader::split(&content).map_err(damaged)?;
        let version = layout::version(newest).ok_or_else(|| damaged("its name is not one of the layout".into()))?;
        let content = ManifestHeader { absent, ..header }.join(&bytes);
        let attempt = layout::attempt_before(newest);
        let key = layout::manifest_version(name, manifest, version.ordinal, true, &attempt);
        let _forgetting = self.standing.forget_afterwards((name.clone(), *manifest));
        Ok(self.store.put(&key, content).await?)
    }

    /// Returns whether the repository has a blob by a link of its own: an upload or a mount, or another manifest than
    /// `except`.
    pub async fn has_without(&self, name: &Name, blob: &Digest, except: &Digest) -> Result<bool> {
        let mut asked = HashSet::from([*except]);
        for entry in self.store.list_all(&layout::rights(blob, name)).await? {
            match layout::right(&entry.key) {
                Some(Right::Grant) => return Ok(true),
                Some(Right::Pin(manifest)) if asked.insert(manifest) => {
                    let newest = self.standing(name, &manifest).await;
                    if self.links(name, &manifest, newest, blob).await? {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// What a manifest was between two deletes.
#[derive(Default)]
pub(super) struct Life {
    /// Whether it stands.
    stands: bool,
    /// Its newest version that is whole.
    pub(super) whole: Option<StoredManifest>,
    /// What each version does not link.
    records: Vec<Vec<Digest>>,
}

impl Life {
    /// Returns what no version links, since each link holds until the manifest is deleted; nothing without any record.
    pub(super) fn absent(&self) -> Option<Vec<Digest>> {
        let (first, others) = self.records.split_first()?;
        let never = |digest: &&Digest| others.iter().all(|absent| absent.contains(digest));
        Some(first.iter().filter(never).copied().collect())
    }
}
