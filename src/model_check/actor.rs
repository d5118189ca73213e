//! The operations of processes, by the real registry and the real scrub, and the answers to their clients.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};

mod deeds;
mod rules;

pub(super) use self::rules::{DAYS, DELETING, IMMUTABLE, PLAIN, RETAINING, Rules, TRASHING, UNTAGGING};
use super::{
    answers::{Ack, Answers},
    bucket::{Bucket, LEASE},
    service::Way,
};
use crate::{
    action::Upload,
    config::{self, Config, Untagged},
    oci::{Algorithm, Digest, MediaType, Name, Reference, Tag},
    policy::Policy,
    records::{Actor, key::Prefix},
    registry::{self, Chunk, Error, PutManifest, Registry, VerifyPulls},
    scrub::{self, Event, Observer, Pass, ScrubError},
    storage::{Moment, Store},
    telemetry::Metrics,
};

/// One process: a server of its own over the shared store, with its operations.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) number: usize,
    way: Way,
    /// Made when it is first needed: most of a run's time goes into its caches, and scrub has a registry of its own.
    registry: Arc<OnceLock<Registry>>,
    store: Store,
    lease: Duration,
    keeps: bool,
    answers: Arc<Mutex<Answers>>,
    calls: Arc<Mutex<usize>>,
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let mut config = Config::default();
    config.scrub = config::Scrub {
        upload_expiry: LEASE,
        grace: Duration::ZERO,
        trash: Duration::ZERO,
        untagged: Untagged::Delete,
        untagged_grace: Duration::ZERO,
        ..config.scrub
    };
    config
});

static KEEPING: LazyLock<Config> = LazyLock::new(|| {
    let mut config = CONFIG.clone();
    config.scrub.untagged = Untagged::Keep;
    config
});

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::build(&CONFIG, &[]).expect("no rules are right"));

/// An observer that ignores all events.
struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: &Event) -> Result<(), String> {
        Ok(())
    }

    fn progress(&self, _: Pass, _: u64, _: u64) {}

    fn looks_on(&self) -> bool {
        false
    }
}

fn store(way: Way, ordered: bool) -> Store {
    let clock = way.clock().clone();
    Store::over(way.operator(), ordered.then_some(5 << 20), METRICS.clone()).with_clock(clock)
}

fn body(bytes: &Bytes) -> Chunk {
    let length = Some(bytes.len() as u64);
    let body = stream::iter([Ok(bytes.clone())]).boxed();
    Chunk { range: None, length, body, progress: Arc::new(|| {}) }
}

impl Client {
    pub(super) fn new(number: usize, way: Way, ordered: bool, keeps: bool, answers: Arc<Mutex<Answers>>) -> Self {
        let store = store(way.clone(), ordered);
        Self { number, way, registry: Arc::default(), store, lease: LEASE, keeps, answers, calls: Arc::default() }
    }

