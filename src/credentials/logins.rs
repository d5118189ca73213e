//! Verifies passwords, and remembers the outcome.
//!
//! A hash is slow on purpose: some 20 ms of a core and 19 MiB. So each credential is verified once and then remembered
//! for five minutes, under a keyed hash. The password itself is not kept.
//!
//! Threads of their own verify, on half of the cores and in spare time, so a flood of wrong passwords takes only idle
//! time. A remembered credential never waits for them. Others wait for their turn (see `queue`), a few seconds at most,
//! even if there is no spare time (see `hashing`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngCore as _;
use sha2::Sha256;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::accounts::{Account, Accounts};
use super::hash::LONGEST_PASSWORD;
use super::hashing::Hashing;
use super::job::{Job, Key};
use super::queue::{Pushed, Queue};
use crate::identity::{Client, User};
use crate::memory::{Memory, Part};

/// The time for which a right credential is remembered.
const REMEMBERED: Duration = Duration::from_mins(5);
/// The time for which a wrong credential is remembered, for the retries of one client.
const WRONG_REMEMBERED: Duration = Duration::from_secs(2);
/// The longest wait for a verification.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest username, in bytes: 255 characters.
const LONGEST_USERNAME: usize = 1020;
/// The time that a thread waits for the next password before it ends.
const IDLE: Duration = Duration::from_secs(30);

/// Verifies passwords, and remembers the outcome. A process has one such value, which outlives configurations.
pub struct Logins {
    shared: Arc<Shared>,
}

/// The reason why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The user does not exist, or the password is another.
    #[error("the username or the password is wrong")]
    Wrong,
    /// Too many passwords wait to be verified; try again in a few seconds.
    #[error("too many passwords wait to be verified; try again in a few seconds")]
    Busy,
}

struct Shared {
    secret: Zeroizing<[u8; 32]>,
    right: Part<Key, ()>,
    wrong: Part<Key, ()>,
    verified: AtomicU64,
    state: Mutex<State>,
    work_came: Condvar,
    most_workers: usize,
}

struct State {
    queue: Queue<Job>,
    /// The waiters of queued and running jobs. Several may wait for one credential.
    waiting: HashMap<Key, Vec<oneshot::Sender<bool>>>,
    workers: usize,
    idle: usize,
    closed: bool,
}

