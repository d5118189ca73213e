//! Fetches whole images: all that a tag or digest names.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{Error, ManifestPull, Mirror, Result, what_blob};
use crate::{
    oci::{Digest, Manifest, Reference},
    registry::{self, StoredManifest},
};

/// The number of blobs that are fetched at once.
const AT_ONCE: usize = 4;
/// The largest number of manifests of one image, those that refer to it included.
const MOST_MANIFESTS: u64 = 5_000;
/// The longest chain of manifests that refer to one another: the signature of an SBOM of an image is the second.
const LONGEST_CHAIN: u32 = 4;

/// The parts of an image that are fetched.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The platforms, such as `linux/amd64`; empty: all.
    pub platforms: Vec<String>,
    /// True: also the manifests that refer to the image, such as signatures.
    pub referrers: bool,
}

/// The content of an image that came, and that did not.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The manifests, those that were here included.
    pub manifests: u64,
    /// The blobs that came.
    pub blobs: u64,
    /// The bytes of these blobs.
    pub bytes: u64,
    /// The blobs that were here before.
    pub here: u64,
    /// The blobs that the manifests so far name.
    pub named: u64,
    /// A sentence for each thing that did not come. The rest of the image came without it.
    pub missing: Vec<String>,
}

impl std::fmt::Display for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { manifests, blobs, bytes, here, .. } = self;
        let bytes = indicatif::HumanBytes(*bytes);
        write!(f, "{manifests} manifests; {blobs} blobs fetched, {bytes}; {here} blobs were here")
    }
}

