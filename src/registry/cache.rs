//! A memory of recent answers of the store. It never returns an answer that is older than a write by this process.

use std::{
    hash::{BuildHasher, Hash},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use moka::sync::Cache;

use crate::storage::Clock;

/// The number of generations of keys, a power of two. Two keys that share a generation lose a hit, no more.
const GENERATIONS: usize = 1024;

/// Answers of the store that may change, each kept for a short time.
///
/// A reader takes a [`Ticket`] *before* it asks the store, and remembers the answer under the ticket. A writer forgets
/// the key *after* its record is written, which makes all earlier tickets worthless. So this process never gives an
/// answer that was read before a write after that write, whatever the order in which reader and writer finish.
pub(super) struct Recent<K, V> {
    cache: Cache<K, Kept<V>, foldhash::fast::RandomState>,
    /// The clock of the answers' ages. It counts while the machine sleeps; the cache's own clock may not.
    clock: Clock,
    time_to_live: Duration,
    generations: Box<[AtomicU64]>,
    hasher: foldhash::fast::RandomState,
    enabled: bool,
}

#[derive(Clone)]
struct Kept<V> {
    generation: u64,
    /// The time since boot when the answer was remembered.
    since: Duration,
    value: V,
}

/// The right to remember an answer that was asked for after the ticket was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Recent<K, V> {
    /// Creates a memory of answers that together weigh at most `capacity`. A `time_to_live` of zero remembers nothing.
    pub(super) fn new(capacity: u64, time_to_live: Duration, clock: Clock, weigh: fn(&V) -> u32) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self {
            cache: Cache::builder()
                .max_capacity(capacity)
                .weigher(move |_, kept: &Kept<V>| weigh(&kept.value))
                .time_to_live(time_to_live.max(Duration::from_millis(1)))
                .build_with_hasher(hasher.clone()),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            hasher,
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
        let keys: Vec<_> = self.cache.iter().filter(|(_, kept)| is(&kept.value)).map(|(key, _)| key).collect();
        for key in &keys {
            self.forget(key);
        }
        !keys.is_empty()
    }

    pub(super) fn forget(&self, key: &K) {
        self.generation(key).fetch_add(1, Ordering::SeqCst);
        self.cache.invalidate(key);
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
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    recent: &'a Recent<K, V>,
    key: K,
}

impl<K, V> Drop for Forgetting<'_, K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.recent.forget(&self.key);
    }
}

/// Removes the entries of a cache that `is` accepts. Returns whether there were any.
pub(super) fn remove_if<K, V>(cache: &Cache<K, V>, is: impl Fn(&K, &V) -> bool) -> bool
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache.iter().filter(|(key, value)| is(key, value)).fold(false, |any, (key, _)| cache.remove(&*key).is_some() | any)
}

/// Returns a size in bytes as a weight for a cache.
pub(super) fn weigh(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_read_before_a_write_is_never_given_after_it() {
        let recent = Recent::new(10, Duration::from_mins(1), Clock::by_hand(), |_| 1);
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
        let recent = Recent::new(10, Duration::from_mins(1), clock.clone(), |_| 1);
        recent.remember("tag", recent.ticket(&"tag"), 1);
        clock.advance(Duration::from_secs(59));
        assert_eq!(recent.get(&"tag"), Some(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(recent.get(&"tag"), None);
    }

    #[test]
    fn no_time_to_live_means_no_memory() {
        let recent = Recent::new(10, Duration::ZERO, Clock::by_hand(), |_| 1);
        let ticket = recent.ticket(&1);
        recent.remember(1, ticket, 1);
        assert_eq!(recent.get(&1), None);
    }
}
