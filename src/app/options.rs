//! Translates a configuration into the options of the modules that follow it.

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
    Store::open_existing(&location, Metrics::new()).await
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
            memory: Memory::new(config.cache_size),
        },
        config::Storage::S3(s3) => Location::Bucket {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
            region: s3.region.clone(),
            key_prefix: s3.key_prefix.clone(),
            access_key_id: s3.access_key_id.clone(),
            secret_key: s3.secret_key.clone(),
            part_size: size(s3.multipart_min_part_size),
            memory: Memory::new(config.cache_size),
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
