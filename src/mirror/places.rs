//! Divides the places of downloads among the hosts of upstreams, and among clients.
//!
//! A download keeps its place to its end, since an upstream may have to send everything again to one that was broken off.
//! So nobody gets all places while they are free: each host, and each client, leaves some for those that come later.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::identity::Client;

/// The largest number of downloads of one process at a time. Each takes 16 MiB of memory, or more if its blob
/// is larger than 32 GB.
const AT_ONCE: usize = 32;
/// The number of places that a host may hold for each one that is free.
const FOR_EACH_FREE: usize = 3;
/// The largest number of tasks that ask upstreams in one process.
const TASKS: usize = 4096;
/// The largest number of such tasks of one client.
const TASKS_OF_CLIENT: usize = 256;

/// The one that a place is given to.
#[derive(Clone)]
pub(super) struct Owner {
    /// The host of the first upstream of the repository.
    pub(super) host: Arc<str>,
    pub(super) client: Client,
}

/// The places of downloads.
pub(super) struct Places(Mutex<State>);

struct State {
    free: usize,
    /// The places that each host holds. No host without any is listed.
    hosts: HashMap<Arc<str>, usize>,
    /// The places that each client holds. No client without any is listed.
    clients: HashMap<Client, usize>,
    /// The waiting downloads, in the order in which they came.
    waiting: Vec<Waiter>,
}

struct Waiter {
    owner: Owner,
    sender: oneshot::Sender<Place>,
}

/// A place of a download, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    owner: Owner,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        let (hosts, clients, waiting) = (HashMap::new(), HashMap::new(), Vec::new());
        Arc::new(Self(Mutex::new(State { free: AT_ONCE, hosts, clients, waiting })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, which the receiver gets. It is given back if the receiver is dropped.
    pub(super) fn enqueue(self: &Arc<Self>, owner: Owner) -> oneshot::Receiver<Place> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        state.waiting.push(Waiter { owner, sender });
        self.serve(state);
        receiver
    }

    /// Gives free places to those that wait.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        // a place that nobody takes comes back, so not under the lock
        let mut unwanted = Vec::new();
        state.waiting.retain(|waiter| !waiter.sender.is_closed());
        while let Some(at) = state.next() {
            let Waiter { owner, sender } = state.waiting.remove(at);
            state.free -= 1;
            *state.hosts.entry(Arc::clone(&owner.host)).or_default() += 1;
            *state.clients.entry(owner.client).or_default() += 1;
            unwanted.extend(sender.send(Place { places: Arc::clone(self), owner }).err());
        }
        drop(state);
        drop(unwanted);
    }
}

impl State {
    /// Returns the next waiter that may have a place: one of the client that holds least.
    fn next(&self) -> Option<usize> {
        let may = self.waiting.iter().enumerate().filter(|(_, waiter)| self.may_take(&waiter.owner));
        let next = may.min_by_key(|(at, waiter)| (held(&self.clients, &waiter.owner.client), *at));
        next.map(|(at, _)| at)
    }

    /// Returns whether an owner leaves enough for others. A host holds three times as many places as stay free at most. A
    /// client holds as many as its host can still give to others at most.
    fn may_take(&self, owner: &Owner) -> bool {
        let of_host = held(&self.hosts, &owner.host);
        let left = (FOR_EACH_FREE * self.free).saturating_sub(of_host).div_ceil(FOR_EACH_FREE + 1);
        held(&self.clients, &owner.client) < left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.free += 1;
        give_back(&mut state.hosts, &self.owner.host);
        give_back(&mut state.clients, &self.owner.client);
        self.places.serve(state);
    }
}

fn held<K: std::hash::Hash + Eq>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or(0)
}

fn give_back<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The tasks that ask upstreams. They go on if their clients leave, so the connections of clients do not bound them.
pub(super) struct Tasks(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    /// No client without a task is listed.
    clients: HashMap<Client, usize>,
}

/// One task of a client, until dropped.
pub(super) struct Task {
    tasks: Arc<Tasks>,
    client: Client,
}

impl Tasks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Counts a task. Returns `None` if the client has too many, or as many as are left for all others.
    pub(super) fn begin(self: &Arc<Self>, client: Client) -> Option<Task> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held(&counts.clients, &client) >= TASKS_OF_CLIENT.min(TASKS - counts.all) {
            return None;
        }
        counts.all += 1;
        *counts.clients.entry(client).or_default() += 1;
        Some(Task { tasks: Arc::clone(self), client })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut counts = self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        give_back(&mut counts.clients, &self.client);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures::FutureExt as _;

    use super::*;

    fn client(last: u8) -> Client {
        IpAddr::from([10, 0, 0, last]).into()
    }

    fn owner(host: &str, last: u8) -> Owner {
        Owner { host: host.into(), client: client(last) }
    }

    impl Places {
        async fn wait(self: &Arc<Self>, owner: Owner) -> Option<Place> {
            self.enqueue(owner).await.ok()
        }
    }

    /// Takes places until the next one has to wait.
    fn take_all(places: &Arc<Places>, host: &str, last: u8) -> Vec<Place> {
        std::iter::from_fn(|| places.wait(owner(host, last)).now_or_never().flatten()).collect()
    }

    #[test]
    fn each_client_and_each_host_leaves_places_for_others() {
        let places = Places::new();
        let of_one: Vec<_> = (1..=9).map(|last| take_all(&places, "slow", last)).collect();
        let counts: Vec<_> = of_one.iter().map(Vec::len).collect();
        assert_eq!(counts, [12, 6, 3, 2, 1, 0, 0, 0, 0]);
        let other: Vec<_> = (1..=9).map(|last| take_all(&places, "quick", last)).collect();
        assert_eq!(other.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 2, 1, 1, 1, 1, 0, 0]);
        drop((of_one, other));
        assert_eq!(take_all(&places, "slow", 9).len(), 12, "all places are back");
    }

    #[test]
    fn a_place_goes_to_the_client_that_holds_least_and_to_nobody_who_left() {
        let places = Places::new();
        let mut first = take_all(&places, "slow", 1);
        let _rest: Vec<_> = (2..=5).map(|last| take_all(&places, "slow", last)).collect();
        let mut greedy = Box::pin(places.wait(owner("slow", 1)));
        let mut left = Box::pin(places.wait(owner("slow", 6)));
        let mut second = Box::pin(places.wait(owner("slow", 7)));
        assert!((&mut greedy).now_or_never().is_none());
        assert!((&mut left).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(left);
        first.pop();
        assert!((&mut second).now_or_never().flatten().is_some() && greedy.now_or_never().is_none());
    }

    #[test]
    fn a_client_has_a_bound_of_tasks_and_leaves_some_for_others() {
        let tasks = Tasks::new();
        let begin = |last| std::iter::from_fn(|| tasks.begin(client(last))).collect::<Vec<_>>();
        let first = begin(0);
        assert_eq!(first.len(), TASKS_OF_CLIENT);
        let others: Vec<_> = (1..=20).map(begin).collect();
        assert!(others.iter().all(|tasks| !tasks.is_empty()));
        drop(first);
        // the last of the others left four
        assert_eq!(begin(0).len(), TASKS_OF_CLIENT / 2 + 2);
    }
}
