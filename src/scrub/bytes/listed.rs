//! Blobs that existing manifests list and do not link: their pushes came before the blobs.
//!
//! Such a blob has a link and no pin until the pass `links` pins it. So a blob link counts as long as a manifest of its
//! repository lists the blob. A push that begins after the link was written sees the link and pins the blob. A push
//! that began before it ended within a lease, and the link is older. So it is enough to read a repository's manifests
//! once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::TryStreamExt as _;
use moka::sync::Cache;
use tokio::sync::Mutex;

use super::{
    super::{Reason, Result, run::Run},
    rights::Fact,
};
use crate::{
    oci::{Digest, Name},
    records::{
        ManifestHeader,
        key::{BlobLink, ManifestKey, Prefix, RepositoryKey},
    },
    storage::mutation::{Mutation, mutated},
};

/// The number of digests, of all repositories together, that are remembered.
const MOST: usize = 1_000_000;

/// The digests that existing manifests of a repository list and do not link. Nothing if one of the manifests cannot be
/// read.
type Absent = Option<Arc<HashSet<Digest>>>;

/// The cached state of the manifests of repositories in this pass.
pub(super) struct Listed {
    repositories: Mutex<HashMap<Name, Absent>>,
    /// The manifests that were looked at, each with true if it links all that it lists.
    whole: Cache<(Name, Digest), bool>,
}

impl Listed {
    /// The number of manifests that are remembered.
    const MANIFESTS: u64 = 100_000;

    pub(super) fn new() -> Self {
        Self { repositories: Mutex::default(), whole: Cache::new(Self::MANIFESTS) }
    }

    /// Keeps the links by which alone a repository has a digest, if a manifest there lists the digest. `facts` are the
    /// records about the digest, in the order of their keys.
    pub(super) async fn spare(
        &self,
        run: &Run<'_>,
        digest: &Digest,
        facts: &[Fact],
        fates: &mut [Option<Reason>],
    ) -> Result<()> {
        let mut start = 0;
        for of_one in facts.chunk_by(|a, b| a.name == b.name) {
            let range = start..start + of_one.len();
            start = range.end;
            let grants = || of_one.iter().zip(range.clone()).filter(|(fact, _)| fact.right == BlobLink::Link);
            let stay = grants().any(|(_, at)| fates[at].is_none());
            let Some((first, _)) = grants().next().filter(|_| !stay) else { continue };
            if self.links(run, &first.name, of_one, digest).await? || mutated(Mutation::ListedBlobsNotKept) {
                continue;
            }
            if self.lists(run, &first.name, digest).await? {
                for at in grants().map(|(_, at)| at).collect::<Vec<_>>() {
                    fates[at] = None;
                }
            }
        }
        Ok(())
    }

    /// Returns whether a manifest with a pin among these records of one repository links a digest.
    async fn links(&self, run: &Run<'_>, name: &Name, facts: &[Fact], digest: &Digest) -> Result<bool> {
        let mut asked = HashSet::new();
        for fact in facts {
            let BlobLink::Pin(manifest) = fact.right else { continue };
            if asked.insert(manifest) && self.link(run, name, &manifest, digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn link(&self, run: &Run<'_>, name: &Name, manifest: &Digest, digest: &Digest) -> Result<bool> {
        let key = (name.clone(), *manifest);
        if self.whole.get(&key) == Some(true) {
            return Ok(true);
        }
        let Some(unlinked) = run.registry.versions.unlinked(name, manifest).await? else { return Ok(false) };
        self.whole.insert(key, unlinked.is_empty());
        Ok(!unlinked.contains(digest))
    }

    /// Returns whether an existing manifest of a repository lists a digest that it does not link. Returns true if a
    /// manifest cannot be read.
    async fn lists(&self, run: &Run<'_>, name: &Name, digest: &Digest) -> Result<bool> {
        // one after another: all of them may ask about one repository
        let mut known = self.repositories.lock().await;
        let absent = if let Some(absent) = known.get(name) {
            absent.clone()
        } else {
            let absent = read(run, name).await?;
            let number: usize = known.values().flatten().map(|digests| digests.len()).sum();
            if number + known.len() >= MOST {
                known.clear();
            }
            known.insert(name.clone(), absent.clone());
            absent
        };
        Ok(absent.is_none_or(|absent| absent.contains(digest)))
    }
}

async fn read(run: &Run<'_>, name: &Name) -> Result<Absent> {
    let mut absent = HashSet::new();
    let mut entries = std::pin::pin!(run.store.scan(&Prefix::Manifests(name).to_string()));
    let mut last = None;
    while let Some(entry) = entries.try_next().await? {
        run.go_on()?;
        let Some((manifest, ManifestKey::Version(version, _))) = RepositoryKey::manifest(name, &entry.key) else {
            continue;
        };
        // the newest version comes first
        if last.replace(manifest) == Some(manifest) || !version.there {
            continue;
        }
        // a header without absent digests is enough, and most have none
        let content = run.store.get(&entry.key).await?;
        match content.as_ref().map(ManifestHeader::split) {
            Some(Ok((header, _))) if header.absent.is_empty() => {}
            _ => match run.registry.versions.unlinked(name, &manifest).await? {
                Some(unlinked) => absent.extend(unlinked),
                None if run.store.size(&entry.key).await?.is_none() => {}
                None => return Ok(None),
            },
        }
    }
    Ok(Some(Arc::new(absent)))
}
