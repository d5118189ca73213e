//! Limits the requests that are answered at once, and the transfers at once.
//!
//! A request holds its slot while it works, and gives it back while bytes move. So fifty slow clients do not lock the others
//! out. The number of transfers bounds their memory.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    failure::{Busy, Failure},
    transfer::Transfer,
};
use crate::telemetry::Metrics;

/// The number of requests that may wait for each slot.
const WAITING_PER_SLOT: usize = 20;
/// The longest wait of a request for a slot.
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
    /// Creates the limits of a server.
    pub(super) fn new(requests: usize, transfers: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(requests)),
            waiting: AtomicUsize::new(0),
            most_waiting: requests.saturating_mul(WAITING_PER_SLOT),
            transfers: Arc::new(Semaphore::new(transfers)),
            metrics,
        })
    }

    /// Takes a slot, at once or after a short wait.
    pub(super) async fn slot(self: &Arc<Self>) -> Result<Slot, Failure> {
        let permit = self.permit().await?;
        Ok(Slot { limits: Arc::clone(self), permit: Arc::new(Mutex::new(Some(permit))) })
    }

    /// Returns an empty slot, for requests that are answered under any load.
    pub(super) fn no_slot(self: &Arc<Self>) -> Slot {
        Slot { limits: Arc::clone(self), permit: Arc::default() }
    }

    /// Waits for a free slot.
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

    /// Counts a waiting request, unless too many wait already.
    fn wait(&self) -> Option<Waiting<'_>> {
        let waiting = Waiting(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < self.most_waiting).then_some(waiting)
    }

    /// Counts a request that is turned away.
    fn reject(&self, reason: &'static str) -> Failure {
        self.metrics.record_rejected(reason);
        Busy.into()
    }

    /// Takes a place among the transfers under way.
    pub(super) fn transfer(&self) -> Result<Transfer, Failure> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned().map_err(|_| self.reject("too-many-transfers"))?;
        Ok(Transfer::new(permit, self.metrics.transfer_started()))
    }
}

/// A waiting request; counted until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's place among the requests that are answered at once. Clones share one place.
#[derive(Clone)]
pub(super) struct Slot {
    limits: Arc<Limits>,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Slot {
    /// Gives the slot back while bytes move.
    pub(super) fn release(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes a slot again, after the body. Waits without a limit of its own: the number of such requests is bounded by the
    /// transfers, and the request's clock ends the wait with 503.
    pub(super) async fn retake(&self) {
        // the semaphore is never closed, so this cannot fail
        let permit = Arc::clone(&self.limits.slots).acquire_owned().await.ok();
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}
