//! Keeps tags of caches warm: pulls them now and then, as a client would.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch::Receiver, task::JoinSet, time};

use crate::{
    action::Page,
    config::{Refresh, TagPatterns},
    identity::Client,
    mirror::{self, ManifestPull, Mirror, Served, Wanted},
    oci::{Digest, Name, Reference, Tag},
    registry::{self, Actor, Registry},
    snapshot::{Live, Snapshot},
    storage::Suffix,
    telemetry::Metrics,
};

/// The time between two looks for edits.
const LOOK: Duration = Duration::from_secs(1);
/// The client whose share of downloads a refresh takes.
const CLIENT: Client = Client::Address(0);

/// The parts of a server that a refresh uses.
#[derive(Clone)]
pub(super) struct Refreshing {
    pub(super) mirror: Arc<Mirror>,
    pub(super) registry: Arc<Registry>,
    pub(super) live: Arc<Live>,
    pub(super) metrics: Metrics,
}

/// The digests that tags meant when all of their content was last seen here.
type Complete = HashMap<(Name, Tag), Digest>;

/// Refreshes what the snapshot in force says, until `stop` turns true. An edit begins and ends the work of a namespace.
pub(super) async fn run(parts: Refreshing, mut stop: Receiver<bool>) {
    // a set with one task ends it when it is dropped
    let mut running: HashMap<String, (Refresh, JoinSet<()>)> = HashMap::new();
    let mut seen: Option<Arc<Snapshot>> = None;
    let mut look = time::interval(LOOK);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = look.tick() => {}
        }
        let snapshot = parts.live.current();
        if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &snapshot)) {
            continue;
        }
        let tables = &snapshot.config().repository;
        let wanted = |namespace: &str| tables.get(namespace).and_then(|table| table.refresh.as_ref());
        running.retain(|namespace, (refresh, _)| {
            let stays = wanted(namespace) == Some(refresh);
            if !stays {
                tracing::info!(namespace, "the refresh of tags ends");
            }
            stays
        });
        for (namespace, refresh) in tables.iter().filter_map(|(name, table)| Some((name, table.refresh.as_ref()?))) {
            if refresh.tags.is_empty() || running.contains_key(namespace) {
                continue;
            }
            tracing::info!(namespace, interval = refresh.interval.as_secs(), "the refresh of tags begins");
            let mut task = JoinSet::new();
            task.spawn(keep_warm(parts.clone(), namespace.clone(), refresh.clone()));
            running.insert(namespace.clone(), (refresh.clone(), task));
        }
        seen = Some(snapshot);
    }
}

/// Refreshes a namespace again and again. Servers over one store do not agree on turns: a question about a tag costs
/// little, only one server downloads, and nobody has to notice that another one died.
async fn keep_warm(parts: Refreshing, namespace: String, refresh: Refresh) {
    let patterns = TagPatterns::new(&refresh.tags);
    let wanted = Wanted { platforms: refresh.platforms.clone(), referrers: false };
    let mut complete = Complete::new();
    loop {
        let mut round = Round {
            parts: &parts,
            snapshot: parts.live.current(),
            patterns: &patterns,
            wanted: &wanted,
            before: std::mem::take(&mut complete),
            complete: Complete::new(),
        };
        if let Err(error) = round.run(&namespace).await {
            parts.metrics.record_refresh("failed");
            tracing::warn!(namespace, %error, "the tags to refresh could not be listed; the next round tries again");
        }
        complete = round.complete;
        // servers that began together do not stay together
        time::sleep(refresh.interval.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}

/// One look at all tags of a namespace.
struct Round<'a> {
    parts: &'a Refreshing,
    snapshot: Arc<Snapshot>,
    patterns: &'a TagPatterns,
    wanted: &'a Wanted,
    before: Complete,
    complete: Complete,
}

impl Round<'_> {
    async fn run(&mut self, namespace: &str) -> registry::Result<()> {
        let snapshot = Arc::clone(&self.snapshot);
        let is_covered = |name: &Name| {
            let stated = snapshot.config().stated(name.as_str(), |table| table.refresh.as_ref());
            stated.is_some_and(|(prefix, _)| prefix == namespace) && snapshot.caches().of(name).is_some()
        };
        let beginning = if namespace == "*" { "" } else { namespace };
        let mut page = Page::<String>::default();
        loop {
            let names = self.parts.registry.catalog.list(&page, &[beginning], is_covered).await?;
            for name in &names.entries {
                self.repository(name).await?;
            }
            match names.entries.last() {
                Some(last) if names.more => page.last = Some(last.to_string()),
                _ => return Ok(()),
            }
        }
    }

    async fn repository(&mut self, name: &Name) -> registry::Result<()> {
        let mut page = Page::<String>::default();
        loop {
            let tags = match self.parts.registry.tags.list(name, &page).await {
                Err(registry::Error::NameUnknown(_)) => return Ok(()),
                tags => tags?,
            };
            for tag in &tags.entries {
                if !self.patterns.cover(tag) {
                    continue;
                }
                let outcome = self.tag(name, tag).await.unwrap_or_else(|error| {
                    tracing::warn!(%name, %tag, %error, "a tag could not be refreshed; the next round tries again");
                    "failed"
                });
                self.parts.metrics.record_refresh(outcome);
            }
            match tags.entries.last() {
                Some(last) if tags.more => page.last = Some(last.to_string()),
                _ => return Ok(()),
            }
        }
    }

    /// Refreshes one tag. Returns the outcome, for metrics.
    async fn tag(&mut self, name: &Name, tag: &Tag) -> mirror::Result<&'static str> {
        let Some(cached) = self.snapshot.caches().of(name) else { return Ok("unchanged") };
        let rule = self.snapshot.immutable_tags().of(name);
        let pull = ManifestPull {
            cached,
            name: name.clone(),
            largest: self.snapshot.config().max_manifest_size,
            memory: mirror::memory_enough(),
            immutable: Arc::new(move |tag| rule.covers(tag)),
            client: CLIENT,
            by: Actor { identity: "refresh".to_owned(), request: Suffix::random().to_string() },
        };
        let answered = self.parts.mirror.manifest(&pull, &Reference::Tag(tag.clone()), &|_, _| true).await?;
        if answered.served == Served::Stale {
            // the mirror has said why
            return Ok("failed");
        }
        let (key, digest) = ((name.clone(), tag.clone()), answered.value.digest);
        if self.before.get(&key) == Some(&digest) {
            self.complete.insert(key, digest);
            return Ok("unchanged");
        }
        let fetched = self.parts.mirror.image(&pull, &Reference::Digest(digest), self.wanted, |_| {}).await?;
        let came = answered.served == Served::Miss || fetched.blobs > 0;
        if came {
            let upstream = answered.upstream.as_deref().unwrap_or_default();
            tracing::info!(%name, %tag, %digest, upstream, %fetched, "a tag was refreshed");
        }
        if !fetched.missing.is_empty() {
            let missing = fetched.missing.join("; ");
            tracing::warn!(%name, %tag, %digest, missing, "a refreshed image is not whole; the next round tries again");
            return Ok("failed");
        }
        self.complete.insert(key, digest);
        Ok(if came { "fetched" } else { "unchanged" })
    }
}
