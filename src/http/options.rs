//! Holds the options of a service.

use std::time::Duration;

use super::open_uploads::UploadBounds;

/// Options of a service.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of requests that are answered at once.
    pub max_concurrent_requests: usize,
    /// The number of transfers at once.
    pub max_concurrent_transfers: usize,
    /// The number of connections at once, at the main address.
    pub max_connections: usize,
    /// The bytes a second below which a transfer gives way to another client.
    pub min_transfer_rate: u64,
    /// The bytes of manifests and other whole documents that are under way at once.
    pub document_memory: u64,
    /// The numbers of open uploads.
    pub max_uploads: UploadBounds,
    /// The time for which a download from an upstream goes on although no client waits for it.
    pub idle_downloads: Duration,
    /// The time that running requests get at shutdown.
    pub grace: Duration,
    /// True if each request is logged.
    pub log_requests: bool,
    /// True if the main address answers `/healthz` and `/readyz`.
    pub health_on_main: bool,
    /// True if the main address answers `/metrics`.
    pub metrics_on_main: bool,
}
