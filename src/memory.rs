//! Bounds everything that a process remembers by one size, and lets use decide what stays.
//!
//! Each kind of thing has a [`Part`], which is used like a cache of its own. All parts lie in one [`Memory`]. If it is
//! full, the entry goes that was not used for longest, whatever part it is of. So a registry of many small tags and one of
//! few large manifests both use the whole size.

use std::{
    any::Any,
    borrow::Borrow,
    fmt,
    hash::{BuildHasher as _, Hash, Hasher as _},
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use moka::{Expiry, policy::EvictionPolicy, sync::Cache};

/// The bytes that an entry takes beside what its part counts: the records of the cache.
const OVERHEAD: usize = 200;

/// The cache makes room after up to 64 entries. Entries of this part of the capacity or more make room at once, so the
/// bytes are never over the capacity by more than an eighth.
const LARGE: u64 = 512;

/// The memory of a process, bounded in bytes.
pub struct Memory {
    entries: Cache<u64, Kept, RandomState>,
    /// The bytes of an entry that makes room at once.
    large: u64,
    hasher: RandomState,
    /// The number of parts so far.
    parts: AtomicU32,
}

#[derive(Clone)]
struct Kept {
    weight: u32,
    lasts: Option<Duration>,
    /// An [`Entry`] of the part that made it.
    entry: Arc<dyn Any + Send + Sync>,
}

struct Entry<K, V> {
    part: u32,
    key: K,
    value: V,
}

struct Lifetimes;

impl Expiry<u64, Kept> for Lifetimes {
    fn expire_after_create(&self, _: &u64, kept: &Kept, _: Instant) -> Option<Duration> {
        kept.lasts
    }

    fn expire_after_update(&self, _: &u64, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        kept.lasts
    }
}

impl Memory {
    /// Creates a memory of this many bytes. With none, nothing is remembered.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        let hasher = RandomState::default();
        let entries = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, kept: &Kept| kept.weight)
            .expire_after(Lifetimes)
            // what was remembered a moment ago is asked for next: an upload's state, a blob that was checked
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(hasher.clone());
        Arc::new(Self { entries, large: bytes / LARGE, hasher, parts: AtomicU32::new(0) })
    }

    /// Returns the bytes that are in use, as the parts count them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("capacity", &self.entries.policy().max_capacity()).finish_non_exhaustive()
    }
}

/// The entries of one kind in a [`Memory`]. Clones share them.
pub struct Part<K, V> {
    memory: Arc<Memory>,
    number: u32,
    time_to_live: Option<Duration>,
    weigh: fn(&K, &V) -> usize,
    kind: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for Part<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<K, V> Clone for Part<K, V> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), ..*self }
    }
}

