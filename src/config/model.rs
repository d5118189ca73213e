//! The configuration as the rest of the program sees it.
//!
//! Defaults and limits are in `decode`; the reference for operators is `docs/reference/configuration.md`.

mod observability;
mod upstream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use crate::diagnostics::Text;

pub use self::{observability::*, upstream::*};

/// The whole configuration, valid. `Default` is what an empty file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The largest number of requests being answered at once, at least 1. More wait. A request stops counting once its answer has
    /// begun, and while its body streams in.
    pub max_concurrent_requests: usize,
    /// The largest number of bodies that move at once, in either direction, at least 1.
    pub max_concurrent_transfers: usize,
    /// The largest number of open uploads of an address without an identity, at least 1.
    pub max_uploads_per_address: usize,
    /// The largest number of open uploads of an identity, at least 1.
    pub max_uploads_per_identity: usize,
    /// The largest number of open uploads of a repository, at least 1.
    pub max_uploads_per_repository: usize,
    /// The bytes a second below which a transfer gives way to another client.
    pub min_transfer_rate: u64,
    /// The memory of all manifests and long answers under way, in bytes.
    pub document_memory: u64,
    /// The memory of all caches together, in bytes, at least 1 MiB.
    pub cache_size: u64,
    /// The largest manifest that is accepted, in bytes, 1 KiB to 64 MiB.
    pub max_manifest_size: u64,
    /// The largest blob that is accepted, in bytes, at least 1 KiB.
    pub max_blob_size: u64,
    /// True: a manifest is accepted although the repository lacks blobs or manifests that it names.
    pub allow_missing_references: bool,
    /// The time for which an old state may be served after another server changed it. Zero: not at all.
    pub cache_ttl: Duration,
    /// The share of pulls of layers that are hashed on their way out.
    pub verify_pulls: VerifyPulls,
    /// `[server]`
    pub server: Server,
    /// `[storage.fs]` or `[storage.s3]`
    pub storage: Storage,
    /// The directory of policy files. None: there are none, as without a configuration file.
    pub policy_dir: Option<PolicyDir>,
    /// `[access_policy]`: rules for all requests, and a default for those about no repository.
    pub access_policy: AccessPolicy,
    /// `[repository."<namespace>"]`, by namespace, which is `"*"` or a valid repository name. One covers that name and all
    /// below it; the longest wins; `"*"` covers the rest.
    pub repository: BTreeMap<String, Repository>,
    /// The namespace whose repositories docker means when it asks its mirror. It has a table.
    pub mirror_of: Option<String>,
    /// `[identity.<id>]`: who can log in with a password, by id. No two have one username.
    pub identity: BTreeMap<String, Identity>,
    /// `[token]`
    pub token: Token,
    /// `[audit]`
    pub audit: Audit,
    /// `[observability]`
    pub observability: Observability,
    /// `[scrub]`
    pub scrub: Scrub,
}

/// The directory of policy files: its own files that end in `.toml`, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDir {
    /// The directory.
    pub path: PathBuf,
    /// True if a file names the directory, so that its absence is an error. Otherwise it is the default, and may be
    /// absent.
    pub must_exist: bool,
}

/// The share of pulls of layers that are hashed on their way out.
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
    /// The time in which a request must start its answer, counted from the end of its body, and for which a body may stay
    /// silent; never the length of a transfer that moves. At least 1 second.
    pub query_timeout: Duration,
    /// The time that running requests get at shutdown.
    pub query_timeout_grace_period: Duration,
    /// The number of bytes of a body that are read at a time, 4 KiB to 64 MiB.
    pub streaming_chunk_size: u64,
    /// Proxies whose `X-Forwarded-` headers, or `Forwarded`, count, as addresses or networks.
    pub trusted_proxies: Vec<IpNet>,
    /// Names by which browsers may reach a server that is open to everyone on its machine.
    pub hosts: Vec<String>,
    /// `[server.tls]`. None: plain HTTP.
    pub tls: Option<Tls>,
}

/// `[server.tls]`: HTTPS, and client certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate and those between it and its authority, PEM.
    pub server_certificate_bundle: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub server_private_key: PathBuf,
    /// The authorities whose client certificates are accepted, PEM. None: no client certificate is asked for.
    pub client_ca_bundle: Option<PathBuf>,
    /// The treatment of a connection without a client certificate.
    pub client_auth: ClientAuth,
    /// Revocation lists of those authorities, PEM.
    pub client_crl: Option<PathBuf>,
}

/// The treatment of a connection without a client certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is, and is anonymous until it logs in.
    #[default]
    Optional,
    /// It is refused in the handshake.
    Required,
}

/// `[identity.<id>]`: somebody who can log in with a password.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The name to log in with: not empty, without a colon, and none by which records know who is no user.
    pub username: String,
    /// A hash of the password: an argon2 PHC string, or bcrypt. `Debug` leaves it out.
    pub password: SecretString,
    /// The groups, for policies.
    pub groups: Vec<String>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let Self { username, password, groups } = self;
        *username == other.username
            && password.expose_secret() == other.password.expose_secret()
            && *groups == other.groups
    }
}

