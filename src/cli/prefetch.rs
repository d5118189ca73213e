//! Runs `simple-registry prefetch`: pulls images into caches, beside running servers.

use std::{sync::Arc, time::Duration};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{print, restore::named, store};
use crate::{
    config::{Config, ImmutableRules},
    identity::Client,
    memory::Memory,
    mirror::{self, Fetched, ManifestPull, Mirror, Options, Wanted},
    oci::{Name, Reference},
    registry::Actor,
    storage::Suffix,
    telemetry::Metrics,
    upstream::CachedNamespaces,
};

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
    let mut failed = 0_usize;
    store::with_registry(config, async |registry| {
        let options = Options { idle: Duration::ZERO, pace: Duration::from_secs(30) };
        let work = Fetcher {
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
                Ok(fetched) => {
                    print::line(format_args!("{name}{at}{reference}: {fetched}"));
                    failed += usize::from(!fetched.missing.is_empty());
                    for missing in &fetched.missing {
                        print::error_line(format_args!("{name}{at}{reference}: missing: {missing}"));
                    }
                }
                Err(error) => {
                    failed += 1;
                    print::error_line(format_args!("{name}{at}{reference}: {error}"));
                }
            }
        }
        if failed == 0 {
            Ok(())
        } else {
            Err(format!("{failed} of {} images were not fetched whole", prefetch.images.len()))
        }
    })
}

struct Fetcher<'a> {
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
        let rule = self.immutable.of(name);
        let pull = ManifestPull {
            cached,
            name: name.clone(),
            largest: self.largest,
            memory: mirror::memory_enough(),
            immutable: Arc::new(move |tag| rule.covers(tag)),
            by: self.by.clone(),
            client: CLIENT,
        };
        let wanted = Wanted { platforms: self.prefetch.platform.clone(), referrers: self.prefetch.referrers };
        let bar = bar(&format!("{name}"));
        let watch = |fetched: &Fetched| {
            bar.set_length(fetched.named);
            bar.set_position(fetched.blobs + fetched.here);
            bar.set_message(HumanBytes(fetched.bytes).to_string());
        };
        let fetched = self.mirror.image(&pull, reference, &wanted, watch).await;
        bar.finish_and_clear();
        fetched.map_err(|error| error.to_string())
    }
}

/// Returns a bar for the blobs of an image. It is hidden where standard error is no terminal.
fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos}/{human_len} blobs, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(print::one_line(name));
    bar
}
