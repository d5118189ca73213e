//! The store that all processes share: a map, and a gate before every operation on it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::event::Touch;
use crate::{registry::Clock, storage::layout};

/// An object, and when it was written.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) content: Bytes,
    pub(super) modified: u64,
    hash: u64,
}

/// All objects, by key.
pub(super) type Objects = BTreeMap<String, Object>;

/// An operation that waits to be let through.
struct Waiting {
    ticket: u64,
    process: usize,
    says: String,
    waker: Option<Waker>,
    granted: bool,
}

#[derive(Default)]
struct Inner {
    objects: Objects,
    /// Of all objects, so that equal stores are known without comparing them.
    hash: u64,
    waiting: Vec<Waiting>,
    tickets: u64,
    /// What each process has done and been answered.
    histories: Vec<u64>,
    /// What the operation that was let through last did.
    touched: Vec<Touch>,
}

/// The store and the gate.
pub(super) struct Bucket {
    inner: Mutex<Inner>,
    pub(super) clock: Clock,
}

pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Bucket {
    pub(super) fn new(objects: Objects, clock: Clock, processes: usize) -> Arc<Self> {
        let hash = objects.values().fold(0, |hash, object| hash ^ object.hash);
        let inner = Inner { objects, hash, histories: vec![0; processes], ..Inner::default() };
        Arc::new(Self { inner: Mutex::new(inner), clock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the store")
    }

    pub(super) fn objects(&self) -> Objects {
        self.inner().objects.clone()
    }

    /// Does something with the objects as they are.
    pub(super) fn with_objects<T>(&self, work: impl FnOnce(&Objects) -> T) -> T {
        work(&self.inner().objects)
    }

    /// Everything that decides what can happen from here on.
    pub(super) fn state(&self) -> u64 {
        let inner = self.inner();
        hash_of(&(inner.hash, &inner.histories, self.clock.now_ms()))
    }

    /// The operations of a process that wait, in the order in which they came: what each is.
    pub(super) fn waiting(&self, process: usize) -> Vec<String> {
        let inner = self.inner();
        inner.waiting.iter().filter(|one| one.process == process && !one.granted).map(|one| one.says.clone()).collect()
    }

    pub(super) fn waits(&self, process: usize) -> usize {
        self.inner().waiting.iter().filter(|one| one.process == process && !one.granted).count()
    }

    /// Lets the `nth` of them through.
    pub(super) fn grant(&self, process: usize, nth: usize) {
        let mut inner = self.inner();
        inner.touched.clear();
        let now = self.clock.now_ms();
        inner.histories[process] = hash_of(&(inner.histories[process], nth, now));
        let one = inner.waiting.iter_mut().filter(|one| one.process == process && !one.granted).nth(nth);
        let one = one.expect("only what waits is let through");
        one.granted = true;
        if let Some(waker) = one.waker.take() {
            drop(inner);
            waker.wake();
        }
    }

    /// What was done since the last operation was let through.
    pub(super) fn touched(&self) -> Vec<Touch> {
        std::mem::take(&mut self.inner().touched)
    }

    /// Waits until the scheduler lets this operation through; no time at all for nobody in particular, nor for a look at the
    /// clock, which nobody else can see.
    pub(super) fn gate(self: &Arc<Self>, process: Option<usize>, says: impl FnOnce() -> String) -> Gate {
        let Some(process) = process else { return Gate { bucket: Arc::clone(self), ticket: None } };
        let mut inner = self.inner();
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.waiting.push(Waiting { ticket, process, says: says(), waker: None, granted: false });
        Gate { bucket: Arc::clone(self), ticket: Some(ticket) }
    }

    fn answer(inner: &mut Inner, process: Option<usize>, touch: Touch, answer: u64) {
        if let Some(process) = process {
            inner.histories[process] = hash_of(&(inner.histories[process], &touch, answer));
            inner.touched.push(touch);
        }
    }

    pub(super) fn get(&self, process: Option<usize>, key: &str) -> Option<Object> {
        let mut inner = self.inner();
        let found = inner.objects.get(key).cloned();
        let answer = found.as_ref().map_or(0, |object| object.hash);
        Self::answer(&mut inner, process, Touch::Read(key.to_owned()), answer);
        found
    }

    /// Writes an object; where it must be new, whether it was.
    pub(super) fn put(&self, process: Option<usize>, key: &str, content: Bytes, new: bool) -> bool {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let there = inner.objects.contains_key(key);
        let touch = if is_clock(key) { Touch::Clock } else { Touch::Put(key.to_owned()) };
        Self::answer(inner, process, touch, u64::from(new && there));
        if new && there {
            return false;
        }
        let modified = self.clock.now_ms();
        let object = Object { hash: hash_of(&(key, modified, &content)), content, modified };
        inner.hash ^= object.hash;
        if let Some(old) = inner.objects.insert(key.to_owned(), object) {
            inner.hash ^= old.hash;
        }
        true
    }

    pub(super) fn delete(&self, process: Option<usize>, key: &str) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        if let Some(old) = inner.objects.remove(key) {
            inner.hash ^= old.hash;
        }
        let touch = if is_clock(key) { Touch::Clock } else { Touch::Delete(key.to_owned()) };
        Self::answer(inner, process, touch, 0);
    }

    /// At most `limit` objects under `prefix` after `after`, and whether there may be more.
    pub(super) fn list(
        &self,
        process: Option<usize>,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<(String, u64, u64)>, bool) {
        let mut inner = self.inner();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found: Vec<_> = inner
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, object)| (key.clone(), object.content.len() as u64, object.modified))
            .collect();
        let more = found.len() == limit;
        let touch = if is_clock(prefix) {
            Touch::Clock
        } else {
            Touch::List {
                prefix: prefix.to_owned(),
                after: after.map(str::to_owned),
                until: found.last().filter(|_| more).map(|(key, ..)| key.clone()),
            }
        };
        let answer = hash_of(&found);
        Self::answer(&mut inner, process, touch, answer);
        (found, more)
    }
}

/// Whether a key is one by which a process learns the store's time: nobody else looks at it.
pub(super) fn is_clock(key: &str) -> bool {
    key.starts_with(&layout::clock(""))
}

/// An operation before the gate.
pub(super) struct Gate {
    bucket: Arc<Bucket>,
    ticket: Option<u64>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(ticket) = self.ticket else { return Poll::Ready(()) };
        let mut inner = self.bucket.inner();
        let at = inner.waiting.iter().position(|one| one.ticket == ticket);
        let at = at.expect("an operation waits until it is let through");
        if inner.waiting[at].granted {
            inner.waiting.remove(at);
            drop(inner);
            self.ticket = None;
            return Poll::Ready(());
        }
        inner.waiting[at].waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.bucket.inner().waiting.retain(|one| one.ticket != ticket);
        }
    }
}
