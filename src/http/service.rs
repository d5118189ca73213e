//! Holds what every request needs.

use std::{sync::Arc, time::Duration};

use super::{limits::Limits, open_uploads::OpenUploads, options::Options, purpose::Purpose, readiness::Readiness};
use crate::{
    action::ACTIONS,
    audit::Audit,
    credentials::Logins,
    mirror::{self, Mirror},
    registry::Registry,
    snapshot::Live,
    telemetry::Metrics,
};

/// The reasons for which requests are turned away before any work.
const REJECTIONS: &[&str] = &[
    "queue-full",
    "too-many-connections",
    mirror::TOO_MANY,
    "too-many-heads",
    "too-many-transfers",
    "too-many-uploads",
    "waited-too-long",
];

/// The time in which an upstream's stream must bring some bytes.
const PACE: Duration = Duration::from_secs(30);

/// The parts of the server that every request needs.
pub struct Service {
    pub(super) registry: Arc<Registry>,
    pub(super) mirror: Arc<Mirror>,
    pub(super) live: Arc<Live>,
    pub(super) logins: Logins,
    pub(super) audit: Audit,
    pub(super) readiness: Readiness,
    pub(super) options: Options,
    pub(super) limits: Arc<Limits>,
    pub(super) uploads: Arc<OpenUploads>,
    pub(super) metrics: Metrics,
}

impl Service {
    /// Creates a service over a registry. The snapshot in force decides requests, and `audit` records each decision.
    #[must_use]
    pub fn new(
        registry: impl Into<Arc<Registry>>,
        live: Arc<Live>,
        audit: Audit,
        options: Options,
        metrics: Metrics,
    ) -> Self {
        let registry = registry.into();
        let downloads = mirror::Options { idle: options.idle_downloads, pace: PACE };
        let mirror = Mirror::new(&registry, downloads, metrics.clone());
        let (limits, uploads) = (Limits::new(&options, &metrics), OpenUploads::new(options.max_uploads));
        metrics.begin(ACTIONS.iter().map(|row| row.word).chain(["get-token", "unknown"]), REJECTIONS);
        let (logins, readiness) = (Logins::new(live.memory()), Readiness::default());
        Self { registry, mirror, live, logins, audit, readiness, options, limits, uploads, metrics }
    }

    /// Returns the caches.
    #[must_use]
    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    /// Returns true if an address answers `/healthz` and `/readyz`.
    pub(super) const fn has_health(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Main => self.options.health_on_main,
            Purpose::Side { health, .. } => health,
        }
    }

    /// Returns true if an address answers `/metrics`.
    pub(super) const fn has_metrics(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Main => self.options.metrics_on_main,
            Purpose::Side { metrics, .. } => metrics,
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}
