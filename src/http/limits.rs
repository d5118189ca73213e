//! How much is done at once.
//!
//! Two numbers: requests being answered, and transfers. A request holds its slot while it works, not while bytes move:
//! so fifty slow clients do not lock the others out, and each transfer's memory is bounded on its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    body::Transfer,
    failure::{Busy, Failure},
};
use crate::telemetry::Metrics;

/// Requests that may wait for each one that is answered.
const WAITING_PER_SLOT: usize = 20;
/// How long one may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The limits of one server.
pub(super) struct Limits {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    transfers: Arc<Semaphore>,
    metrics: Metrics,
}

impl Limits {
    pub(super) fn new(requests: usize, transfers: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(requests)),
            waiting: AtomicUsize::new(0),
            most_waiting: requests.saturating_mul(WAITING_PER_SLOT),
            transfers: Arc::new(Semaphore::new(transfers)),
            metrics,
        })
    }

    /// A slot, at once or after a short wait.
    pub(super) async fn slot(self: &Arc<Self>) -> Result<Slot, Failure> {
        let permit = self.permit().await?;
        Ok(Slot { limits: Arc::clone(self), permit: Arc::new(Mutex::new(Some(permit))) })
    }

    /// No slot, for what has to be answered under load.
    pub(super) fn no_slot(self: &Arc<Self>) -> Slot {
        Slot { limits: Arc::clone(self), permit: Arc::default() }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = self.wait().ok_or_else(|| self.reject("queue-full"))?;
        match tokio::time::timeout(LONGEST_WAIT, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.reject("waited-too-long")),
        }
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < self.most_waiting).then_some(waiting)
    }

    fn reject(&self, reason: &'static str) -> Failure {
        self.metrics.record_rejected(reason);
        Busy.into()
    }

    /// A place among the transfers under way.
    pub(super) fn transfer(&self) -> Result<Transfer, Failure> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned().map_err(|_| self.reject("too-many-transfers"))?;
        Ok(Transfer::new(permit, self.metrics.transfer_started()))
    }
}

/// One that waits; counted until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's place among those being answered. Its clones are one slot.
#[derive(Clone)]
pub(super) struct Slot {
    limits: Arc<Limits>,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Slot {
    /// Gives the slot up while bytes move.
    pub(super) fn release(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes a slot again, to go on. It is not turned away any more: its bytes are here, its number is bounded by the
    /// transfers, and its clock runs, which answers 503 in the end.
    pub(super) async fn retake(&self) {
        // never closed; without a permit it would go on uncounted
        let permit = Arc::clone(&self.limits.slots).acquire_owned().await.ok();
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}
