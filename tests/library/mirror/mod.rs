//! Caches over upstreams that answer wrongly, slowly, and not at all; and several servers over one store.

mod ages;
mod blobs;
mod cooldown;
mod images;
mod lists;
mod manifests;
mod senders;
mod shares;
mod world;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use simple_registry::{
    identity::Client,
    memory::Memory,
    mirror::{Error, Mirror, Options, Pull},
    oci::{Digest, Name},
    records::Actor,
    registry::{self, Registry, VerifyPulls},
    storage::{
        Store,
        disk::{self, DiskOptions},
    },
    telemetry::Metrics,
    upstream::{Base, Cached, CachedNamespace, Settings, Upstream, Upstreams},
};

use crate::upstream::hostile::{Hostile, Reply, Seen, answer};

/// A server with one cache, like a process of its own.
struct Server {
    registry: Arc<Registry>,
    mirror: Arc<Mirror>,
    metrics: Metrics,
    cached: Cached,
}

fn store(directory: &Path) -> Store {
    let operator = disk::operator(directory, DiskOptions { durable: false, ..DiskOptions::default() }).unwrap();
    Store::over(operator, None, Metrics::new())
}

fn name() -> Name {
    "hub/app".parse().unwrap()
}

fn by() -> Actor {
    Actor { identity: "ana".to_owned(), request: "1".to_owned() }
}

fn client(last: u8) -> Client {
    IpAddr::from([10, 0, 0, last]).into()
}

fn upstream(port: u16) -> Arc<Upstream> {
    upstream_with(port, |_| {})
}

fn upstream_with(port: u16, change: impl FnOnce(&mut Settings)) -> Arc<Upstream> {
    let mut settings = Settings {
        base: Base::parse(&format!("http://127.0.0.1:{port}/v2/hub")).unwrap(),
        max_redirect: 5,
        server_ca_bundle: None,
        client_identity: None,
        credentials: None,
        timeout: Duration::from_secs(10),
        token_hosts: Vec::new(),
        redirect_hosts: Vec::new(),
    };
    change(&mut settings);
    Arc::new(Upstream::new(settings, &Memory::new(1 << 20)).unwrap())
}

impl Server {
    /// Starts a server over the store in a directory, with these upstreams in order.
    fn start(directory: &Path, ports: &[u16]) -> Self {
        Self::start_with(directory, ports, 1 << 30, Duration::from_secs(1))
    }

    /// Starts a server whose blobs have at most so many bytes.
    fn start_with_limit(directory: &Path, ports: &[u16], limit: u64) -> Self {
        Self::start_with(directory, ports, limit, Duration::from_secs(1))
    }

    /// Starts a server that waits so long for the next bytes of an upstream.
    fn start_with(directory: &Path, ports: &[u16], limit: u64, pace: Duration) -> Self {
        Self::start_over(store(directory), ports, limit, pace)
    }

    fn start_over(store: Store, ports: &[u16], limit: u64, pace: Duration) -> Self {
        let options = registry::Options {
            lease: Duration::from_hours(24),
            cache_ttl: Duration::ZERO,
            max_blob_size: limit,
            allow_missing_references: false,
            verify_pulls: VerifyPulls::None,
        };
        let metrics = Metrics::new();
        let registry = Arc::new(Registry::new(store, options, metrics.clone()));
        let mirror = Mirror::new(&registry, Options { idle: Duration::from_millis(300), pace }, metrics.clone());
        let upstreams = Upstreams::new(ports.iter().copied().map(upstream).collect());
        let namespace =
            CachedNamespace { upstreams, manifest_ttl: Duration::ZERO, cooldown: Duration::ZERO, stale_if_error: true };
        let cached = Cached { namespace: Arc::new(namespace), rest: "app".to_owned() };
        Self { registry, mirror, metrics, cached }
    }

    fn pull(&self, digest: &Digest) -> Result<Pull, Error> {
        self.pull_by(1, digest)
    }

    fn pull_by(&self, last: u8, digest: &Digest) -> Result<Pull, Error> {
        self.mirror.pull(&self.cached, &name(), digest, &by(), client(last))
    }

    /// Pulls a blob to its end, and returns the bytes that came, with the error that broke them off.
    async fn read(&self, digest: &Digest) -> (Vec<u8>, Option<Error>) {
        let pull = match self.pull(digest) {
            Ok(pull) => pull,
            Err(error) => return (Vec::new(), Some(error)),
        };
        match pull.size().await {
            Ok(size) => self.read_of(pull, 0..size).await,
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    async fn read_of(&self, pull: Pull, range: std::ops::Range<u64>) -> (Vec<u8>, Option<Error>) {
        let mut stream = pull.read(Arc::clone(&self.registry), range);
        let mut bytes = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(more)) => bytes.extend_from_slice(&more),
                Ok(None) => return (bytes, None),
                Err(error) => return (bytes, Some(error)),
            }
        }
    }

    async fn has(&self, digest: &Digest) -> bool {
        self.registry.blobs.get(&name(), digest).await.is_ok()
    }
}

/// Returns bytes that look like none others.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Answers a request for a blob: whole, or from the offset of `Range` on.
fn blob(seen: &Seen, bytes: &[u8]) -> Reply {
    let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        None => answer(200, &[("content-type", "application/octet-stream")], bytes),
        Some(from) if from >= bytes.len() => answer(416, &[], b""),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            answer(206, &[("content-range", &range)], &bytes[from..])
        }
    }
}

/// Starts an upstream that has every blob, as it says, and answers each `GET` so.
async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Hostile {
    let head = |seen: &Seen| seen.line.starts_with("HEAD");
    Hostile::start(move |seen| if head(seen) { Reply::Bytes(b"HTTP/1.1 200 x\r\n\r\n".to_vec()) } else { reply(seen) })
        .await
}

/// Counts the requests for the bytes of blobs.
fn gets(hub: &Hostile) -> usize {
    hub.lines().iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
}
