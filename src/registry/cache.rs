//! A memory of recent answers of the store. It never returns an answer that is older than a write by this process.

use std::{
    hash::{BuildHasher, Hash},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{memory::Part, storage::Clock};

/// The number of generations of keys, a power of two. Two keys that share a generation lose a hit, no more.
const GENERATIONS: usize = 1024;

/// Answers of the store that may change, each kept for a short time.
///
/// A reader takes a [`Ticket`] *before* it asks the store, and remembers the answer under the ticket. A writer forgets
/// the key *after* its record is written, which makes all earlier tickets worthless. So this process never gives an
/// answer that was read before a write after that write, whatever the order in which reader and writer finish.
pub(super) struct Recent<K, V> {
    cache: Part<K, Kept<V>>,
    /// The clock of the answers' ages. It counts while the machine sleeps; the cache's own clock may not.
    clock: Clock,
    time_to_live: Duration,
    generations: Box<[AtomicU64]>,
    hasher: foldhash::fast::RandomState,
    enabled: bool,
}

/// An answer, and when it was remembered.
#[derive(Clone)]
pub(super) struct Kept<V> {
    generation: u64,
    /// The time since boot when the answer was remembered.
    since: Duration,
    pub(super) value: V,
}

/// The right to remember an answer that was asked for after the ticket was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<K: Hash + Eq + Clone + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Recent<K, V> {
    /// Creates a memory of answers in a part of the process's memory. A `time_to_live` of zero remembers nothing.
    pub(super) fn new(cache: Part<K, Kept<V>>, time_to_live: Duration, clock: Clock) -> Self {
        Self {
            cache: cache.for_time(time_to_live.max(Duration::from_millis(1))),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            hasher: foldhash::fast::RandomState::default(),
            enabled: !time_to_live.is_zero(),
            clock,
            time_to_live,
        }
    }

    fn generation(&self, key: &K) -> &AtomicU64 {
        let hash = self.hasher.hash_one(key);
        // the remainder is below GENERATIONS
        &self.generations[usize::try_from(hash % GENERATIONS as u64).unwrap_or(0)]
    }

    pub(super) fn ticket(&self, key: &K) -> Ticket {
        Ticket(self.generation(key).load(Ordering::SeqCst))
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        if !self.enabled {
            return None;
        }
        let kept = self.cache.get(key)?;
        let fresh = kept.generation == self.generation(key).load(Ordering::SeqCst)
            && self.clock.since_boot().saturating_sub(kept.since) < self.time_to_live;
        fresh.then_some(kept.value)
    }

    pub(super) fn remember(&self, key: K, ticket: Ticket, value: V) {
        if self.enabled {
            let kept = Kept { generation: ticket.0, since: self.clock.since_boot(), value };
            self.cache.insert(key, kept);
        }
    }

    /// Forgets all values that `is` accepts. Returns whether there were any.
    pub(super) fn forget_if(&self, is: impl Fn(&V) -> bool) -> bool {
        let keys = self.cache.keys_of(|_, kept| is(&kept.value));
        for key in &keys {
            self.forget(key);
        }
        !keys.is_empty()
    }

    pub(super) fn forget(&self, key: &K) {
        self.generation(key).fetch_add(1, Ordering::SeqCst);
        self.cache.remove(key);
    }

    /// Forgets the key when the returned guard is dropped. Hold the guard over a write: the write may be done although
    /// it reports an error, or although nobody waits for it any more.
    #[must_use]
    pub(super) fn forget_afterwards(&self, key: K) -> Forgetting<'_, K, V> {
        Forgetting { recent: self, key }
    }
}

/// A guard that forgets a key when it is dropped; see [`Recent::forget_afterwards`].
pub(super) struct Forgetting<'a, K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    recent: &'a Recent<K, V>,
    key: K,
}

impl<K, V> Drop for Forgetting<'_, K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.recent.forget(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn recent(time_to_live: Duration, clock: Clock) -> Recent<&'static str, i32> {
        Recent::new(Part::new(&Memory::new(1 << 20), |_, _| 1), time_to_live, clock)
    }

    #[test]
    fn an_answer_read_before_a_write_is_never_given_after_it() {
        let recent = recent(Duration::from_mins(1), Clock::by_hand());
        let ticket = recent.ticket(&"tag");
        recent.forget(&"tag"); // a writer comes between the question and its answer
        recent.remember("tag", ticket, 1);
        assert_eq!(recent.get(&"tag"), None);
        let ticket = recent.ticket(&"tag");
        recent.remember("tag", ticket, 2);
        assert_eq!(recent.get(&"tag"), Some(2));
    }

    #[test]
    fn an_answer_ages_while_the_machine_sleeps() {
        let clock = Clock::by_hand();
        let recent = recent(Duration::from_mins(1), clock.clone());
        recent.remember("tag", recent.ticket(&"tag"), 1);
        clock.advance(Duration::from_secs(59));
        assert_eq!(recent.get(&"tag"), Some(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(recent.get(&"tag"), None);
    }

    #[test]
    fn no_time_to_live_means_no_memory() {
        let recent = recent(Duration::ZERO, Clock::by_hand());
        let ticket = recent.ticket(&"tag");
        recent.remember("tag", ticket, 1);
        assert_eq!(recent.get(&"tag"), None);
    }
}
