//! Tests scrub on bytes: it frees the unneeded ones, keeps the needed ones readable, and reports a fault once.

mod content;
mod copies;
mod lost;
mod needed;
mod uploads;

use std::{path::Path, time::Duration};

use futures::TryStreamExt as _;
use simple_registry::{
    oci::{Digest, MediaType, Name},
    registry::{Actor, Error, Registry},
    scrub::{self, Finding, Outcome, Pass, Reason, Removal, Summary, What},
};

use crate::scrub::world;

/// A store, and a server on it.
struct World {
    directory: tempfile::TempDir,
    server: Registry,
}

/// A run that has ended.
struct Ran {
    summary: Summary,
    removals: Vec<Removal>,
    findings: Vec<Finding>,
}

impl Ran {
    fn removed(&self) -> Vec<(What, Reason, u64)> {
        self.removals.iter().map(|removal| (removal.what, removal.reason, removal.size)).collect()
    }

    fn found(&self) -> Vec<Outcome> {
        self.findings.iter().map(|finding| finding.outcome).collect()
    }
}

fn name() -> Name {
    "a/b".parse().unwrap()
}

fn by() -> Actor {
    Actor { identity: "ann".into(), request: "r1".into() }
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = world::server(directory.path()).await;
        Self { directory, server }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    async fn push(&self, bytes: &[u8]) -> Digest {
        world::push_blob(&self.server, &name(), bytes).await
    }

    /// Pushes an image of one blob.
    async fn image(&self, config: &Digest, size: usize) -> Digest {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","size":{size},"digest":"{config}"}},"layers":[]}}"#,
            MediaType::OCI_MANIFEST
        );
        world::put(&self.server, &name(), &bytes, &["latest"]).await
    }

    /// Pushes a blob, and an image that needs it.
    async fn pushed(&self, bytes: &[u8]) -> Digest {
        let digest = self.push(bytes).await;
        self.image(&digest, bytes.len()).await;
        digest
    }

    fn keys(&self, beginning: &str) -> Vec<String> {
        world::keys(self.root()).into_iter().filter(|key| key.starts_with(beginning)).collect()
    }

    fn containing(&self, part: &str) -> Vec<String> {
        world::keys(self.root()).into_iter().filter(|key| key.contains(part)).collect()
    }

    /// Lets everything be older than a lease.
    fn age(&self) {
        world::age(self.root());
    }

    /// Reads a blob by a server that was started just now.
    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let server = world::server(self.root()).await;
        let blob = server.blobs.get(&name(), digest).await?;
        let stream = server.blobs.read(&name(), &blob, None).await?;
        Ok(stream.map_ok(|chunk| chunk.to_vec()).try_concat().await?)
    }

    async fn scrub(&self, passes: &[Pass]) -> Ran {
        self.scrub_with(passes, |_| {}).await
    }

    async fn scrub_with(&self, passes: &[Pass], change: impl FnOnce(&mut scrub::Options)) -> Ran {
        let mut config = world::config();
        config.scrub.trash = Duration::ZERO;
        let change = |options: &mut scrub::Options| {
            options.passes = passes.iter().copied().collect();
            change(options);
        };
        let (summary, told) = world::scrub_with(self.root(), &config, change).await.unwrap();
        Ran { summary, removals: told.removals(), findings: told.findings() }
    }
}

const GARBAGE: &[Pass] = &[Pass::Garbage];
const ALL: &[Pass] = &Pass::ALL;
