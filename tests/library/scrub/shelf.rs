//! A store in a directory with images in it, servers and scrubs on it, and a time of day that tests set.

use std::{fs, path::Path, time::Duration};

use crate::scrub::world;
use serde_json::json;
use simple_registry::{
    action::Page,
    config::Config,
    diagnostics::Source,
    oci::{Digest, MediaType, Name, Reference, Tag},
    records::key::Prefix,
    registry::{Clock, Error, Options, Registry, VerifyPulls},
    scrub::{self, Pass, Removal, Summary},
    storage::Store,
};

pub(crate) use crate::scrub::world::sha256;

/// The lease of servers and scrubs.
pub(crate) const LEASE: Duration = Duration::from_mins(10);

/// A store, and a server on it.
pub(crate) struct Shelf {
    directory: tempfile::TempDir,
    pub(crate) server: Registry,
    pub(crate) clock: Clock,
}

impl Shelf {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::by_hand_alone();
        let server = server(directory.path(), &clock).await;
        Self { directory, server, clock }
    }

    /// Returns a server that remembers nothing of what another one has read.
    pub(crate) async fn another_server(&self) -> Registry {
        server(self.root(), &self.clock).await
    }

    /// Returns the root of the store.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn store(&self) -> Store {
        world::store(self.root()).await
    }

    /// Lets time pass for the store: everything in it was written so much longer ago.
    pub(crate) fn age(&self, by: Duration) {
        for key in self.keys("") {
            let file = fs::File::options().write(true).open(self.directory.path().join(key)).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - by).unwrap();
        }
    }

    /// Returns the keys that begin with `prefix`, without the wishes for a lease. Each server and scrub adds its own wish.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = world::keys(self.root()).into_iter().filter(|key| !key.starts_with(&Prefix::Leases.to_string()));
        keys.filter(|key| key.starts_with(prefix)).collect()
    }

    /// Pushes an image that is `what`, under `tags`.
    pub(crate) async fn image(&self, to: &Name, what: &str, tags: &[&str]) -> Digest {
        self.referrer(to, what, None, tags).await
    }

    /// Pushes one that refers to `subject`.
    pub(crate) async fn referrer(&self, to: &Name, what: &str, subject: Option<&Digest>, tags: &[&str]) -> Digest {
        let config = format!("{{\"config\":\"{what}\"}}");
        let digest = world::push_blob(&self.server, to, config.as_bytes()).await;
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
        world::put(&self.server, to, &manifest.to_string(), tags).await
    }

    /// Pushes an index of these.
    pub(crate) async fn index(&self, to: &Name, children: &[Digest], tags: &[&str]) -> Digest {
        let mut listed = Vec::new();
        for child in children {
            let stored = self.server.manifests.get(to, &Reference::Digest(*child)).await.unwrap();
            listed.push(json!({ "mediaType": stored.media_type, "size": stored.bytes.len(), "digest": child }));
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed });
        world::put(&self.server, to, &manifest.to_string(), tags).await
    }

    /// Returns the tags that a client sees.
    pub(crate) async fn tags(&self, of: &Name) -> Vec<String> {
        let listed = self.server.tags.list(of, &Page { n: None, last: None }).await.unwrap();
        listed.entries.iter().map(Tag::to_string).collect()
    }

    /// Returns whether a client gets a manifest.
    pub(crate) async fn has(&self, of: &Name, digest: &Digest) -> bool {
        self.gets(of, &Reference::Digest(*digest)).await.is_some()
    }

    pub(crate) async fn gets(&self, of: &Name, reference: &Reference) -> Option<Digest> {
        match self.server.manifests.get(of, reference).await {
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
        let change = |options: &mut scrub::Options| {
            options.passes = [Pass::Retention, Pass::Garbage].into();
            change(options);
        };
        let (summary, told) =
            world::scrub_on(&self.store().await.with_clock(self.clock.clone()), config, change).await.unwrap();
        (summary, told.removals())
    }
}

async fn server(root: &Path, clock: &Clock) -> Registry {
    let change = |options: &mut Options| {
        options.lease = LEASE;
        options.verify_pulls = VerifyPulls::None;
    };
    world::server_on(world::store(root).await.with_clock(clock.clone()), change)
}

/// Returns a configuration with the lease of these tests.
pub(crate) fn config(text: &str) -> Config {
    let mut config = Config::from_sources(&[Source::new("config.toml", text)]).unwrap();
    config.scrub.upload_expiry = LEASE;
    config.scrub.grace = Duration::ZERO;
    config
}
