//! Counts a transfer under way.

use super::shares::Share;
use crate::telemetry::InFlight;

/// A place among the transfers under way, given back when dropped.
pub(super) struct Transfer {
    _share: Share,
    _gauge: InFlight,
}

impl Transfer {
    /// Holds a place and its count.
    pub(super) fn new(share: Share, gauge: InFlight) -> Self {
        Self { _share: share, _gauge: gauge }
    }
}
