//! The configuration as the rest of the program sees it.
//!
//! Defaults and limits are in `decode`; the reference for operators is `docs/reference/configuration.md`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// The whole configuration, valid. `Default` is what an empty file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How many requests are being answered at once, at least 1. More wait. A request stops counting once its answer has
    /// begun, and while its body streams in.
    pub max_concurrent_requests: usize,
    /// How many bodies are moving at once, in either direction, at least 1.
    pub max_concurrent_transfers: usize,
    /// The largest manifest that is accepted, in bytes, 1 KiB to 64 MiB.
    pub max_manifest_size: u64,
    /// The largest blob that is accepted, in bytes, at least 1 KiB.
    pub max_blob_size: u64,
    /// Whether a manifest is accepted though the repository does not have all of the blobs and manifests that it names.
    pub allow_missing_references: bool,
    /// How long what another server deleted or tagged anew may still be served as it was. Zero: not at all.
    pub cache_ttl: Duration,
    /// How many of the pulls of layers are hashed on their way out.
    pub verify_pulls: VerifyPulls,
    /// `[server]`
    pub server: Server,
    /// `[storage.fs]` or `[storage.s3]`
    pub storage: Storage,
    /// `[access_policy]`: for requests about no repository.
    pub access_policy: AccessPolicy,
    /// `[repository."<namespace>"]`, by namespace, which is `"*"` or a valid repository name. One covers that name and all
    /// below it; the longest wins; `"*"` covers the rest.
    pub repository: BTreeMap<String, Repository>,
    /// `[observability]`
    pub observability: Observability,
    /// `[scrub]`
    pub scrub: Scrub,
}

/// How many of the pulls of layers are hashed on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyPulls {
    /// No pull.
    None,
    /// Every pull.
    All,
    /// One pull in so many, at least 1.
    OneIn(u32),
}

/// `[server]`: where and how HTTP is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address to listen on.
    pub bind_address: IpAddr,
    /// The port to listen on. 0: any that is free.
    pub port: u16,
    /// How long a request may take to start its answer, counted from the end of its body, and how long a body may stay
    /// silent; never the length of a transfer that moves. At least 1 second.
    pub query_timeout: Duration,
    /// How long running requests get at shutdown.
    pub query_timeout_grace_period: Duration,
    /// How many bytes of a body are read at a time, 4 KiB to 64 MiB.
    pub streaming_chunk_size: u64,
}

/// Where everything is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    /// `[storage.fs]`, which is also what is meant where neither table is given.
    Fs(FsStorage),
    /// `[storage.s3]`
    S3(S3Storage),
}

/// `[storage.fs]`: a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsStorage {
    /// The directory; a relative path is relative to the working directory of the process. Not empty.
    pub root_dir: PathBuf,
    /// Whether what is acknowledged is on the disk before.
    pub durable: bool,
}

/// `[storage.s3]`: a bucket.
#[derive(Debug, Clone)]
pub struct S3Storage {
    /// The id of the key that requests are signed with. Not empty.
    pub access_key_id: String,
    /// The key that requests are signed with; `Debug` leaves it out. Not empty.
    pub secret_key: SecretString,
    /// The URL of the server: `http` or `https`, no user, query or fragment, no slash at its end.
    pub endpoint: String,
    /// The bucket, which has to exist.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What every key in the bucket begins with, without slashes at either end; empty for the bucket's root.
    pub key_prefix: String,
    /// The smallest part of a multipart upload but its last, in bytes; at least [`S3Storage::SMALLEST_PART`].
    pub multipart_min_part_size: u64,
}

impl S3Storage {
    /// The smallest part, but for the last, that S3 takes: 5 MiB ("Amazon S3 multipart upload limits").
    pub const SMALLEST_PART: u64 = 5 * 1024 * 1024;
}

impl PartialEq for S3Storage {
    fn eq(&self, other: &Self) -> bool {
        let Self { access_key_id, secret_key, endpoint, bucket, region, key_prefix, multipart_min_part_size } = self;
        *access_key_id == other.access_key_id
            && secret_key.expose_secret() == other.secret_key.expose_secret()
            && *endpoint == other.endpoint
            && *bucket == other.bucket
            && *region == other.region
            && *key_prefix == other.key_prefix
            && *multipart_min_part_size == other.multipart_min_part_size
    }
}

/// `[access_policy]`: what is allowed where nothing else decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Whether everyone may do everything. Where no policy that covers a request says so, it is denied.
    pub default_allow: Option<bool>,
    /// Always empty: nothing evaluates rules yet, so that a configuration that has some is refused.
    pub rules: Vec<String>,
}

/// `[repository."<namespace>"]`: what holds for the repositories it covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repository {
    /// `[repository."<namespace>".access_policy]`
    pub access_policy: AccessPolicy,
}

/// `[observability]`: how to watch the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Observability {
    /// `[observability.tracing]`
    pub tracing: Tracing,
    /// `[observability.logs]`
    pub logs: Logs,
    /// `[observability.metrics]`
    pub metrics: Metrics,
    /// `[observability.health]`
    pub health: Health,
}

/// `[observability.tracing]`: spans for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The URL of a receiver of OTLP over HTTP, without `/v1/traces` and without a slash at its end. None: no spans.
    pub endpoint: Option<String>,
    /// The share of requests whose spans are sent, 0 to 1.
    pub sampling_rate: f64,
}

/// `[observability.logs]`: what is logged, where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Where lines go.
    pub output: LogOutput,
    /// What a line looks like.
    pub format: LogFormat,
    /// Levels, alone or for a target, separated by commas, as `tracing_subscriber::EnvFilter` reads them.
    pub level: String,
    /// Whether each request is a line.
    pub requests: bool,
}

/// Where lines of the log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text where the output is a terminal, JSON otherwise.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
}

/// `[observability.metrics]`: `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where it answers.
    pub listen: Listen,
}

/// `[observability.health]`: `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where they answer.
    pub listen: Listen,
}

/// Where something other than the registry itself answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// At the address of the registry.
    Main,
    /// Nowhere.
    Off,
    /// At an address of its own, which metrics and health may share. Port 0: any that is free.
    Address(SocketAddr),
}

/// `[scrub]`: how unused bytes are collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    /// The lease: how long what is under way, an upload above all, is kept without a sign of life. At least 1 second.
    pub upload_expiry: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Config::default().server
    }
}

impl Default for FsStorage {
    fn default() -> Self {
        match Config::default().storage {
            Storage::Fs(fs) => fs,
            Storage::S3(_) => unreachable!("no table means a directory"),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::Fs(FsStorage::default())
    }
}

impl Default for Observability {
    fn default() -> Self {
        Config::default().observability
    }
}

impl Default for Scrub {
    fn default() -> Self {
        Config::default().scrub
    }
}
