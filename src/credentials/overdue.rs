//! Passwords for which there is no spare time.
//!
//! Workers run only while a core is idle. Where none ever is, a thread at the usual priority takes one password now and then,
//! so that people can log in to a server that is busy: at most four in a second, and no more than a tenth of a core.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::logins::{Job, Shared, State};
use crate::priority::thread_time;

/// How long a password may take in spare time.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often is looked for one that took longer.
const PAUSE: Duration = Duration::from_millis(250);
/// How much longer than it worked the thread rests.
const REST: u32 = 9;

/// A password that a worker verifies.
pub(super) struct Running {
    job: Arc<Job>,
    since: Instant,
    /// Whether it is being verified a second time.
    is_taken: bool,
}

impl Running {
    pub(super) fn new(job: &Arc<Job>) -> Self {
        Self { job: Arc::clone(job), since: Instant::now(), is_taken: false }
    }

    /// Whether this is that job, and not another for the same password.
    pub(super) fn is(&self, job: &Arc<Job>) -> bool {
        Arc::ptr_eq(&self.job, job)
    }
}

impl State {
    /// What no worker comes to: one that a worker is stuck in, or the next in turn where none has taken one for as long.
    fn overdue(&mut self) -> Option<Arc<Job>> {
        let is_stuck = |one: &&mut Running| !one.is_taken && one.since.elapsed() >= PATIENCE;
        if let Some(stuck) = self.running.iter_mut().find(is_stuck) {
            stuck.is_taken = true;
            return Some(Arc::clone(&stuck.job));
        }
        if self.moved.elapsed() < PATIENCE { None } else { self.pop().map(Arc::new) }
    }
}

/// Sees to what is overdue, in a thread of its own, for as long as there are workers.
pub(super) fn watch(shared: &Arc<Shared>) {
    let watched = Arc::clone(shared);
    let work = move || {
        let mut rest = PAUSE;
        loop {
            thread::sleep(rest);
            let before = thread_time();
            let overdue = {
                let mut state = watched.lock();
                if state.closed || state.workers == 0 {
                    // under the lock, so that who starts the next worker starts this again
                    state.is_watched = false;
                    return;
                }
                state.overdue()
            };
            if let Some(job) = overdue {
                watched.verify(&job);
            }
            rest = PAUSE.max(thread_time().saturating_sub(before) * REST);
        }
    };
    if let Err(error) = thread::Builder::new().name("passwords-due".to_owned()).spawn(work) {
        shared.lock().is_watched = false;
        tracing::error!(%error, "no thread for passwords that wait too long");
    }
}
