//! Counts a transfer under way.

use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::InFlight;

/// A place among the transfers under way, given back when dropped.
pub(super) struct Transfer {
    _permit: OwnedSemaphorePermit,
    _gauge: InFlight,
}

impl Transfer {
    /// Holds a place and its count.
    pub(super) fn new(permit: OwnedSemaphorePermit, gauge: InFlight) -> Self {
        Self { _permit: permit, _gauge: gauge }
    }
}
