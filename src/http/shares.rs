//! Shares pools among clients: requests, lists, transfers, connections and memory.
//!
//! One client may hold a whole pool only while nobody else asks. In a full pool, the client that holds most gives up its
//! slowest share to a client that holds less. Shares without an end of their own are not given up; there the waiting client
//! that holds least is next.

mod cut;
mod pace;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

pub(super) use self::{
    cut::{Cut, Streams},
    pace::Pace,
};
use crate::identity::Client;

/// The time after which a waiter asks again whether another client has become slow.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A pool of places, or of units of memory.
pub(super) struct Pool {
    size: usize,
    most_waiting: usize,
    /// The bytes a second below which a share is given up to any other client that asks.
    least_rate: u64,
    state: Mutex<State>,
    emptied: Notify,
    /// Called for each share that is given up.
    gave_up: Box<dyn Fn() + Send + Sync>,
}

/// The one that asks for a share: its client, its pace, and the way to end it. Without an end a share is never given up.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) client: Client,
    pub(super) ends: Option<(Arc<Pace>, Arc<Cut>)>,
}

/// The reason why a client gets no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many wait already.
    QueueFull,
    /// The wait took too long.
    TooLong,
}

#[derive(Default)]
struct State {
    used: usize,
    waiting: usize,
    /// The number of the last waiter.
    last: u64,
    clients: HashMap<Client, Uses, foldhash::fast::RandomState>,
}

/// The shares of one client, and its waiters. No client without either is listed.
#[derive(Default)]
struct Uses {
    held: usize,
    /// The shares that can be given up.
    ending: Vec<Arc<Held>>,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    number: u64,
    weight: usize,
    holder: Holder,
    sender: oneshot::Sender<Share>,
}

struct Held {
    weight: usize,
    holder: Holder,
}

/// A part of a pool, given back when dropped.
pub(super) struct Share {
    pool: Arc<Pool>,
    held: Arc<Held>,
}

