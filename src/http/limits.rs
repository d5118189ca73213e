//! The pools of one server.
//!
//! A request holds its slot while it works, and gives it back while bytes move. So fifty slow clients do not lock the others
//! out. The transfers, and the memory of documents, bound the memory of bodies under way.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    options::Options,
    shares::{Holder, Pool, Refused, Share},
    transfer::Transfer,
};
use crate::telemetry::Metrics;

/// The number of requests that may wait for each slot.
const WAITING_PER_SLOT: usize = 20;
/// The longest wait of a request for a slot, or for memory.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The number of requests for each list that is made at once.
const REQUESTS_PER_LIST: usize = 4;
/// The unit of memory.
const UNIT: u64 = 1024;
/// The memory of all unfinished heads, in units.
const HEADS: usize = 64 * 1024;

/// The server has more requests or transfers than it takes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy;

/// The pools of one server.
pub(super) struct Limits {
    requests: Arc<Pool>,
    lists: Arc<Pool>,
    transfers: Arc<Pool>,
    documents: Arc<Pool>,
    heads: Arc<Pool>,
    metrics: Metrics,
}

impl Limits {
    /// Creates the pools of a server.
    pub(super) fn new(options: &Options, metrics: &Metrics) -> Arc<Self> {
        let rate = options.min_transfer_rate;
        let pool = |name, size, waiting, rate| {
            let metrics = metrics.clone();
            Pool::new(size, waiting, rate, move || metrics.record_given_up(name))
        };
        let slots = |name, size: usize| pool(name, size, size.saturating_mul(WAITING_PER_SLOT), 0);
        let documents = units(options.document_memory);
        Arc::new(Self {
            requests: slots("requests", options.max_concurrent_requests),
            lists: slots("lists", options.max_concurrent_requests.div_ceil(REQUESTS_PER_LIST)),
            transfers: pool("transfers", options.max_concurrent_transfers, 0, rate),
            documents: pool("documents", documents, options.max_concurrent_transfers, rate),
            heads: pool("heads", HEADS, 0, 0),
            metrics: metrics.clone(),
        })
    }

    /// Creates the pool of the connections at one address.
    pub(super) fn connections(&self, number: usize) -> Arc<Pool> {
        let metrics = self.metrics.clone();
        Pool::new(number, 0, 0, move || metrics.record_given_up("connections"))
    }

    /// Takes a slot, at once or after a short wait.
    pub(super) async fn slot(&self, holder: &Holder, is_list: bool) -> Result<Slot, Busy> {
        let pool = if is_list { &self.lists } else { &self.requests };
        // nobody gives a slot up: its work is short
        let holder = Holder { client: holder.client, ends: None };
        let share = pool.wait(&holder, 1, Some(LONGEST_WAIT)).await.map_err(|refused| self.refuse(refused))?;
        Ok(Slot::new(pool, holder, Some(share)))
    }

    /// Returns an empty slot, for requests that are answered under any load.
    pub(super) fn no_slot(&self, holder: &Holder) -> Slot {
        Slot::new(&self.requests, holder.clone(), None)
    }

    /// Takes a place among the transfers under way.
    pub(super) fn transfer(&self, holder: &Holder) -> Result<Transfer, Busy> {
        let share = self.transfers.take(holder, 1).ok_or_else(|| self.reject("too-many-transfers"))?;
        Ok(Transfer::new(share, self.metrics.transfer_started()))
    }

    /// Takes the memory of a document under way, such as a manifest, at once or after a short wait.
    pub(super) async fn document(&self, holder: &Holder, bytes: u64) -> Result<Share, Busy> {
        self.documents.wait(holder, units(bytes), Some(LONGEST_WAIT)).await.map_err(|refused| self.refuse(refused))
    }

    /// Takes the memory of a long head.
    pub(super) fn head(&self, holder: &Holder, bytes: u64) -> Option<Share> {
        let share = self.heads.take(holder, units(bytes));
        if share.is_none() {
            self.metrics.record_rejected("too-many-heads");
        }
        share
    }

    fn refuse(&self, refused: Refused) -> Busy {
        self.reject(match refused {
            Refused::QueueFull => "queue-full",
            Refused::TooLong => "waited-too-long",
        })
    }

    /// Counts a request that is turned away.
    fn reject(&self, reason: &'static str) -> Busy {
        self.metrics.record_rejected(reason);
        Busy
    }
}

/// Returns the units of memory that so many bytes take.
fn units(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX)
}

/// A request's place among the requests that are answered at once. Clones share one place.
#[derive(Clone)]
pub(super) struct Slot(Arc<Place>);

struct Place {
    pool: Arc<Pool>,
    holder: Holder,
    share: Mutex<Option<Share>>,
}

impl Slot {
    fn new(pool: &Arc<Pool>, holder: Holder, share: Option<Share>) -> Self {
        Self(Arc::new(Place { pool: Arc::clone(pool), holder, share: Mutex::new(share) }))
    }

    /// Gives the slot back while bytes move.
    pub(super) fn release(&self) {
        let share = self.0.share.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(share);
    }

    /// Takes a slot again, after the body. Waits without a limit of its own: the number of such requests is bounded by the
    /// transfers, and the request's clock ends the wait with 503.
    pub(super) async fn retake(&self) {
        let share = loop {
            // a full queue may have dropped this waiter for one of another client
            if let Ok(share) = self.0.pool.wait(&self.0.holder, 1, None).await {
                break share;
            }
        };
        *self.0.share.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[tokio::test]
    async fn a_request_whose_body_came_waits_for_its_slot_though_another_client_fills_the_queue() {
        let holder = |last| Holder { client: IpAddr::from([10, 0, 0, last]).into(), ends: None };
        let pool = Pool::new(1, 2, 0, || {});
        let held = pool.take(&holder(1), 1).unwrap();
        let slots = [(); 2].map(|()| Slot::new(&pool, holder(1), None));
        let retaken = slots.clone().map(|slot| tokio::spawn(async move { slot.retake().await }));
        tokio::task::yield_now().await;
        let (of_other, other) = (Arc::clone(&pool), holder(2));
        let other = tokio::spawn(async move { of_other.wait(&other, 1, Some(LONGEST_WAIT)).await });
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert!(retaken.iter().all(|retaken| !retaken.is_finished()), "none goes on without a slot");
        drop(held);
        let [first, second] = retaken;
        first.await.unwrap();
        slots[0].release();
        drop(other.await.unwrap().unwrap());
        second.await.unwrap();
        assert!(slots[1].0.share.lock().unwrap().is_some());
    }
}