impl Logins {
    /// Begins with nothing remembered, and remembers in `memory`. Threads begin with the first password.
    #[must_use]
    pub fn new(memory: &Arc<Memory>) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(secret.as_mut());
        let remembered = |time| Part::new(memory, |_: &Key, (): &()| size_of::<Key>()).for_time(time);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let state = State { queue: Queue::new(), waiting: HashMap::new(), workers: 0, idle: 0, closed: false };
        let shared = Shared {
            secret,
            right: remembered(REMEMBERED),
            wrong: remembered(WRONG_REMEMBERED),
            verified: AtomicU64::new(0),
            state: Mutex::new(state),
            work_came: Condvar::new(),
            most_workers: (cores / 2).max(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Verifies a username and password, and returns the user. The address `client` only decides about turns.
    ///
    /// A remembered password takes a microsecond. Any other password waits for its turn, at most 10 seconds, and for
    /// the hash. A password of an unknown user takes as long as a wrong password of the user with the most costly
    /// hash.
    ///
    /// # Errors
    /// [`LoginError::Busy`] if too many passwords wait, or one has waited too long. A password of over 1 KiB is wrong.
    pub async fn verify(
        &self,
        accounts: &Arc<Accounts>,
        client: IpAddr,
        username: &str,
        password: &str,
    ) -> Result<Arc<User>, LoginError> {
        if password.len() > LONGEST_PASSWORD || username.len() > LONGEST_USERNAME {
            return Err(LoginError::Wrong);
        }
        let account = accounts.named(username);
        let hash = account.map(|account| &account.hash).or(accounts.dummy()).ok_or(LoginError::Wrong)?;
        let key = self.shared.key(account.map(Arc::as_ref), username, password);
        let is_right = if self.shared.right.get(&key).is_some() {
            true
        } else if self.shared.wrong.get(&key).is_some() {
            false
        } else {
            let job = Job { key, hash: Arc::clone(hash), password: password.into() };
            let answer = Shared::submit(&self.shared, client.into(), username, job)?;
            // a dropped sender means a job that was put aside for another, or a failed verification
            timeout(LONGEST_WAIT, answer).await.ok().and_then(Result::ok).ok_or(LoginError::Busy)?
        };
        match account {
            Some(account) if is_right => Ok(Arc::clone(&account.user)),
            _ => Err(LoginError::Wrong),
        }
    }

    /// Returns the number of hashes computed so far.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        self.shared.verified.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("verifications", &self.verifications()).finish_non_exhaustive()
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work_came.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together, so a panicking thread leaves a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, account: Option<&Account>, username: &str, password: &str) -> Key {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_ref()).expect("HMAC takes keys of every length");
        let (id, version) = account.map_or(("", ""), |account| (&account.user.id, account.version()));
        for part in [id, version, username, password] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// Adds a job to the queue, or adds a waiter to the same job of another request.
    fn submit(
        shared: &Arc<Self>,
        client: Client,
        username: &str,
        job: Job,
    ) -> Result<oneshot::Receiver<bool>, LoginError> {
        let (sender, receiver) = oneshot::channel();
        let key = job.key;
        let mut state = shared.lock();
        if let Some(waiting) = state.waiting.get_mut(&key) {
            waiting.push(sender);
            return Ok(receiver);
        }
        match state.queue.push(client, username, job) {
            Pushed::Waits => {}
            Pushed::Instead(other) => drop(state.waiting.remove(&other.key)),
            Pushed::Full => return Err(LoginError::Busy),
        }
        state.waiting.insert(key, vec![sender]);
        if state.queue.len() > state.idle && state.workers < shared.most_workers {
            state.workers += 1;
            let mut worker = Worker { shared: Arc::clone(shared), is_counted: true };
            drop(state);
            // without a new thread the job waits for other threads, or for the end of its time
            if let Err(error) = thread::Builder::new().name("logins".to_owned()).spawn(move || worker.run()) {
                tracing::error!(%error, "no thread to verify passwords with");
            }
        } else {
            shared.work_came.notify_one();
        }
        Ok(receiver)
    }
}

impl State {
    /// Returns the next job that still has a waiter.
    fn pop(&mut self) -> Option<Job> {
        while let Some(job) = self.queue.pop() {
            let is_wanted = |waiting: &Vec<oneshot::Sender<bool>>| waiting.iter().any(|one| !one.is_closed());
            if self.waiting.get(&job.key).is_some_and(is_wanted) {
                return Some(job);
            }
            self.waiting.remove(&job.key);
        }
        None
    }
}

/// A thread that takes jobs from the queue, has them verified, and answers their waiters.
struct Worker {
    shared: Arc<Shared>,
    is_counted: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_counted {
            self.shared.lock().workers -= 1;
        }
    }
}

impl Worker {
    fn run(&mut self) {
        let mut hashing = Hashing::start();
        while let Some(job) = self.next().map(Arc::new) {
            let answer = Answer { shared: &self.shared, key: job.key, is_given: false };
            let verified = hashing.verify(&job);
            self.shared.verified.fetch_add(1, Ordering::Relaxed);
            match verified {
                Ok(is_right) => answer.give(is_right),
                Err(error) => tracing::error!(?error, "a password cannot be verified, perhaps for want of memory"),
            }
        }
    }

    /// Returns the next job that still has a waiter. `None` means that there was no job for a while, and that this
    /// worker is no longer counted.
    fn next(&mut self) -> Option<Job> {
        let mut state = self.shared.lock();
        let mut has_waited = false;
        loop {
            if state.closed || has_waited && state.queue.len() == 0 {
                // under the lock, so that the next job does not count on a worker that leaves
                state.workers -= 1;
                self.is_counted = false;
                return None;
            }
            if let Some(job) = state.pop() {
                return Some(job);
            }
            state.idle += 1;
            let (woken, waited) =
                self.shared.work_came.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            has_waited = waited.timed_out();
        }
    }
}

/// The waiters of a job in progress. Its drop removes waiters that got no answer.
struct Answer<'a> {
    shared: &'a Shared,
    key: Key,
    is_given: bool,
}

impl Answer<'_> {
    fn give(mut self, is_right: bool) {
        // remembered first, so that a request after the answer finds the outcome
        let cache = if is_right { &self.shared.right } else { &self.shared.wrong };
        cache.insert(self.key, ());
        let waiting = self.shared.lock().waiting.remove(&self.key);
        for one in waiting.unwrap_or_default() {
            let _ = one.send(is_right); // the client may be gone
        }
        self.is_given = true;
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // otherwise a new job for the same credential may have waiters by now
        if !self.is_given {
            self.shared.lock().waiting.remove(&self.key);
        }
    }
}
