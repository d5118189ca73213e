//! HTTP: connections, requests, and the answers of the distribution API.
//!
//! A request's way: `connection` -> [`request`] (id, clock, record) -> `Action::parse` -> `auth` (who asks) ->
//! `decision` (`Policy::authorize`) -> `dispatch` -> one handler of the files beside this one. Handlers turn values into headers and back; what happens is
//! decided in `registry`, and what an error looks like in `failure`.

mod auth;
mod blobs;
mod body;
mod clock;
mod connection;
mod decision;
mod dispatch;
mod failure;
mod health;
mod limits;
mod lists;
mod manifests;
mod peer;
mod record;
mod request;
mod stream;
mod tag_decisions;
mod token;
mod uploads;

use std::{sync::Arc, time::Duration};

pub use self::connection::{Listeners, Purpose, serve};
use self::limits::Limits;
use crate::{audit::Audit, credentials::Logins, registry::Registry, snapshot::Live, telemetry::Metrics};

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests answered at once.
    pub max_concurrent_requests: usize,
    /// Transfers at once.
    pub max_concurrent_transfers: usize,
    /// How long running requests get at shutdown.
    pub grace: Duration,
    /// Whether each request is logged.
    pub log_requests: bool,
    /// Whether the main address answers `/healthz` and `/readyz`.
    pub health_on_main: bool,
    /// Whether the main address answers `/metrics`.
    pub metrics_on_main: bool,
}

/// What every request needs.
pub struct Service {
    registry: Arc<Registry>,
    live: Arc<Live>,
    logins: Logins,
    audit: Audit,
    ready: health::Ready,
    options: Options,
    limits: Arc<Limits>,
    metrics: Metrics,
}

impl Service {
    /// A service over a registry, under the snapshot in force, each decision recorded.
    #[must_use]
    pub fn new(
        registry: impl Into<Arc<Registry>>,
        live: Arc<Live>,
        audit: Audit,
        options: Options,
        metrics: Metrics,
    ) -> Self {
        let registry = registry.into();
        let limits = Limits::new(options.max_concurrent_requests, options.max_concurrent_transfers, metrics.clone());
        Self { registry, live, logins: Logins::new(), audit, ready: health::Ready::default(), options, limits, metrics }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}
