//! Runs `simple-registry prefetch`: pulls images into caches, beside running servers.

use std::{collections::HashSet, future::ready, sync::Arc, time::Duration};

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{print, restore::named, store};
use crate::{
    config::{Config, ImmutableRules},
    identity::Client,
    memory::Memory,
    mirror::{ManifestPull, Mirror, Options},
    oci::{Digest, Manifest, Name, Reference},
    registry::{self, Actor, Registry, StoredManifest},
    storage::Suffix,
    telemetry::Metrics,
    upstream::{Cached, CachedNamespaces},
};

/// The number of blobs that are fetched at once.
const AT_ONCE: usize = 4;
/// The client that has all places of this process for itself.
const CLIENT: Client = Client::Address(0);
/// The memory for the tokens of upstreams, in bytes.
const TOKENS: u64 = 1024 * 1024;

/// Options of `prefetch`.
#[derive(Debug, Args)]
pub(super) struct Prefetch {
    /// Images of caches: `docker.io/library/nginx:1.29`, or `docker.io/library/nginx@sha256:...`
    #[arg(value_name = "REPOSITORY:TAG|REPOSITORY@DIGEST", value_parser = named, required = true)]
    images: Vec<(Name, Reference)>,
    /// Fetch this platform of an index, such as `linux/amd64` or `linux/arm/v7`; repeatable [default: all]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Vec<String>,
    /// Fetch also the manifests that refer to the images, such as signatures
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    pub(super) place: store::Place,
}

/// Fetches all images, one after another, and prints a line for each.
///
/// # Errors
/// A sentence for the person who asked, when all images were tried.
pub(super) fn run(prefetch: &Prefetch, config: &Config) -> Result<(), String> {
    let caches = CachedNamespaces::load(config, None, &Memory::new(TOKENS)).map_err(|problems| problems.to_string())?;
    let mut failed = 0;
    store::with_registry(config, async |registry| {
        let options = Options { idle: Duration::ZERO, pace: Duration::from_secs(30) };
        let work = Fetcher {
            registry: Arc::clone(registry),
            mirror: Mirror::new(registry, options, Metrics::new()),
            caches,
            prefetch,
            immutable: ImmutableRules::new(config),
            largest: config.max_manifest_size,
            by: Actor { identity: "prefetch".to_owned(), request: Suffix::random().to_string() },
        };
        for (name, reference) in &prefetch.images {
            let at = if matches!(reference, Reference::Tag(_)) { ":" } else { "@" };
            match work.image(name, reference).await {
                Ok(fetched) => print::line(format_args!("{name}{at}{reference}: {fetched}")),
                Err(error) => {
                    failed += 1;
                    print::error_line(format_args!("{name}{at}{reference}: {error}"));
                }
            }
        }
        if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} images were not fetched", prefetch.images.len())) }
    })
}

/// The amount of content of an image.
#[derive(Default)]
struct Fetched {
    manifests: u64,
    blobs: u64,
    bytes: u64,
    /// The blobs that were here before.
    here: u64,
}

impl std::fmt::Display for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { manifests, blobs, bytes, here } = self;
        let bytes = indicatif::HumanBytes(*bytes);
        write!(f, "{manifests} manifests; {blobs} blobs fetched, {bytes}; {here} blobs were here")
    }
}

struct Fetcher<'a> {
    registry: Arc<Registry>,
    mirror: Arc<Mirror>,
    caches: CachedNamespaces,
    prefetch: &'a Prefetch,
    immutable: ImmutableRules,
    largest: u64,
    by: Actor,
}

impl Fetcher<'_> {
    /// Fetches an image with all that it names.
    async fn image(&self, name: &Name, reference: &Reference) -> Result<Fetched, String> {
        let Some(cached) = self.caches.of(name) else {
            return Err(format!(
                "{name} is no cache; give it an upstream with [[repository.\"<namespace>\".upstream]]"
            ));
        };
        let (mut fetched, mut seen) = (Fetched::default(), HashSet::new());
        let mut wanted = vec![reference.clone()];
        while let Some(reference) = wanted.pop() {
            let stored = self.manifest(&cached, name, &reference).await?;
            if !seen.insert(stored.digest) {
                continue;
            }
            fetched.manifests += 1;
            let manifest =
                Manifest::parse(Some(&stored.media_type), &stored.bytes).map_err(|error| error.to_string())?;
            wanted.extend(self.children(&stored, &manifest).map(Reference::Digest));
            if self.prefetch.referrers {
                let referrers = self.mirror.referrers(&cached, name, &stored.digest, CLIENT).await;
                let referrers = referrers.map_err(|error| error.to_string())?.value;
                wanted.extend(referrers.iter().map(|referrer| Reference::Digest(referrer.digest)));
            }
            let blobs = manifest.blobs.iter().map(|blob| self.blob(&cached, name, blob.digest));
            let came: Vec<Option<u64>> = stream::iter(blobs).buffer_unordered(AT_ONCE).try_collect().await?;
            for bytes in came {
                match bytes {
                    Some(bytes) => (fetched.blobs, fetched.bytes) = (fetched.blobs + 1, fetched.bytes + bytes),
                    None => fetched.here += 1,
                }
            }
        }
        Ok(fetched)
    }

    async fn manifest(
        &self,
        cached: &Cached,
        name: &Name,
        reference: &Reference,
    ) -> Result<Arc<StoredManifest>, String> {
        let rule = self.immutable.of(name);
        let pull = ManifestPull {
            cached: cached.clone(),
            name: name.clone(),
            largest: self.largest,
            memory: Arc::new(|_| Box::pin(ready(Some(Box::new(()) as _)))),
            immutable: Arc::new(move |tag| rule.covers(tag)),
            by: self.by.clone(),
            client: CLIENT,
        };
        // what is young is kept as well; no tag moves to it before its cooldown is over
        let answered = self.mirror.manifest(&pull, reference, &|_, _| true).await;
        answered.map(|answered| answered.value).map_err(|error| error.to_string())
    }

    /// Returns the manifests of an index that are for a wanted platform, and those for none.
    fn children<'m>(&self, stored: &StoredManifest, manifest: &'m Manifest) -> impl Iterator<Item = Digest> + 'm {
        let index: Value = serde_json::from_slice(&stored.bytes).unwrap_or_default();
        let entries = index["manifests"].as_array().into_iter().flatten();
        let wanted = &self.prefetch.platform;
        let is_wanted = |entry: &&Value| match platform(&entry["platform"]) {
            Some(of) => wanted.is_empty() || wanted.iter().any(|wanted| covers(wanted, &of)),
            None => true,
        };
        // by digest, since the parsed children are each once and not all entries
        let wanted: HashSet<Digest> =
            entries.filter(is_wanted).filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect();
        manifest.children.iter().map(|child| child.digest).filter(move |child| wanted.contains(child))
    }

    /// Fetches a blob. Returns its size in bytes, or `None` if it was here.
    async fn blob(&self, cached: &Cached, name: &Name, digest: Digest) -> Result<Option<u64>, String> {
        match self.registry.blobs.get(name, &digest).await {
            Ok(_) => return Ok(None),
            Err(registry::Error::BlobUnknown { .. }) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.to_string()),
        }
        let pull = self.mirror.pull(cached, name, &digest, &self.by, CLIENT).map_err(|error| error.to_string())?;
        let size = pull.size().await.map_err(|error| error.to_string())?;
        let mut bytes = pull.read(Arc::clone(&self.registry), 0..size);
        while bytes.try_next().await.map_err(|error| error.to_string())?.is_some() {}
        Ok(Some(size))
    }
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
