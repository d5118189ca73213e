//! Translates a configuration into the options of the modules that follow it.

use std::sync::Arc;

use crate::{
    config::{self, Config},
    http,
    memory::Memory,
    registry,
    storage::{Location, OpenError, Store},
    telemetry::{self, LogOptions, Metrics, TraceOptions},
};

/// The most bytes that a command reads at a time. A system may finish a read in progress before it serves others.
const STEP: usize = 128 * 1024;

/// Opens the configuration's store, for a command that works beside servers.
///
/// # Errors
/// A store that does not exist is an error, since a command must not create one for a mistyped path.
pub async fn open_store(config: &Config) -> Result<Store, OpenError> {
    let mut location = location(config);
    if let Location::Directory { chunk, .. } = &mut location {
        *chunk = STEP.min(*chunk);
    }
    Store::open_existing(&location, &Memory::new(config.cache_size), Metrics::new()).await
}

/// The part of `cache_size` for passwords and tokens.
const CREDENTIALS: u64 = 16;

/// Divides `cache_size`: returns the memory of the store, and that of passwords and tokens.
///
/// A forgotten password costs a slow hash. So nobody who pulls much may turn the passwords of others out.
pub(super) fn memories(config: &Config) -> (Arc<Memory>, Arc<Memory>) {
    let credentials = config.cache_size / CREDENTIALS;
    (Memory::new(config.cache_size - credentials), Memory::new(credentials))
}

/// Returns the location of the configuration's store.
#[must_use]
pub fn location(config: &Config) -> Location {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    match &config.storage {
        config::Storage::Fs(fs) => Location::Directory {
            root: fs.root_dir.clone(),
            durable: fs.durable,
            chunk: size(config.server.streaming_chunk_size),
        },
        config::Storage::S3(s3) => Location::Bucket {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
            region: s3.region.clone(),
            key_prefix: s3.key_prefix.clone(),
            access_key_id: s3.access_key_id.clone(),
            secret_key: s3.secret_key.clone(),
            part_size: size(s3.multipart_min_part_size),
        },
    }
}

/// Returns the options of the registry.
#[must_use]
pub fn registry_options(config: &Config) -> registry::Options {
    registry::Options {
        lease: config.scrub.upload_expiry,
        cache_ttl: config.cache_ttl,
        max_blob_size: config.max_blob_size,
        allow_missing_references: config.allow_missing_references,
        verify_pulls: match config.verify_pulls {
            config::VerifyPulls::None => registry::VerifyPulls::None,
            config::VerifyPulls::All => registry::VerifyPulls::OneIn(1),
            config::VerifyPulls::OneIn(n) => registry::VerifyPulls::OneIn(u64::from(n)),
        },
    }
}

pub(super) fn http_options(config: &Config, max_connections: usize) -> http::Options {
    http::Options {
        max_concurrent_requests: config.max_concurrent_requests,
        max_concurrent_transfers: config.max_concurrent_transfers,
        max_connections,
        min_transfer_rate: config.min_transfer_rate,
        document_memory: config.document_memory,
        max_uploads: http::UploadBounds {
            address: config.max_uploads_per_address,
            identity: config.max_uploads_per_identity,
            repository: config.max_uploads_per_repository,
        },
        idle_downloads: config.server.query_timeout,
        grace: config.server.query_timeout_grace_period,
        log_requests: config.observability.logs.requests,
        health_on_main: config.observability.health.listen == config::Listen::Main,
        metrics_on_main: config.observability.metrics.listen == config::Listen::Main,
    }
}

pub(super) fn log_options(config: &Config) -> LogOptions {
    let logs = &config.observability.logs;
    LogOptions {
        output: match &logs.output {
            config::LogOutput::Stderr => telemetry::LogOutput::Stderr,
            config::LogOutput::Stdout => telemetry::LogOutput::Stdout,
            config::LogOutput::File(path) => telemetry::LogOutput::File(path.clone()),
        },
        format: match logs.format {
            config::LogFormat::Auto => telemetry::LogFormat::Auto,
            config::LogFormat::Text => telemetry::LogFormat::Text,
            config::LogFormat::Json => telemetry::LogFormat::Json,
        },
        level: logs.level.clone(),
    }
}

pub(super) fn trace_options(config: &Config) -> TraceOptions {
    let tracing = &config.observability.tracing;
    TraceOptions { endpoint: tracing.endpoint.clone(), sampling_rate: tracing.sampling_rate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Part;

    #[test]
    fn passwords_are_remembered_although_somebody_pulls_more_than_all_caches_hold() {
        let config = Config { cache_size: 16 << 20, ..Config::default() };
        let (store, credentials) = memories(&config);
        let passwords = Part::new(&credentials, |_: &u32, (): &()| 32);
        let manifests = Part::new(&store, |_: &u32, bytes: &Vec<u8>| bytes.len());
        passwords.insert(1, ());
        for number in 0..32 {
            manifests.insert(number, vec![0; 1 << 20]);
        }
        assert!(store.bytes() + credentials.bytes() <= config.cache_size);
        assert!(!manifests.contains_key(&0) && manifests.contains_key(&31));
        assert!(passwords.contains_key(&1));
    }
}
