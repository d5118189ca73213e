//! Asks the store at most once a second whether it answers.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::registry::Registry;

/// The age up to which an outcome is used again. Anybody may ask for readiness, and each look at a bucket costs a request.
const FRESH: Duration = Duration::from_secs(1);

/// The last outcome of asking the store, with its time.
#[derive(Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Returns true if the store answers. Requests that come during a look wait for its outcome.
    pub(super) async fn store(&self, registry: &Registry) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < FRESH
        {
            return ready;
        }
        let outcome = registry.ready().await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "not ready: the store does not answer");
        }
        *last = Some((Instant::now(), outcome.is_ok()));
        outcome.is_ok()
    }
}
