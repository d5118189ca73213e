//! Compares configurations: which keys take effect while a server runs, and which need a restart.

use super::model::{Config, FsStorage, S3Storage, Storage, Tracing};

/// Compares one part of two configurations.
type Differ = fn(&Config, &Config) -> bool;

/// Compares the values of an expression in two configurations.
macro_rules! differ {
    ($($field:ident).+) => {
        |old, new| old.$($field).+ != new.$($field).+
    };
}

/// The same for `[storage.fs]`, `[storage.s3]`, where both are such a storage.
macro_rules! differ_in_storage {
    ($of:ident, $field:ident) => {
        |old, new| matches!(($of(old), $of(new)), (Some(old), Some(new)) if old.$field != new.$field)
    };
}

/// The keys, or tables, that take effect after a restart: listeners, what is counted or measured out at the start, where
/// things are stored and logged, and the key that tokens are signed with. Everything else is live.
const AFTER_A_RESTART: &[(&str, Differ)] = &[
    ("max_concurrent_requests", differ!(max_concurrent_requests)),
    ("max_concurrent_transfers", differ!(max_concurrent_transfers)),
    ("max_uploads_per_address", differ!(max_uploads_per_address)),
    ("max_uploads_per_identity", differ!(max_uploads_per_identity)),
    ("max_uploads_per_repository", differ!(max_uploads_per_repository)),
    ("min_transfer_rate", differ!(min_transfer_rate)),
    ("cache_size", differ!(cache_size)),
    ("document_memory", differ!(document_memory)),
    ("max_blob_size", differ!(max_blob_size)),
    ("allow_missing_references", differ!(allow_missing_references)),
    ("cache_ttl", differ!(cache_ttl)),
    ("verify_pulls", differ!(verify_pulls)),
    ("server.bind_address", differ!(server.bind_address)),
    ("server.port", differ!(server.port)),
    ("server.query_timeout_grace_period", differ!(server.query_timeout_grace_period)),
    ("server.streaming_chunk_size", differ!(server.streaming_chunk_size)),
    // Certificates are live; whether there is TLS is not.
    ("server.tls", |old, new| old.server.tls.is_some() != new.server.tls.is_some()),
    ("storage", |old, new| fs(old).is_some() != fs(new).is_some()),
    ("storage.fs.root_dir", differ_in_storage!(fs, root_dir)),
    ("storage.fs.durable", differ_in_storage!(fs, durable)),
    ("storage.fs.mode", differ_in_storage!(fs, mode)),
    ("storage.s3.access_key_id", differ_in_storage!(s3, access_key_id)),
    (
        "storage.s3.secret_key",
        |old, new| matches!((s3(old), s3(new)), (Some(old), Some(new)) if !same_secret(old, new)),
    ),
    ("storage.s3.endpoint", differ_in_storage!(s3, endpoint)),
    ("storage.s3.bucket", differ_in_storage!(s3, bucket)),
    ("storage.s3.region", differ_in_storage!(s3, region)),
    ("storage.s3.key_prefix", differ_in_storage!(s3, key_prefix)),
    ("storage.s3.multipart_min_part_size", differ_in_storage!(s3, multipart_min_part_size)),
    ("token.signing_key", differ!(token.signing_key)),
    ("audit.file", differ!(audit.file)),
    ("audit.max_size", differ!(audit.max_size)),
    ("audit.max_age", differ!(audit.max_age)),
    ("audit.keep_age", differ!(audit.keep_age)),
    ("audit.max_total_size", differ!(audit.max_total_size)),
    ("audit.on_error", differ!(audit.on_error)),
    ("observability.tracing.endpoint", differ!(observability.tracing.endpoint)),
    ("observability.tracing.sampling_rate", |old, new| {
        !same_rate(&old.observability.tracing, &new.observability.tracing)
    }),
    ("observability.logs.output", differ!(observability.logs.output)),
    ("observability.logs.format", differ!(observability.logs.format)),
    ("observability.logs.level", differ!(observability.logs.level)),
    ("observability.logs.requests", differ!(observability.logs.requests)),
    ("observability.metrics.listen", differ!(observability.metrics.listen)),
    ("observability.health.listen", differ!(observability.health.listen)),
    ("scrub.interval", differ!(scrub.interval)),
];

impl Config {
    /// Returns the keys that `new` changes and that need a restart: the paths of keys, or of a table that is new or
    /// gone (`server.tls`, or `storage` for another kind of store). All other keys can change while the server runs.
    #[must_use]
    pub fn changes_needing_restart(&self, new: &Self) -> Vec<&'static str> {
        AFTER_A_RESTART.iter().filter(|(_, differ)| differ(self, new)).map(|(path, _)| *path).collect()
    }
}

fn fs(config: &Config) -> Option<&FsStorage> {
    match &config.storage {
        Storage::Fs(fs) => Some(fs),
        Storage::S3(_) => None,
    }
}

fn s3(config: &Config) -> Option<&S3Storage> {
    match &config.storage {
        Storage::Fs(_) => None,
        Storage::S3(s3) => Some(s3),
    }
}

fn same_secret(old: &S3Storage, new: &S3Storage) -> bool {
    use secrecy::ExposeSecret;
    old.secret_key.expose_secret() == new.secret_key.expose_secret()
}

/// Compares rates as written. No rate is NaN.
fn same_rate(old: &Tracing, new: &Tracing) -> bool {
    old.sampling_rate.total_cmp(&new.sampling_rate).is_eq()
}
