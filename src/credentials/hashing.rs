//! Hashes passwords in spare time, and a few at the usual priority if there is none.
//!
//! A thread in spare time may stand still at any point while other processes are busy. So it only hashes, and never
//! holds anything that other threads wait for. Its driver waits half a second for each password, and then hashes that
//! password itself. The driver takes at most a tenth of a core, so people can log in to a busy server.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::hash::CannotVerify;
use super::job::Job;
use crate::priority::{only_spare_time, thread_time};

/// The longest wait for a hash in spare time.
const PATIENCE: Duration = Duration::from_millis(500);
/// The shortest rest after a hash at the usual priority.
const PAUSE: Duration = Duration::from_millis(250);
/// The rest, as a multiple of the processor time of that hash.
const REST: u32 = 9;

type Verified = Result<bool, CannotVerify>;

/// A thread that hashes in spare time, and its driver's end of the channels.
pub(super) struct Hashing {
    jobs: Sender<Arc<Job>>,
    verified: Receiver<Verified>,
    /// True while the thread is still at a password whose driver has stopped waiting.
    is_stuck: bool,
    rests_until: Instant,
}

impl Hashing {
    /// Starts the thread. The thread ends when this value is dropped.
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
        // without a thread the channels are closed, which has the same effect as a thread that stands still
        if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(work) {
            tracing::error!(%error, "no thread to hash passwords in spare time");
        }
        Self { jobs, verified, is_stuck: false, rests_until: Instant::now() }
    }

    /// Verifies a password: in spare time, or at the usual priority after half a second.
    pub(super) fn verify(&mut self, job: &Arc<Job>) -> Verified {
        if self.is_stuck {
            // the late outcome answers a password that was answered long ago
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