/// `[token]`: bearer tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The URL where clients get a token. None: `/token` at the scheme and host of the request.
    pub realm: Option<String>,
    /// The file of the key that tokens are signed with; made where it is absent and somebody can log in.
    pub signing_key: PathBuf,
    /// The time for which a token is valid, 60 seconds to a day.
    pub ttl: Duration,
}

/// `[audit]`: the record of decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The destination of lines.
    pub file: AuditFile,
    /// The size at which a file is put aside, in bytes.
    pub max_size: u64,
    /// The age at which a file is put aside. Zero: never for its age.
    pub max_age: Duration,
    /// The time for which a file that was put aside is kept. Zero: for ever.
    pub keep_age: Duration,
    /// The largest size of all files together, in bytes. None: no limit.
    pub max_total_size: Option<u64>,
    /// The treatment of requests while no line can be written.
    pub on_error: OnAuditError,
}

/// The destination of the record of decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditFile {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

/// The treatment of requests while the record of decisions cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAuditError {
    /// They are refused with 503.
    Deny,
    /// They go on, unrecorded.
    Continue,
}

/// The storage.
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
    /// The directory. Not empty.
    pub root_dir: PathBuf,
    /// True: a push is on the disk before it is acknowledged.
    pub durable: bool,
    /// The permission bits of directories that the process creates. Files have the same without execution.
    pub mode: u32,
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
    /// The begin of every key in the bucket, without slashes at either end; empty for the bucket's root.
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

/// `[access_policy]`, `[repository."<namespace>".access_policy]`: what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// The decision where no rule decides. `true`: rules deny. `false` or not set: rules allow.
    pub default_allow: Option<bool>,
    /// Rules in CEL, as they are written; `policy` checks them.
    pub rules: Vec<Text>,
}

/// `[repository."<namespace>"]`: what holds for the repositories it covers. `None`: this table does not state the key, and
/// the table with the next shorter prefix that states it counts ([`Config::stated`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repository {
    /// `[repository."<namespace>".access_policy]`
    pub access_policy: Option<AccessPolicy>,
    /// `[repository."<namespace>".retention_policy] rules`: an image that none of them keeps goes. Empty: none goes for it.
    pub retention_rules: Option<Vec<Text>>,
    /// The immutable tags.
    pub immutable_tags: Option<ImmutableTags>,
    /// True: immutable tags may be deleted by clients whom policy lets delete.
    pub allow_delete: Option<bool>,
    /// `[[repository."<namespace>".upstream]]`: the registries that the repositories are cached from, in the order in which
    /// they are asked. Empty: the repositories are no caches.
    pub upstream: Option<Vec<Upstream>>,
    /// The registries whose names mean repositories of this namespace, where clients name a registry: hosts, perhaps with a
    /// port. Other namespaces do not inherit them.
    pub serves: Vec<String>,
    /// The time for which a cached tag is trusted without asking upstream.
    pub manifest_ttl: Option<Duration>,
    /// The time for which a cache holds a manifest back after it was first seen.
    pub cooldown: Option<Duration>,
    /// True: a cached tag is answered although no upstream could say what it means now.
    pub stale_if_error: Option<bool>,
    /// Conditions in CEL about a pull, as they are written; if one of them is true, the cooldown does not hold.
    pub cooldown_exceptions: Option<Vec<Text>>,
    /// The tags that the server keeps warm.
    pub refresh: Option<Refresh>,
}

/// `[repository."<namespace>"] immutable_tags`: which tags keep the meaning that they were first given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImmutableTags {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// The tags in which one of these regular expressions is found.
    Matching(Vec<String>),
}

/// `[scrub]`: the times after which things are removed, and the lease of operations in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    /// The lease: the time for which an operation in progress, such as an upload, is kept without a sign of life. At least 1
    /// second.
    pub upload_expiry: Duration,
    /// The time for which garbage is left alone, beyond the lease that protects operations in progress.
    pub grace: Duration,
    /// The time for which a deletion can be undone. Zero: not at all.
    pub trash: Duration,
    /// The treatment of manifests without a tag that nothing else needs.
    pub untagged: Untagged,
    /// The time for which a manifest without a tag is left alone.
    pub untagged_grace: Duration,
    /// `[scrub.tag_history]`
    pub tag_history: TagHistory,
    /// The time between two scrubs of a running server. None: a server does not scrub.
    pub interval: Option<Duration>,
    /// The destination of the record of deletions. None: beside the record of decisions, if that is a file; else nowhere.
    pub record: Option<AuditFile>,
}

/// The treatment of a manifest without a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// It stays.
    Keep,
    /// It goes, after [`Scrub::untagged_grace`].
    Delete,
}

/// `[scrub.tag_history]`: how much of what a tag meant before is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagHistory {
    /// The largest age of an entry.
    pub age: Duration,
    /// The largest number of entries of a tag, at least 1.
    pub count: u32,
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

impl Default for Scrub {
    fn default() -> Self {
        Config::default().scrub
    }
}

impl Default for Observability {
    fn default() -> Self {
        Config::default().observability
    }
}
