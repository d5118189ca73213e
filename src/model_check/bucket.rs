//! The store that all processes share: a map, and a gate before every operation on it.

mod given_up;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

pub(super) use self::given_up::{GiveUps, Late};
use super::event::Touch;
use crate::{records::key::Prefix, registry::Clock};

/// The lease that all processes are configured with.
pub(super) const LEASE: Duration = Duration::from_secs(1000);

/// An object and the time when it was written.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) content: Bytes,
    pub(super) modified: u64,
    /// The hash of its key, its time and its content.
    hash: u64,
    /// The hash of its key and of the values that a listing shows.
    seen: u64,
}

/// All objects, by key.
pub(super) type Objects = BTreeMap<Arc<str>, Object>;

/// The result of a listing: keys, sizes and times.
pub(super) type Listed = Vec<(Arc<str>, u64, u64)>;

pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The objects, and a hash of all of them, which tells equal stores without a comparison.
#[derive(Clone, Default)]
pub(super) struct Map {
    pub(super) objects: Objects,
    pub(super) hash: u64,
}

impl Map {
    pub(super) fn new(objects: Objects) -> Self {
        let hash = objects.values().fold(0, |hash, object| hash ^ object.hash);
        Self { objects, hash }
    }

    fn put(&mut self, key: &Arc<str>, content: Bytes, modified: u64) {
        let seen = hash_of(&(key, modified, content.len()));
        let object = Object { hash: hash_of(&(seen, &content)), seen, content, modified };
        self.hash ^= object.hash;
        if let Some(old) = self.objects.insert(Arc::clone(key), object) {
            self.hash ^= old.hash;
        }
    }

    fn delete(&mut self, key: &str) {
        if let Some(old) = self.objects.remove(key) {
            self.hash ^= old.hash;
        }
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Object)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let all = self.objects.range::<str, _>((from, Bound::Unbounded));
        all.take_while(move |(key, _)| key.starts_with(prefix)).take(limit)
    }
}

/// An operation of a process on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The begin of something, with no operation.
    Begin(String),
    Stat(Arc<str>),
    Read(Arc<str>),
    Put {
        key: Arc<str>,
        content: Bytes,
        new: bool,
    },
    Delete(Arc<str>),
    List {
        prefix: Arc<str>,
        after: Option<Arc<str>>,
        limit: usize,
    },
}

/// The answer to an operation.
#[derive(Clone)]
pub(super) enum Answer {
    Done,
    Found(Option<Object>),
    /// True if the object was written.
    Written(bool),
    /// The keys, and true if there may be more.
    Listed(Listed, bool),
    /// The write or delete took too long: it may land later.
    GivenUp,
}

impl Op {
    pub(super) fn says(&self) -> String {
        match self {
            Self::Begin(what) => format!("begins to {what}"),
            Self::Stat(key) => format!("stat {key}"),
            Self::Read(key) => format!("read {key}"),
            Self::Put { key, new: true, .. } => format!("create {key}"),
            Self::Put { key, .. } => format!("put {key}"),
            Self::Delete(key) => format!("delete {key}"),
            Self::List { prefix, .. } => format!("list {prefix}"),
        }
    }

    /// Returns whether a process learns the store's time by this operation. No other operation looks at such keys.
    pub(super) fn asks_time(&self) -> bool {
        match self {
            Self::Begin(_) => false,
            Self::Stat(key) | Self::Read(key) | Self::Put { key, .. } | Self::Delete(key) => is_clock(key),
            Self::List { prefix, .. } => is_clock(prefix),
        }
    }

    pub(super) fn answer(&self, map: &Map) -> Answer {
        match self {
            Self::Begin(_) | Self::Delete(_) => Answer::Done,
            Self::Stat(key) | Self::Read(key) => Answer::Found(map.objects.get(key).cloned()),
            Self::Put { key, new, .. } => Answer::Written(!*new || !map.objects.contains_key(key)),
            Self::List { prefix, after, limit } => {
                let found = map.list(prefix, after.as_deref(), *limit);
                let found: Listed = found
                    .map(|(key, object)| (Arc::clone(key), object.content.len() as u64, object.modified))
                    .collect();
                let more = found.len() == *limit;
                Answer::Listed(found, more)
            }
        }
    }