impl Pool {
    /// Creates a pool. `gave_up` is called for each share that a client loses to another.
    pub(super) fn new(
        size: usize,
        most_waiting: usize,
        least_rate: u64,
        gave_up: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (state, emptied, gave_up) = (Mutex::default(), Notify::new(), Box::new(gave_up));
        Arc::new(Self { size, most_waiting, least_rate, state, emptied, gave_up })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share at once: a free one, or in place of one that another client gives up.
    pub(super) fn take(self: &Arc<Self>, holder: &Holder, weight: usize) -> Option<Share> {
        let mut state = self.lock();
        let weight = weight.min(self.size);
        let may = if self.has_room(&state, weight) {
            // what is left may be too little for those that wait
            state.waiting == 0
        } else {
            self.make_room(&mut state, holder.client, weight)
        };
        may.then(|| self.give(&mut state, holder, weight))
    }

    /// Takes a share as `take` does, or waits for one. Without a longest time, the queue has no limit either.
    pub(super) async fn wait(
        self: &Arc<Self>,
        holder: &Holder,
        weight: usize,
        longest: Option<Duration>,
    ) -> Result<Share, Refused> {
        match self.take(holder, weight) {
            Some(share) => Ok(share),
            // boxed: most requests wait for nothing
            None => Box::pin(self.wait_in_queue(holder, weight, longest)).await,
        }
    }

    async fn wait_in_queue(
        self: &Arc<Self>,
        holder: &Holder,
        weight: usize,
        longest: Option<Duration>,
    ) -> Result<Share, Refused> {
        let queue = if longest.is_some() { self.most_waiting } else { usize::MAX };
        let (waiting, receiver) = self.enqueue(holder, weight.min(self.size), queue).ok_or(Refused::QueueFull)?;
        let outcome = tokio::time::timeout(longest.unwrap_or(Duration::MAX), self.ask_again(receiver)).await;
        drop(waiting);
        match outcome {
            Ok(Ok(share)) => Ok(share),
            Ok(Err(_)) => Err(Refused::QueueFull),
            Err(_) => Err(Refused::TooLong),
        }
    }

    /// Waits for a share that another client gives back. Asks again meanwhile, since a transfer may have become slow.
    async fn ask_again(
        self: &Arc<Self>,
        mut receiver: oneshot::Receiver<Share>,
    ) -> Result<Share, oneshot::error::RecvError> {
        loop {
            match tokio::time::timeout(ASK_AGAIN, &mut receiver).await {
                Ok(outcome) => return outcome,
                Err(_) => self.serve(self.lock()),
            }
        }
    }

    /// Waits until all shares are back.
    pub(super) async fn emptied(&self) {
        while self.lock().used > 0 {
            self.emptied.notified().await;
        }
    }

    const fn has_room(&self, state: &State, weight: usize) -> bool {
        state.used + weight <= self.size
    }

    /// Lets other clients give up shares until there is room. Returns false, and takes nothing, if they hold no more than
    /// their part.
    fn make_room(&self, state: &mut State, client: Client, weight: usize) -> bool {
        let mut given_up: Vec<Arc<Held>> = Vec::new();
        while !self.has_room(state, weight) {
            let chosen = greediest(state, client, weight).or_else(|| self.slow(state, client));
            let Some((uses, at)) = chosen.and_then(|(other, at)| Some((state.clients.get_mut(&other)?, at))) else {
                // without enough room no share is given up
                for held in given_up {
                    state.put_back(held);
                }
                return false;
            };
            let held = uses.ending.swap_remove(at);
            uses.held -= held.weight;
            state.used -= held.weight;
            given_up.push(held);
        }
        for held in given_up {
            state.forget_if_empty(held.holder.client);
            if let Some((_, cut)) = &held.holder.ends {
                cut.make();
            }
            (self.gave_up)();
        }
        true
    }

    /// Returns a share of another client whose pace is below the least.
    fn slow(&self, state: &State, client: Client) -> Option<(Client, usize)> {
        if self.least_rate == 0 {
            return None;
        }
        let is_slow = |held: &Held| held.pace().is_some_and(|pace| pace.is_below(self.least_rate));
        let mut others = state.clients.iter().filter(|(other, _)| **other != client);
        others.find_map(|(other, uses)| Some((*other, slowest(uses, is_slow)?)))
    }

    fn give(self: &Arc<Self>, state: &mut State, holder: &Holder, weight: usize) -> Share {
        let held = Arc::new(Held { weight, holder: holder.clone() });
        let uses = state.clients.entry(holder.client).or_default();
        uses.held += weight;
        state.used += weight;
        if holder.ends.is_some() {
            uses.ending.push(Arc::clone(&held));
        }
        Share { pool: Arc::clone(self), held }
    }

    /// Adds a waiter. In a full queue the newest waiter of the client with most waiters gives way.
    fn enqueue(
        self: &Arc<Self>,
        holder: &Holder,
        weight: usize,
        most: usize,
    ) -> Option<(Waiting<'_>, oneshot::Receiver<Share>)> {
        let mut state = self.lock();
        if state.waiting >= most {
            let own = state.clients.get(&holder.client).map_or(0, |uses| uses.waiting.len());
            let greedy = state.clients.values_mut().max_by_key(|uses| uses.waiting.len())?;
            if greedy.waiting.len() <= own + 1 {
                return None;
            }
            greedy.waiting.pop_back();
            state.waiting -= 1;
        }
        state.last += 1;
        state.waiting += 1;
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { number: state.last, weight, holder: holder.clone(), sender };
        let number = waiter.number;
        state.clients.entry(holder.client).or_default().waiting.push_back(waiter);
        // shares may have come back since this client asked, and perhaps no other will
        self.serve(state);
        Some((Waiting { pool: self, client: holder.client, number }, receiver))
    }

    /// Takes the next waiter that there is room for, or that others give up shares to: of the clients that wait, the one that
    /// holds least.
    fn next(&self, state: &mut State) -> Option<Waiter> {
        if state.waiting == 0 {
            return None;
        }
        let waiting = state.clients.iter().filter_map(|(client, uses)| Some((client, uses, uses.waiting.front()?)));
        let next = waiting.min_by_key(|(_, uses, first)| (uses.held, first.number));
        let (client, weight) = next.map(|(client, _, first)| (*client, first.weight))?;
        if !self.make_room(state, client, weight) {
            return None;
        }
        state.waiting -= 1;
        state.clients.get_mut(&client)?.waiting.pop_front()
    }

    /// Takes a share back, and gives to those that wait.
    fn give_back(self: &Arc<Self>, held: &Arc<Held>) {
        let mut state = self.lock();
        state.take_back(held);
        self.serve(state);
    }

    /// Gives to those that wait, while there is room.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        // a share that nobody takes comes back to this pool, so not under the lock
        let mut unwanted = Vec::new();
        while let Some(waiter) = self.next(&mut state) {
            let share = self.give(&mut state, &waiter.holder, waiter.weight);
            unwanted.extend(waiter.sender.send(share).err());
        }
        if state.used == 0 {
            self.emptied.notify_one();
        }
        drop(state);
        drop(unwanted);
    }
}

