//! The memory of manifests that upstreams send.

use std::{
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};

use crate::upstream::Room;

/// Memory that is given back when dropped.
type Memory = Box<dyn Send + Sync>;

/// Waits for memory of so many bytes. `None` if too many wait for it.
pub type TakeMemory = Arc<dyn Fn(u64) -> BoxFuture<'static, Option<Memory>> + Send + Sync>;

/// Returns memory enough for each manifest, for a caller that asks for one at a time.
#[must_use]
pub fn memory_enough() -> TakeMemory {
    Arc::new(|_| ready(Some(Box::new(()) as Memory)).boxed())
}

/// The memory of a manifest until it is stored.
pub(super) struct Taken {
    largest: u64,
    take: TakeMemory,
    memory: Mutex<Option<Memory>>,
}

impl Taken {
    pub(super) fn new(largest: u64, take: &TakeMemory) -> Self {
        Self { largest, take: Arc::clone(take), memory: Mutex::default() }
    }

    /// Keeps memory in place of what was kept before. Returns whether there is any.
    fn keep(&self, memory: Option<Memory>) -> bool {
        let is_given = memory.is_some();
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        is_given
    }
}

impl Room for Taken {
    fn largest(&self) -> u64 {
        self.largest
    }

    fn take(&self, bytes: u64) -> BoxFuture<'_, bool> {
        async move {
            self.keep(None);
            self.keep((self.take)(bytes).await)
        }
        .boxed()
    }
}
