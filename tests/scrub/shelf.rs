//! A store in a directory with images in it, servers and scrubs on it, and a time of day that tests set.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::json;
use simple_registry::{
    action::Page,
    config::{Config, Source},
    oci::{Algorithm, Digest, MediaType, Name, Reference, Tag},
    policy::Policy,
    registry::{By, Chunk, Clock, Error, Options, PutManifest, Registry, VerifyPulls},
    scrub::{self, Event, Observer, Pass, Removal, Summary},
    storage::{Location, Store},
    telemetry::Metrics,
};

/// The lease of servers and scrubs.
const LEASE: Duration = Duration::from_mins(10);

/// A store, and a server on it.
pub(crate) struct Shelf {
    directory: tempfile::TempDir,
    pub(crate) server: Registry,
    pub(crate) clock: Clock,
}

impl Shelf {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::by_hand();
        let server = server(directory.path(), &clock).await;
        Self { directory, server, clock }
    }

    /// A server that remembers nothing of what another one has read.
    pub(crate) async fn another_server(&self) -> Registry {
        server(self.root(), &self.clock).await
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn store(&self) -> Store {
        open(self.directory.path()).await
    }

    /// Lets time pass for the store: everything in it was written so much longer ago.
    pub(crate) fn age(&self, by: Duration) {
        for key in self.keys("") {
            let file = fs::File::options().write(true).open(self.directory.path().join(key)).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - by).unwrap();
        }
    }

    /// The keys that begin with `prefix`.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(self.directory.path(), self.directory.path(), &mut found);
        found.retain(|key| key.starts_with(prefix) && !key.starts_with(".tmp"));
        found.sort();
        found
    }

    async fn blob(&self, to: &Name, bytes: &str) -> Digest {
        let digest = sha256(bytes);
        let body = stream::iter([Ok(Bytes::copy_from_slice(bytes.as_bytes()))]).boxed();
        let chunk = Chunk { range: None, length: Some(bytes.len() as u64), body, progress: Arc::new(|| {}) };
        self.server.put_blob(to, &digest, chunk, &By::default()).await.unwrap();
        digest
    }

    async fn put(&self, to: &Name, manifest: &serde_json::Value, tags: &[&str]) -> Digest {
        let bytes = manifest.to_string();
        let put = PutManifest {
            reference: Reference::Digest(sha256(&bytes)),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            media_type: None,
            bytes: bytes.into(),
        };
        self.server.put_manifest(to, &put, &By::default()).await.unwrap().digest
    }

    /// Pushes an image that is `what`, under `tags`.
    pub(crate) async fn image(&self, to: &Name, what: &str, tags: &[&str]) -> Digest {
        self.referrer(to, what, None, tags).await
    }

    /// Pushes one that refers to `subject`.
    pub(crate) async fn referrer(&self, to: &Name, what: &str, subject: Option<&Digest>, tags: &[&str]) -> Digest {
        let config = format!("{{\"config\":\"{what}\"}}");
        let digest = self.blob(to, &config).await;
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": digest },
            "layers": [],
            "annotations": { "what": what },
        });
        if let Some(subject) = subject {
            manifest["subject"] = json!({ "mediaType": MediaType::OCI_MANIFEST, "size": 1, "digest": subject });
        }
        self.put(to, &manifest, tags).await
    }

    /// Pushes an index of these.
    pub(crate) async fn index(&self, to: &Name, children: &[Digest], tags: &[&str]) -> Digest {
        let mut listed = Vec::new();
        for child in children {
            let stored = self.server.manifest(to, &Reference::Digest(*child)).await.unwrap();
            listed.push(json!({ "mediaType": stored.media_type, "size": stored.bytes.len(), "digest": child }));
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed });
        self.put(to, &manifest, tags).await
    }

    /// The tags that a client is told of.
    pub(crate) async fn tags(&self, of: &Name) -> Vec<String> {
        let listed = self.server.tags(of, &Page { n: None, last: None }).await.unwrap();
        listed.entries.iter().map(Tag::to_string).collect()
    }

    /// Whether a client gets a manifest.
    pub(crate) async fn has(&self, of: &Name, digest: &Digest) -> bool {
        self.gets(of, &Reference::Digest(*digest)).await.is_some()
    }

    pub(crate) async fn gets(&self, of: &Name, reference: &Reference) -> Option<Digest> {
        match self.server.manifest(of, reference).await {
            Ok(stored) => Some(stored.digest),
            Err(Error::ManifestUnknown { .. }) => None,
            Err(error) => panic!("{of} {reference}: {error}"),
        }
    }

    /// Scrubs what this configuration says, retention and garbage.
    pub(crate) async fn scrub(&self, config: &Config) -> Vec<Removal> {
        self.scrub_with(config, |_| ()).await.1
    }

    pub(crate) async fn scrub_with(
        &self,
        config: &Config,
        change: impl FnOnce(&mut scrub::Options),
    ) -> (Summary, Vec<Removal>) {
        let policy = Policy::build(config, &[]).unwrap();
        let mut options = scrub::Options {
            dry_run: false,
            passes: [Pass::Retention, Pass::Garbage].into(),
            repository: None,
            verify_percent: 100,
            max_duration: None,
            clock: self.clock.clone(),
        };
        change(&mut options);
        let told = Arc::new(Told::default());
        let observer = Arc::<Told>::clone(&told);
        let summary =
            scrub::run(&self.store().await, config, &policy, options, observer, Metrics::new()).await.unwrap();
        let events = std::mem::take(&mut *told.0.lock().unwrap());
        let removals = events.into_iter().filter_map(|event| match event {
            Event::Removal(removal) => Some(removal),
            Event::Finding(_) => None,
        });
        (summary, removals.collect())
    }
}

async fn server(root: &Path, clock: &Clock) -> Registry {
    let options = Options {
        lease: LEASE,
        cache_ttl: Duration::ZERO,
        max_blob_size: 1 << 30,
        allow_missing_references: false,
        verify_pulls: VerifyPulls::None,
        clock: clock.clone(),
    };
    Registry::new(open(root).await, options, Metrics::new())
}

async fn open(root: &Path) -> Store {
    let location = Location::Directory { root: root.to_owned(), durable: false, chunk: 1 << 16 };
    Store::open(&location, Metrics::new()).await.unwrap()
}

pub(crate) fn sha256(bytes: &str) -> Digest {
    Digest::of(Algorithm::Sha256, bytes.as_bytes())
}

/// A configuration with the lease of these tests.
pub(crate) fn config(text: &str) -> Config {
    let mut config = Config::from_sources(&[Source { name: "config.toml".to_owned(), text: text.to_owned() }]).unwrap();
    config.scrub.upload_expiry = LEASE;
    config.scrub.grace = Duration::ZERO;
    config
}

/// What a run told.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Observer for Told {
    fn event(&self, event: &Event) -> Result<(), String> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }

    fn progress(&self, _pass: Pass, _done: u64, _total: u64) {}
}