    /// Returns this process with another lease in its configuration. It has done nothing yet.
    pub(super) fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| {
            let options = registry::Options {
                lease: self.lease,
                cache_ttl: Duration::ZERO,
                max_blob_size: 1 << 30,
                allow_missing_references: false,
                verify_pulls: VerifyPulls::None,
            };
            Registry::new(self.store.clone(), options, METRICS.clone())
        })
    }

    /// Returns whether this process gave up on a write or delete. If so, its operations may fail.
    pub(super) fn gave_up(&self) -> bool {
        self.way.gave_up.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub(super) fn bucket(&self) -> &Arc<Bucket> {
        &self.way.bucket
    }

    /// Returns the time by the clocks of this process.
    pub(super) fn now(&self) -> Moment {
        self.way.clock().now()
    }

    pub(super) fn since(&self, then: Moment) -> Duration {
        self.way.clock().since(then)
    }

    /// Returns the keys under a prefix, seen from outside.
    pub(super) fn keys(&self, prefix: Prefix<'_>) -> Vec<String> {
        self.bucket().keys(&prefix.to_string())
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no test panics while it holds the answers")
    }

    /// Begins an operation. Returns its author, with a name of its own.
    pub(super) async fn begin(&self, what: &str) -> Actor {
        let call = {
            let mut calls = self.calls.lock().expect("nobody panics counting");
            *calls += 1;
            *calls
        };
        self.bucket().begin(self.way.process, what).await;
        Actor { identity: format!("{what}{}{call}", self.mark()), request: String::new() }
    }

    /// Returns the text in the author's name of everything that this process writes.
    fn mark(&self) -> String {
        format!(" of {}.", self.number)
    }

    /// Returns the answer that this process is to get about a blob. Earlier answers about the blob do not count from
    /// here on.
    fn blob_ack(&self, name: &Name, digest: &Digest) -> Ack {
        let ack = Ack::Blob(name.clone(), *digest, self.mark());
        let before = ack.clone();
        self.take_back(move |other| *other == before);
        ack
    }

    fn done<T>(&self, by: &Actor, result: &registry::Result<T>, acks: impl IntoIterator<Item = Ack>) -> bool {
        let mut answers = self.answers();
        match result {
            Ok(_) => {
                answers.log.push(format!("{}: done", by.identity));
                answers.acked.extend(acks);
                true
            }
            Err(error) => {
                answers.log.push(format!("{}: {error}", by.identity));
                // a client that is told to try again is no failure; an error of the store is one
                if matches!(error, Error::Storage(_)) && !self.gave_up() {
                    answers.failed.push(format!("{}: {error}", by.identity));
                }
                false
            }
        }
    }

    /// Records a failure if something had to be done and was not.
    pub(super) fn must(&self, done: bool, what: &str) {
        if !done && !self.gave_up() {
            self.answers()
                .failed
                .push(format!("process {} could not {what}, and nothing speaks against it", self.number));
        }
    }

    fn take_back(&self, gone: impl Fn(&Ack) -> bool + Send + Sync + 'static) {
        let mut answers = self.answers();
        answers.acked.retain(|ack| !gone(ack));
        answers.void.push(Arc::new(gone));
    }

    pub(super) async fn put_blob(&self, name: &Name, bytes: &Bytes) -> bool {
        let by = self.begin("push a blob").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let ack = self.blob_ack(name, &digest);
        let result = self.registry().uploads.put_blob(name, &digest, body(bytes), &by).await;
        self.done(&by, &result, [ack])
    }

    /// Uploads in two requests, each begun on its own.
    pub(super) async fn upload(&self, name: &Name, bytes: &Bytes) -> bool {
        let half = bytes.len() / 2;
        let Some(upload) = self.start(name, bytes, half).await else { return false };
        self.finish(name, &upload, bytes, half).await
    }

    /// Begins an upload, with its first chunk.
    pub(super) async fn start(&self, name: &Name, bytes: &Bytes, first: usize) -> Option<Upload> {
        let by = self.begin("start an upload").await;
        let status = self.registry().uploads.start(name, Algorithm::Sha256, "", &by).await.ok()?;
        let upload = Upload { id: status.id, state: Some(status.state) };
        let chunk = bytes.slice(..first);
        let status = self.registry().uploads.append(name, &upload, body(&chunk)).await.ok()?;
        Some(Upload { id: status.id, state: Some(status.state) })
    }

    pub(super) async fn finish(&self, name: &Name, upload: &Upload, bytes: &Bytes, first: usize) -> bool {
        let by = self.begin("finish an upload").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let rest = bytes.slice(first..);
        let ack = self.blob_ack(name, &digest);
        let result = self.registry().uploads.complete(name, upload, &digest, body(&rest), &by).await;
        self.done(&by, &result, [ack])
    }

    pub(super) async fn mount(&self, name: &Name, digest: &Digest, from: &Name) -> bool {
        let by = self.begin("mount a blob").await;
        let ack = self.blob_ack(name, digest);
        let result = self.registry().blobs.mount(name, digest, Some(from), |_| true, &by).await;
        let found = matches!(result, Ok(Some(_)));
        self.done(&by, &result, found.then_some(ack)) && found
    }

    pub(super) async fn head(&self, name: &Name, digest: &Digest) -> bool {
        let by = self.begin("ask for a blob").await;
        let ack = self.blob_ack(name, digest);
        let result = self.registry().blobs.get_to_rely_on(name, digest, &by).await;
        self.done(&by, &result, [ack])
    }

    pub(super) async fn put_manifest(&self, name: &Name, bytes: &Bytes, tag: Option<&Tag>) -> bool {
        let by = self.begin("push a manifest").await;
        // its newest version is no older than this, and scrub may remove it a lease later
        let until = self.bucket().clock.now_ms() + u64::try_from(LEASE.as_millis()).unwrap_or_default();
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let reference = tag.map_or(Reference::Digest(digest), |tag| Reference::Tag(tag.clone()));
        let put = PutManifest { reference, tags: Vec::new(), media_type: None::<MediaType>, bytes: bytes.clone() };
        let result = self.registry().manifests.put(name, &put, &by).await;
        let ack = match tag {
            Some(tag) => Ack::Tag(name.clone(), tag.clone(), digest),
            None => Ack::Manifest(name.clone(), digest, (!self.keeps).then_some(until)),
        };
        self.done(&by, &result, [ack])
    }

    pub(super) async fn delete_tag(&self, name: &Name, tag: &Tag) -> bool {
        let by = self.begin("delete a tag").await;
        let (of, which) = (name.clone(), tag.clone());
        self.take_back(move |ack| matches!(ack, Ack::Tag(name, tag, _) if *name == of && *tag == which));
        let result = self.registry().tags.delete(name, tag, &by).await;
        self.done(&by, &result, [])
    }

    pub(super) async fn delete_manifest(&self, name: &Name, digest: &Digest) -> bool {
        let by = self.begin("delete a manifest").await;
        let result = self.registry().manifests.delete(name, digest, &by).await;
        self.done(&by, &result, [])
    }

    pub(super) async fn delete_blob(&self, name: &Name, digest: &Digest) -> bool {
        let by = self.begin("delete a blob").await;
        let result = self.registry().blobs.delete(name, digest, &by).await;
        self.done(&by, &result, [])
    }

    pub(super) async fn scrub(&self, passes: &[Pass]) {
        let config = if self.keeps { &*KEEPING } else { &*CONFIG };
        self.scrub_by(config, &POLICY, passes).await;
    }

    async fn scrub_by(&self, config: &Config, policy: &Policy, passes: &[Pass]) {
        let by = self.begin("scrub").await;
        let options = scrub::Options {
            dry_run: false,
            passes: passes.iter().copied().collect::<BTreeSet<_>>(),
            repository: None,
            verify_percent: 100,
            max_duration: None,
        };
        let mut config = config.clone();
        config.scrub.upload_expiry = self.lease;
        let result = scrub::run(&self.store, &config, policy, options, Arc::new(Deaf), METRICS.clone()).await;
        let mut answers = self.answers();
        match result {
            // a run that sees the store's clock set back removes nothing more
            Err(ended) if matches!(ended.error, ScrubError::ClockSetBack(_)) => {
                answers.log.push(format!("{}: {ended}", by.identity));
            }
            Ok(summary) => answers.log.push(format!("{}: removed {:?}", by.identity, summary.removed)),
            Err(error) if self.gave_up() => answers.log.push(format!("{}: {error}", by.identity)),
            Err(error) => answers.failed.push(format!("{}: {error}", by.identity)),
        }
    }
}