impl<K, V> Part<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a part. `weigh` counts the bytes of a key and its value.
    #[must_use]
    pub fn new(memory: &Arc<Memory>, weigh: fn(&K, &V) -> usize) -> Self {
        let number = memory.parts.fetch_add(1, Ordering::Relaxed);
        Self { memory: Arc::clone(memory), number, time_to_live: None, weigh, kind: PhantomData }
    }

    /// Forgets each entry so long after it was remembered.
    #[must_use]
    pub fn for_time(self, time_to_live: Duration) -> Self {
        Self { time_to_live: Some(time_to_live), ..self }
    }

    /// Returns the place of a key. Another key may have the same place, so the key is compared as well.
    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        let mut hasher = self.memory.hasher.build_hasher();
        self.number.hash(&mut hasher);
        key.hash(&mut hasher);
        hasher.finish()
    }

    fn entry<'a>(&self, kept: &'a Kept) -> Option<&'a Entry<K, V>> {
        kept.entry.downcast_ref::<Entry<K, V>>().filter(|entry| entry.part == self.number)
    }

    /// Returns the value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let kept = self.memory.entries.get(&self.place(key))?;
        self.entry(&kept).filter(|entry| entry.key.borrow() == key).map(|entry| entry.value.clone())
    }

    /// Returns whether a key has a value.
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Remembers a value.
    pub fn insert(&self, key: K, value: V) {
        self.insert_for(key, value, self.time_to_live);
    }

    /// Remembers a value for a time of its own. `None`: until there is no room.
    pub fn insert_for(&self, key: K, value: V, lasts: Option<Duration>) {
        let weight = u32::try_from((self.weigh)(&key, &value).saturating_add(OVERHEAD)).unwrap_or(u32::MAX);
        let place = self.place(&key);
        let entry = Arc::new(Entry { part: self.number, key, value });
        self.memory.entries.insert(place, Kept { weight, lasts, entry });
        if u64::from(weight) >= self.memory.large {
            self.memory.entries.run_pending_tasks();
        }
    }

    /// Forgets a key. Returns its value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let kept = self.memory.entries.remove(&self.place(key))?;
        self.entry(&kept).filter(|entry| entry.key.borrow() == key).map(|entry| entry.value.clone())
    }

    /// Returns the keys of the entries that `is` accepts. It looks at the entries of all parts.
    pub fn keys_of(&self, is: impl Fn(&K, &V) -> bool) -> Vec<K> {
        let key =
            |kept: &Kept| self.entry(kept).filter(|entry| is(&entry.key, &entry.value)).map(|entry| entry.key.clone());
        self.memory.entries.iter().filter_map(|(_, kept)| key(&kept)).collect()
    }

    /// Forgets the entries that `is` accepts. Returns whether there were any.
    pub fn remove_if(&self, is: impl Fn(&K, &V) -> bool) -> bool {
        self.keys_of(is).iter().fold(false, |any, key| self.remove(key).is_some() | any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(memory: &Arc<Memory>) -> Part<String, Vec<u8>> {
        Part::new(memory, |_, value| value.len())
    }

    #[test]
    fn parts_do_not_see_the_entries_of_each_other() {
        let memory = Memory::new(1 << 20);
        let (one, other) = (part(&memory), part(&memory));
        one.insert("a".to_owned(), vec![1]);
        assert_eq!((one.get("a"), other.get("a")), (Some(vec![1]), None));
        other.insert("a".to_owned(), vec![2]);
        assert_eq!((one.get("a"), other.get("a")), (Some(vec![1]), Some(vec![2])));
        assert_eq!(one.remove("a"), Some(vec![1]));
        assert!(!one.contains_key("a") && other.contains_key("a"));
        assert!(other.remove_if(|_, value| value == &[2]) && !other.remove_if(|_, _| true));
    }

    #[test]
    fn one_bound_holds_for_all_parts_and_what_is_used_stays() {
        let memory = Memory::new(100_000);
        let (one, other) = (part(&memory), part(&memory));
        one.insert("used".to_owned(), vec![0; 1000]);
        for number in 0..1000 {
            other.insert(number.to_string(), vec![0; 1000]);
            assert!(one.get("used").is_some(), "after {number} others");
        }
        assert!(memory.bytes() <= 100_000, "{}", memory.bytes());
        assert!(memory.bytes() > 90_000, "{}", memory.bytes());
        assert!(other.get("0").is_none() && other.get("999").is_some());
    }

    #[test]
    fn large_entries_make_room_at_once() {
        let memory = Memory::new(1 << 20);
        let part = part(&memory);
        for number in 0..20 {
            part.insert(number.to_string(), vec![0; 100_000]);
            let kept = (0..=number).filter(|number| part.contains_key(&number.to_string())).count();
            assert!(kept <= 10, "{kept} of {number}");
        }
    }

    #[test]
    fn an_entry_ends_after_its_time() {
        let memory = Memory::new(1 << 20);
        let short = part(&memory).for_time(Duration::from_millis(1));
        short.insert("a".to_owned(), vec![1]);
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        assert_eq!(short.get("a"), None);
        short.insert_for("a".to_owned(), vec![1], None);
        assert_eq!(short.get("a"), Some(vec![1]));
    }

    #[test]
    fn a_memory_of_no_bytes_remembers_nothing() {
        let memory = Memory::new(0);
        let part = part(&memory);
        part.insert("a".to_owned(), vec![1]);
        assert_eq!((memory.bytes(), part.get("a")), (0, None));
    }
}
