//! Says that a record cannot be written.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::OnAuditError;

/// The time between two warnings about the same failure.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// The failure of a record since its last written line.
pub(super) struct Failure {
    pub(super) since: Timestamp,
    pub(super) lost: u64,
    pub(super) cause: String,
    pub(super) tried: Instant,
    /// The time of the last warning.
    pub(super) said: Option<Instant>,
}

impl Failure {
    /// Tells the log, at once and then once a minute.
    pub(super) fn say(&mut self, on_error: OnAuditError) {
        if self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        self.said = Some(Instant::now());
        let Self { lost, cause, .. } = self;
        match on_error {
            OnAuditError::Deny => tracing::error!(
                lost,
                cause,
                "decisions cannot be recorded; requests are refused until they can be, as audit.on_error asks"
            ),
            OnAuditError::Continue => tracing::error!(
                lost,
                cause,
                "decisions cannot be recorded; requests go on without, as audit.on_error asks"
            ),
        }
    }
}