    /// Returns a hash of the answer, without making one.
    pub(super) fn hash_of_answer(&self, map: &Map) -> u64 {
        match self {
            Self::Begin(_) | Self::Delete(_) => 0,
            Self::Stat(key) => map.objects.get(key).map_or(0, |object| object.seen),
            Self::Read(key) => map.objects.get(key).map_or(0, |object| object.hash),
            Self::Put { key, new, .. } => u64::from(*new && map.objects.contains_key(key)),
            Self::List { prefix, after, limit } => {
                let mut hasher = DefaultHasher::new();
                map.list(prefix, after.as_deref(), *limit).for_each(|(_, object)| hasher.write_u64(object.seen));
                hasher.finish()
            }
        }
    }

    pub(super) fn changes(&self, map: &Map) -> bool {
        match self {
            Self::Put { key, new, .. } => !*new || !map.objects.contains_key(key),
            Self::Delete(key) => map.objects.contains_key(key),
            _ => false,
        }
    }

    pub(super) fn apply(&self, map: &mut Map, now: u64) {
        match self {
            Self::Put { key, content, new } if !*new || !map.objects.contains_key(key) => {
                map.put(key, content.clone(), now);
            }
            Self::Delete(key) => map.delete(key),
            _ => {}
        }
    }

    /// Returns the effect of the operation that other processes can see.
    pub(super) fn touch(&self, map: &Map) -> Option<Touch> {
        Some(match self {
            Self::Begin(_) => return None,
            Self::Stat(key) | Self::Read(key) => Touch::Read(Arc::clone(key)),
            Self::Put { key, .. } => Touch::Put(Arc::clone(key)),
            Self::Delete(key) => Touch::Delete(Arc::clone(key)),
            Self::List { prefix, after, limit } => {
                let until = map.list(prefix, after.as_deref(), *limit).nth(limit - 1).map(|(key, _)| Arc::clone(key));
                Touch::List { prefix: Arc::clone(prefix), after: after.clone(), until }
            }
        })
    }
}

/// An operation that waits at the gate, or was let through.
struct Waiting {
    ticket: u64,
    process: usize,
    op: Op,
    waker: Option<Waker>,
    answer: Option<Answer>,
}

#[derive(Default)]
struct Inner {
    map: Map,
    late: Vec<Late>,
    waiting: Vec<Waiting>,
    tickets: u64,
}

/// The store and the gate.
pub(super) struct Bucket {
    inner: Mutex<Inner>,
    /// The store's own clock.
    pub(super) clock: Clock,
    /// The clocks of the processes.
    own: Vec<Clock>,
}

impl Bucket {
    /// Makes a store that has existed for the time `passed`, with a clock for each process. All clocks show the same.
    pub(super) fn new(objects: Objects, passed: Duration, processes: usize) -> Arc<Self> {
        let inner = Inner { map: Map::new(objects), ..Inner::default() };
        let clock = || {
            let clock = Clock::by_hand();
            clock.advance(passed);
            clock.store_said(clock.peek_ms());
            clock
        };
        Arc::new(Self { inner: Mutex::new(inner), clock: clock(), own: (0..processes).map(|_| clock()).collect() })
    }

    /// Returns the clock of a process; `None`: the store's own clock.
    pub(super) fn clock_of(&self, process: Option<usize>) -> &Clock {
        process.map_or(&self.clock, |process| &self.own[process])
    }

