//! Passwords are hashed in spare time, and where there is none, now and then at the usual priority.
//!
//! A thread that runs in spare time alone may stand still at any point for as long as others are busy. So it hashes, and
//! does nothing else: above all, it never holds what others wait for. Who hands it passwords waits half a second for each,
//! and else verifies it: at most four in a second, with a tenth of a core, so that people can log in to a server that is busy.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::hash::CannotVerify;
use super::job::Job;
use crate::priority::{only_spare_time, thread_time};

/// How long a password may take in spare time.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it rests at least after one that took longer.
const PAUSE: Duration = Duration::from_millis(250);
/// And how many times as long as it then worked.
const REST: u32 = 9;

type Verified = Result<bool, CannotVerify>;

/// A thread that hashes in spare time, for one that hands it passwords.
pub(super) struct Hashing {
    jobs: Sender<Arc<Job>>,
    verified: Receiver<Verified>,
    /// It is still at a password for which there was no more patience.
    is_stuck: bool,
    rests_until: Instant,
}

impl Hashing {
    /// Starts the thread. It ends with this.
    pub(super) fn start() -> Self {
        let (jobs, to_do) = mpsc::channel::<Arc<Job>>();
        let (done, verified) = mpsc::channel();
        let work = move || {
            only_spare_time();
            while let Ok(job) = to_do.recv() {
                let verified = job.verify();
                drop(job); // the password is not kept for longer than it takes
                if done.send(verified).is_err() {
                    return;
                }
            }
        };
        // without it, its ends of the channels are gone, which is as if it stood still for ever
        if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(work) {
            tracing::error!(%error, "no thread to hash passwords in spare time");
        }
        Self { jobs, verified, is_stuck: false, rests_until: Instant::now() }
    }

    /// Verifies a password: in spare time, or after half a second without.
    pub(super) fn verify(&mut self, job: &Arc<Job>) -> Verified {
        if self.is_stuck {
            // what it comes to at last was answered long ago
            self.is_stuck = self.wait(self.rests_until.saturating_duration_since(Instant::now())).is_none();
        }
        if !self.is_stuck
            && self.jobs.send(Arc::clone(job)).is_ok()
            && let Some(verified) = self.wait(PATIENCE)
        {
            return verified;
        }
        self.is_stuck = true;
        let before = thread_time();
        let verified = job.verify();
        self.rests_until = Instant::now() + PAUSE.max(thread_time().saturating_sub(before) * REST);
        verified
    }

    fn wait(&self, time: Duration) -> Option<Verified> {
        match self.verified.recv_timeout(time) {
            Ok(verified) => Some(verified),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(time);
                None
            }
        }
    }
}
