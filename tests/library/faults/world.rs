//! One store on a directory, servers on it, an image, and what must hold whatever went wrong.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::{
    faults::layer::{Fault, Faults, Plan},
    support::{chunk_in_pieces, wait_for_no_temporaries},
};
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use simple_registry::{
    action::Page,
    oci::{Digest, MediaType, Name, Reference},
    records::Actor,
    registry::{Chunk, Error, Options, PutManifest, Registry, VerifyPulls},
    storage::{
        FaultKind, Store,
        disk::{self, DiskOptions},
    },
    telemetry::Metrics,
};

pub(crate) use crate::support::sha256;

/// The settings of a server.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) cache_ttl: Duration,
    pub(crate) verify_pulls: VerifyPulls,
}

/// Alone on its store: it may remember for as long as it likes.
pub(crate) const ALONE: Setting = Setting { cache_ttl: Duration::from_mins(10), verify_pulls: VerifyPulls::None };

/// One of several on a store: what it remembers would be another one's old truth.
pub(crate) const ONE_OF_TWO: Setting = Setting { cache_ttl: Duration::ZERO, verify_pulls: VerifyPulls::None };

/// A request that was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server says so.
    Error(Error),
    /// The server said nothing, and the client went away.
    Silence,
}

/// A store.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) faults: Faults,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: in_memory().unwrap(), faults: Faults::default() }
    }

    /// Returns a server that remembers nothing, as after a restart.
    pub(crate) fn server(&self, setting: Setting) -> Registry {
        server_on(self.directory.path(), &self.faults, setting)
    }

    /// Returns a client of servers that take turns, request by request.
    pub(crate) fn client(&self, servers: usize) -> Client {
        let setting = if servers == 1 { ALONE } else { ONE_OF_TWO };
        let servers = (0..servers).map(|_| self.server(setting)).collect();
        Client { servers, turn: AtomicUsize::new(0), faults: self.faults.clone() }
    }

    /// Fails if anything half-written stays.
    pub(crate) async fn expect_no_temporaries(&self) {
        wait_for_no_temporaries(self.directory.path()).await;
    }
}

/// Returns a server of the store in that directory.
pub(crate) fn server_on(directory: &Path, faults: &Faults, setting: Setting) -> Registry {
    // no syncs, which no test here can see, and blocks so small that a layer has several
    let options = DiskOptions { durable: false, chunk: 64 * 1024, ..DiskOptions::default() };
    let operator = disk::operator(directory, options).unwrap().layer(faults.clone());
    let options = Options {
        lease: Duration::from_hours(24),
        cache_ttl: setting.cache_ttl,
        max_blob_size: 1 << 30,
        allow_missing_references: false,
        verify_pulls: setting.verify_pulls,
    };
    Registry::new(Store::over(operator, None, Metrics::new()), options, Metrics::new())
}

/// A client and the servers it speaks to.
pub(crate) struct Client {
    pub(crate) servers: Vec<Registry>,
    turn: AtomicUsize,
    faults: Faults,
}

impl Client {
    /// Returns the server that takes the next request.
    pub(crate) fn server(&self) -> &Registry {
        &self.servers[self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len()]
    }

    /// Returns the outcome of a request by a client that goes away when there is no answer. In a box, since requests are large.
    pub(crate) fn request<'a, T>(
        &'a self,
        work: impl Future<Output = Result<T, Error>> + 'a,
    ) -> LocalBoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                done = work => done.map_err(Failure::Error),
                () = self.faults.stalled() => Err(Failure::Silence),
            }
        })
    }
}

/// An image of two layers.
pub(crate) struct Image {
    pub(crate) config: Bytes,
    pub(crate) layers: [Bytes; 2],
    pub(crate) manifest: Bytes,
}

impl Image {
    /// Makes another image for each seed. All have the same second layer.
    pub(crate) fn new(seed: u64) -> Self {
        let config: Bytes = format!(r#"{{"seed":{seed}}}"#).into();
        let layers = [pattern(seed, 300_000), pattern(0, 20_000)];
        let described = |kind: &str, bytes: &[u8]| {
            let digest = sha256(bytes);
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","size":{},"digest":"{digest}"}}"#, bytes.len())
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{},{}]}}"#,
            MediaType::OCI_MANIFEST,
            described("config.v1+json", &config),
            described("layer.v1.tar", &layers[0]),
            described("layer.v1.tar", &layers[1]),
        );
        Self { config, layers, manifest: manifest.into() }
    }

    pub(crate) fn digest(&self) -> Digest {
        sha256(&self.manifest)
    }

    pub(crate) fn blobs(&self) -> [&Bytes; 3] {
        [&self.config, &self.layers[0], &self.layers[1]]
    }

    pub(crate) fn put(&self, tag: &str) -> PutManifest {
        let reference = Reference::Tag(tag.parse().unwrap());
        PutManifest { reference, tags: vec![], media_type: None, bytes: self.manifest.clone() }
    }
}