    /// Lets time pass for the store and all processes but one that stands still.
    pub(super) fn pass(&self, time: Duration, frozen: Option<usize>) {
        self.clock.advance(time);
        for (process, clock) in self.own.iter().enumerate() {
            if frozen != Some(process) {
                clock.advance(time);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the store")
    }

    pub(super) fn objects(&self) -> Objects {
        self.inner().map.objects.clone()
    }

    /// Runs `work` on the objects as they are.
    pub(super) fn with_objects<T>(&self, work: impl FnOnce(&Objects) -> T) -> T {
        work(&self.inner().map.objects)
    }

    /// Returns the operations of a process that wait, in the order in which they came.
    pub(super) fn waiting(&self, process: usize) -> Vec<Op> {
        let inner = self.inner();
        let waiting = inner.waiting.iter().filter(|one| one.process == process && one.answer.is_none());
        waiting.map(|one| one.op.clone()).collect()
    }

    pub(super) fn waits(&self, process: usize) -> usize {
        self.inner().waiting.iter().filter(|one| one.process == process && one.answer.is_none()).count()
    }

    /// Lets the `nth` of them through. Returns the operation.
    pub(super) fn grant(&self, process: usize, nth: usize) -> Op {
        let mut inner = self.inner();
        let one = inner.waiting.iter().filter(|one| one.process == process && one.answer.is_none()).nth(nth);
        let op = one.expect("only what waits is let through").op.clone();
        let answer = op.answer(&inner.map);
        op.apply(&mut inner.map, self.clock.peek_ms());
        drop(inner);
        self.tell(process, nth, answer);
        op
    }

    /// Answers the `nth` of them.
    pub(super) fn tell(&self, process: usize, nth: usize, answer: Answer) {
        let mut inner = self.inner();
        let one = inner.waiting.iter_mut().filter(|one| one.process == process && one.answer.is_none()).nth(nth);
        let one = one.expect("only what waits is answered");
        one.answer = Some(answer);
        if let Some(waker) = one.waker.take() {
            drop(inner);
            waker.wake();
        }
    }

    /// Asks for an operation, and waits until the scheduler lets it through. An operation of no process does not wait.
    /// Neither does a read of the store's time, which no other process can see.
    pub(super) fn ask(self: &Arc<Self>, process: Option<usize>, op: Op) -> Gate {
        let mut inner = self.inner();
        let Some(process) = process.filter(|_| !op.asks_time()) else {
            let answer = op.answer(&inner.map);
            // a read of the store's clock, so the process behaves differently at another time
            op.apply(&mut inner.map, self.clock.now_ms());
            return Gate { bucket: Arc::clone(self), ticket: 0, answer: Some(answer) };
        };
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.waiting.push(Waiting { ticket, process, op, waker: None, answer: None });
        Gate { bucket: Arc::clone(self), ticket, answer: None }
    }

    /// Waits at the gate before a process begins something.
    pub(super) async fn begin(self: &Arc<Self>, process: Option<usize>, what: &str) {
        self.ask(process, Op::Begin(what.to_owned())).await;
    }

    /// Writes an object from outside.
    pub(super) fn put(&self, _: Option<usize>, key: &str, content: Bytes, new: bool) {
        let op = Op::Put { key: key.into(), content, new };
        op.apply(&mut self.inner().map, self.clock.peek_ms());
    }

    /// Removes an object from outside.
    pub(super) fn delete(&self, _: Option<usize>, key: &str) {
        self.inner().map.delete(key);
    }

    /// Returns the keys under a prefix.
    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        self.inner().map.list(prefix, None, usize::MAX).map(|(key, _)| key.to_string()).collect()
    }
}

fn is_clock(key: &str) -> bool {
    Prefix::Clocks.has(key)
}

/// An operation before the gate.
pub(super) struct Gate {
    bucket: Arc<Bucket>,
    ticket: u64,
    answer: Option<Answer>,
}

impl Future for Gate {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.answer.take() {
            return Poll::Ready(answer);
        }
        let mut inner = self.bucket.inner();
        let at = inner.waiting.iter().position(|one| one.ticket == self.ticket);
        let at = at.expect("an operation waits until it is let through");
        if inner.waiting[at].answer.is_some() {
            let answer = inner.waiting.remove(at).answer;
            return answer.map_or(Poll::Pending, Poll::Ready);
        }
        inner.waiting[at].waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.bucket.inner().waiting.retain(|one| one.ticket != self.ticket);
    }
}
