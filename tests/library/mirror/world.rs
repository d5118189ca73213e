//! A cache with a cooldown, its upstream, and a clock that the tests move.

use std::{fs, path::Path, sync::Arc, time::Duration};

use simple_registry::{
    mirror::{ManifestPull, Served, memory_enough},
    oci::{Digest, Reference},
    registry::Clock,
};
use tempfile::TempDir;

use super::{
    Error, Hostile, Reply, Seen, Server, answer, by, client,
    manifests::{Hub, INDEX, LIMIT, whole},
    name, store,
};
use crate::support::sha256;

pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const COOLDOWN: Duration = Duration::from_hours(72);
/// The cooldown but for an hour.
pub(super) const REST: Duration = Duration::from_hours(71);

/// A cache with a cooldown of three days, its upstream, and the time.
pub(super) struct World {
    pub(super) directory: TempDir,
    pub(super) clock: Clock,
    pub(super) hub: Hub,
    pub(super) upstream: Hostile,
    pub(super) server: Server,
}

/// The exceptions of a client.
pub(super) type Exempt<'a> = &'a (dyn Fn(&Reference, u64) -> bool + Sync);

impl World {
    pub(super) async fn new() -> Self {
        let (directory, clock, hub) = (tempfile::tempdir().unwrap(), Clock::by_hand_alone(), Hub::default());
        let upstream = hub.start().await;
        let server = server(directory.path(), &clock, upstream.port);
        Self { directory, clock, hub, upstream, server }
    }

    /// Starts another server over the same store.
    pub(super) fn other(&self) -> Server {
        server(self.directory.path(), &self.clock, self.upstream.port)
    }

    pub(super) fn set(&mut self, change: impl FnOnce(&mut simple_registry::upstream::CachedNamespace)) {
        change(Arc::get_mut(&mut self.server.cached.namespace).unwrap());
    }

    /// Has a manifest upstream, pulls it, and lets the cooldown pass.
    pub(super) async fn has_old(&self, tag: &str, manifest: &[u8]) -> Digest {
        self.hub.has(tag, manifest);
        self.server.held(tag).await;
        self.clock.advance(COOLDOWN);
        let (digest, _) = self.server.pulled(tag).await;
        assert_eq!(digest, sha256(manifest));
        digest
    }
}

fn server(directory: &Path, clock: &Clock, port: u16) -> Server {
    let mut server =
        Server::start_over(store(directory).with_clock(clock.clone()), &[port], 1 << 30, Duration::from_secs(1));
    Arc::get_mut(&mut server.cached.namespace).unwrap().cooldown = COOLDOWN;
    server
}

impl Server {
    pub(super) fn request(&self, immutable: bool) -> ManifestPull {
        ManifestPull {
            cached: self.cached.clone(),
            name: name(),
            largest: LIMIT,
            memory: memory_enough(),
            immutable: Arc::new(move |_| immutable),
            by: by(),
            client: client(1),
        }
    }

    pub(super) async fn asked(
        &self,
        reference: &str,
        exempt: Exempt<'_>,
        immutable: bool,
    ) -> Result<(Digest, Served), Error> {
        let pull = self.request(immutable);
        let reference = reference.parse().unwrap();
        let here = self.mirror.manifest_here(&pull, &reference).await;
        let answered = self.mirror.manifest(&pull, &reference, exempt).await;
        if let Some(here) = here? {
            let answered = answered.as_ref().unwrap();
            assert_eq!((here.value.digest, here.served), (answered.value.digest, answered.served));
        }
        answered.map(|answered| (answered.value.digest, answered.served))
    }

    pub(super) async fn pulled(&self, reference: &str) -> (Digest, Served) {
        self.asked(reference, &|_, _| false, false).await.unwrap()
    }

    /// Asserts that a pull is held back. Returns the manifest, and the time until then.
    pub(super) async fn held(&self, reference: &str) -> (Digest, Duration) {
        match self.asked(reference, &|_, _| false, false).await {
            Err(Error::Held(held)) => {
                assert_eq!(held.reference, reference.parse().unwrap());
                (held.digest, Duration::from_millis(held.until - self.registry.clock().time_ms()))
            }
            other => panic!("{reference}: {other:?}"),
        }
    }

    pub(super) async fn seen(&self, digest: &Digest) -> Option<u64> {
        self.registry.first_seen.of(&name(), digest, &by()).await.unwrap()
    }
}

/// Answers `HEAD` without a digest.
pub(super) fn silent(manifest: Vec<u8>) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |seen: &Seen| {
        let is_head = seen.line.starts_with("HEAD");
        if is_head { answer(200, &[("content-type", INDEX)], b"") } else { whole(seen, &manifest) }
    }
}

/// Returns a manifest with a subject.
pub(super) fn about(subject: &[u8]) -> Vec<u8> {
    let subject =
        format!(r#""subject":{{"mediaType":"{INDEX}","digest":"{}","size":{}}}"#, sha256(subject), subject.len());
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],{subject}}}"#).into_bytes()
}

pub(super) fn text(manifest: &[u8]) -> String {
    sha256(manifest).to_string()
}

/// Removes the records of first-seen times, as a store from before has none.
pub(super) fn forget(world: &World) {
    fs::remove_dir_all(world.directory.path().join("repos/hub/app!/first-seen")).unwrap();
}