/// Returns the slowest share of the client that holds most, if that client holds as much as `client` even afterwards.
fn greediest(state: &State, client: Client, weight: usize) -> Option<(Client, usize)> {
    let own = state.clients.get(&client).map_or(0, |uses| uses.held) + weight;
    let others = state.clients.iter().filter(|(other, uses)| **other != client && !uses.ending.is_empty());
    let (other, uses) = others.max_by_key(|(_, uses)| uses.held)?;
    let at = slowest(uses, |_| true)?;
    (uses.held >= own + uses.ending[at].weight).then_some((*other, at))
}

/// Returns the place of the slowest of a client's shares that `counts`.
fn slowest(uses: &Uses, counts: impl Fn(&Held) -> bool) -> Option<usize> {
    let speed = |held: &Held| held.pace().map_or(f64::MAX, |pace| pace.speed());
    let counting = uses.ending.iter().enumerate().filter(|(_, held)| counts(held));
    let speeds = counting.map(|(at, held)| (at, speed(held)));
    speeds.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
}

impl Held {
    fn pace(&self) -> Option<&Arc<Pace>> {
        self.holder.ends.as_ref().map(|(pace, _)| pace)
    }
}

impl State {
    /// Takes a share back, unless its client gave it up.
    fn take_back(&mut self, held: &Arc<Held>) {
        let Some(uses) = self.clients.get_mut(&held.holder.client) else { return };
        if held.holder.ends.is_some() {
            let Some(at) = uses.ending.iter().position(|other| Arc::ptr_eq(other, held)) else { return };
            uses.ending.swap_remove(at);
        }
        uses.held -= held.weight;
        self.used -= held.weight;
        self.forget_if_empty(held.holder.client);
    }

    /// Puts a share back that a client was about to give up.
    fn put_back(&mut self, held: Arc<Held>) {
        let uses = self.clients.entry(held.holder.client).or_default();
        uses.held += held.weight;
        self.used += held.weight;
        uses.ending.push(held);
    }

    fn forget_if_empty(&mut self, client: Client) {
        if self.clients.get(&client).is_some_and(|uses| uses.held == 0 && uses.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_back(&self.held);
    }
}

/// A waiter's place in the queue, until dropped.
struct Waiting<'a> {
    pool: &'a Arc<Pool>,
    client: Client,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let Some(uses) = state.clients.get_mut(&self.client) else { return };
        let Some(at) = uses.waiting.iter().position(|waiter| waiter.number == self.number) else { return };
        uses.waiting.remove(at);
        state.waiting -= 1;
        state.forget_if_empty(self.client);
        // the room that was too little for this waiter may be enough for another
        self.pool.serve(state);
    }
}

#[cfg(test)]
mod tests;