impl Mirror {
    /// Fetches an image with all that it names, and calls `watch` after each blob.
    ///
    /// # Errors
    /// Those of the first manifest, and those of the store. Other things that do not come are in [`Fetched::missing`].
    pub async fn image(
        self: &Arc<Self>,
        pull: &ManifestPull,
        reference: &Reference,
        wanted: &Wanted,
        watch: impl Fn(&Fetched),
    ) -> Result<Fetched> {
        let (mut fetched, mut seen) = (Fetched::default(), HashSet::new());
        // each with the length of the chain that leads to it
        let mut left = vec![(reference.clone(), 0)];
        while let Some((reference, chain)) = left.pop() {
            if fetched.manifests >= MOST_MANIFESTS {
                fetched
                    .missing
                    .push(format!("the image has more than {MOST_MANIFESTS} manifests; the rest is left out"));
                break;
            }
            // what is young is kept as well; no tag moves to it before its cooldown is over
            let stored = match self.manifest(pull, &reference, &|_, _| true).await {
                Ok(answered) => answered.value,
                Err(error) if fetched.manifests > 0 && !is_of_the_store(&error) => {
                    fetched.missing.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !seen.insert(stored.digest) {
                continue;
            }
            fetched.manifests += 1;
            let manifest = match Manifest::parse(Some(&stored.media_type), &stored.bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    fetched.missing.push(format!("manifest {} cannot be read: {error}", stored.digest));
                    continue;
                }
            };
            let children = children(&stored, &manifest, &wanted.platforms);
            left.extend(children.map(|child| (Reference::Digest(child), chain)));
            if wanted.referrers {
                self.referring(pull, stored.digest, chain, &mut left, &mut fetched).await?;
            }
            self.blobs_of(pull, &manifest, &mut fetched, &watch).await?;
        }
        Ok(fetched)
    }

    /// Adds the manifests that refer to another one.
    async fn referring(
        self: &Arc<Self>,
        pull: &ManifestPull,
        subject: Digest,
        chain: u32,
        left: &mut Vec<(Reference, u32)>,
        fetched: &mut Fetched,
    ) -> Result<()> {
        let referrers = match self.referrers(&pull.cached, &pull.name, &subject, pull.client).await {
            Ok(answered) => answered.value,
            Err(error) if is_of_the_store(&error) => return Err(error),
            Err(error) => {
                fetched.missing.push(error.to_string());
                return Ok(());
            }
        };
        if chain >= LONGEST_CHAIN && !referrers.is_empty() {
            let says =
                format!("manifest {subject} has referrers, and is the end of a chain of {LONGEST_CHAIN} of them");
            fetched.missing.push(says + "; they are left out");
            return Ok(());
        }
        left.extend(referrers.iter().map(|referrer| (Reference::Digest(referrer.digest), chain + 1)));
        Ok(())
    }

    async fn blobs_of(
        self: &Arc<Self>,
        pull: &ManifestPull,
        manifest: &Manifest,
        fetched: &mut Fetched,
        watch: &impl Fn(&Fetched),
    ) -> Result<()> {
        fetched.named += manifest.blobs.len() as u64;
        watch(fetched);
        let blobs: Vec<_> = manifest.blobs.iter().map(|blob| self.whole_blob(pull, blob.digest)).collect();
        let mut came = stream::iter(blobs).buffer_unordered(AT_ONCE);
        while let Some(outcome) = came.next().await {
            match outcome {
                Ok(Some(bytes)) => (fetched.blobs, fetched.bytes) = (fetched.blobs + 1, fetched.bytes + bytes),
                Ok(None) => fetched.here += 1,
                Err(error) if is_of_the_store(&error) => return Err(error),
                Err(error) => fetched.missing.push(error.to_string()),
            }
            watch(fetched);
        }
        Ok(())
    }

    /// Fetches a blob. Returns its size in bytes, or `None` if it was here.
    async fn whole_blob(self: &Arc<Self>, pull: &ManifestPull, digest: Digest) -> Result<Option<u64>> {
        match self.registry.blobs.get(&pull.name, &digest).await {
            Ok(_) => return Ok(None),
            Err(registry::Error::BlobUnknown { .. }) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
        let mut senders = pull.cached.namespace.upstreams.hosts().count();
        loop {
            match self.read_through(pull, &digest).await {
                // the next download leaves out the upstream that sent wrong bytes
                Err(error @ Error::WrongDigest { .. }) if senders > 1 => {
                    senders -= 1;
                    tracing::debug!(%error, what = %what_blob(&digest), "a blob is asked for again");
                }
                outcome => return outcome.map(Some),
            }
        }
    }

    async fn read_through(self: &Arc<Self>, pull: &ManifestPull, digest: &Digest) -> Result<u64> {
        let reader = self.pull(&pull.cached, &pull.name, digest, &pull.by, pull.client)?;
        let size = reader.size().await?;
        let mut bytes = reader.read(Arc::clone(&self.registry), 0..size);
        while bytes.try_next().await?.is_some() {}
        Ok(size)
    }
}

/// Returns whether an error is the store's, so that nothing else can be kept either.
fn is_of_the_store(error: &Error) -> bool {
    matches!(error, Error::Registry(error) if !error.is_damage())
}

/// Returns the manifests of an index that are for a wanted platform, and those for none.
fn children(stored: &StoredManifest, manifest: &Manifest, platforms: &[String]) -> impl Iterator<Item = Digest> {
    let index: Value = serde_json::from_slice(&stored.bytes).unwrap_or_default();
    let entries = index["manifests"].as_array().into_iter().flatten();
    let is_wanted = |entry: &&Value| match platform(&entry["platform"]) {
        Some(of) => platforms.is_empty() || platforms.iter().any(|wanted| covers(wanted, &of)),
        None => true,
    };
    // by digest, since the parsed children are each once and not all entries
    let wanted: HashSet<Digest> =
        entries.filter(is_wanted).filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect();
    manifest.children.iter().map(|child| child.digest).filter(move |child| wanted.contains(child))
}

/// Writes the platform of an index's entry as `os/architecture`, or `os/architecture/variant`.
fn platform(platform: &Value) -> Option<String> {
    let (os, architecture) = (platform["os"].as_str()?, platform["architecture"].as_str()?);
    let variant = platform["variant"].as_str().map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{os}/{architecture}{variant}"))
}

/// Returns whether a wanted platform covers another: `linux/arm` covers `linux/arm/v7`.
fn covers(wanted: &str, platform: &str) -> bool {
    platform == wanted || platform.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'))
}