/// Bytes that tell their place, out of as many words that are made once.
fn pattern(seed: u64, length: usize) -> Bytes {
    static WORDS: LazyLock<Vec<u8>> = LazyLock::new(|| (0..40_000_u64).flat_map(u64::to_le_bytes).collect());
    let start = usize::try_from(seed).unwrap();
    Bytes::from_static(&WORDS[start..start + length])
}

pub(crate) fn name() -> Name {
    "faults/image".parse().unwrap()
}

pub(crate) fn by() -> Actor {
    Actor::default()
}

/// Returns a body that comes in pieces, as from a network.
pub(crate) fn chunk(bytes: &Bytes) -> Chunk {
    chunk_in_pieces(bytes.chunks(60_000).map(|piece| bytes.slice_ref(piece)).collect())
}

/// Reads a blob to its end.
pub(crate) async fn pull_blob(server: &Registry, digest: &Digest) -> Result<Vec<u8>, Error> {
    let blob = server.blobs.get(&name(), digest).await?;
    let chunks: Vec<Bytes> = server.blobs.read(&name(), &blob, None).await?.try_collect().await?;
    Ok(chunks.concat())
}

/// Returns whether the repository has the blob. Fails the test if it has wrong bytes.
pub(crate) async fn has_blob(server: &Registry, bytes: &Bytes) -> bool {
    match pull_blob(server, &sha256(bytes)).await {
        Ok(read) => {
            assert!(read == *bytes, "another blob than was asked for");
            true
        }
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => panic!("a store that works is told to be broken: {error:?}"),
    }
}

/// Returns whether the image is there under that reference. Fails the test if a part of it is missing.
pub(crate) async fn has_image(server: &Registry, reference: Reference, image: &Image) -> bool {
    match server.manifests.get(&name(), &reference).await {
        Ok(stored) => {
            assert_eq!((stored.digest, &stored.bytes), (image.digest(), &image.manifest));
            for blob in image.blobs() {
                assert!(has_blob(server, blob).await, "{reference} answers, and cannot be pulled");
            }
            true
        }
        Err(Error::ManifestUnknown { .. }) => false,
        Err(error) => panic!("a store that works is told to be broken: {error:?}"),
    }
}

pub(crate) fn tagged(tag: &str) -> Reference {
    Reference::Tag(tag.parse().unwrap())
}

/// Returns the listed tags. Fails the test if one of them does not answer.
pub(crate) async fn listed_tags(server: &Registry) -> BTreeSet<String> {
    let listed = match server.tags.list(&name(), &Page::default()).await {
        Ok(listed) => listed.entries,
        Err(Error::NameUnknown(_)) => vec![],
        Err(error) => panic!("a store that works is told to be broken: {error:?}"),
    };
    for tag in &listed {
        let found = server.manifests.get(&name(), &Reference::Tag(tag.clone())).await;
        assert!(found.is_ok(), "tag {tag} is listed, and does not answer: {found:?}");
    }
    listed.iter().map(ToString::to_string).collect()
}

/// Fails the test unless the request that was hit had the outcome that its fault must have.
#[track_caller]
pub(crate) fn expect_outcome<T>(plan: Plan, hits: &[String], outcome: &Result<T, Failure>) {
    let kind = match outcome {
        Ok(_) => None,
        Err(Failure::Silence) => {
            assert!(matches!(plan.fault, Fault::Stalls | Fault::Silent), "{plan:?}: {hits:?}");
            return;
        }
        Err(Failure::Error(Error::Storage(error))) => Some(error.kind),
        Err(Failure::Error(error)) => panic!("{plan:?}: {hits:?}: a fault is told as something else: {error:?}"),
    };
    let right = match plan.fault {
        _ if hits.is_empty() => kind.is_none(),
        Fault::Fails | Fault::Lost => kind == Some(FaultKind::Unavailable),
        Fault::Hiccups => kind == plan.lasting.then_some(FaultKind::Unavailable),
        Fault::Full => kind == Some(FaultKind::Full),
        // what was tried again may be told to be over
        Fault::TimesOut => kind.is_none_or(|kind| kind == FaultKind::Unavailable),
        Fault::Stalls | Fault::Waits | Fault::Silent => false,
        // cutting nothing off is no fault
        Fault::Cut | Fault::Rots => kind.is_none_or(|kind| kind == FaultKind::Damaged),
    };
    assert!(right, "{plan:?}: {hits:?}: {kind:?}");
}

/// Tries operation after operation, several at a time, until `try_at` says that there was none; fails where that was before the
/// `least`th.
pub(crate) fn every_operation<F: Future<Output = bool>>(least: usize, try_at: impl Fn(usize) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(4).enable_all().build().unwrap();
    let tried = runtime.block_on(async {
        let all = stream::iter(0..).map(try_at).buffered(6).take_while(|hit| std::future::ready(*hit));
        all.count().await
    });
    runtime.shutdown_background();
    assert!(tried >= least, "there were {tried} operations alone, so that most were never tried");
}

/// Makes a temporary directory, in memory if possible, since these tests do not test the disk.
fn in_memory() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}
