//! Gathers the lines of requests that end at about the same time, so that one `write` takes all of them.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::{Inner, NotRecording, line};

/// The size of the memory that is kept for the lines to come.
const KEPT: usize = 256 << 10;

/// The outcome of the write of some lines, once it is known.
pub(super) type Outcome = OnceLock<Result<(), NotRecording>>;

/// Lines that wait for their write.
#[derive(Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// The places where lines begin.
    starts: Vec<usize>,
    /// The number of lines that are missing if these cannot be written.
    lost: u64,
    outcome: Arc<Outcome>,
}

pub(super) fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // a thread that panicked here left whole lines behind
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Adds a line without its time. If it cannot be written, `lost` lines are missing.
    pub(super) fn push(&mut self, line: &[u8], lost: u64) -> Arc<Outcome> {
        self.lost += lost;
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(line);
        Arc::clone(&self.outcome)
    }

    /// Takes all lines out.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Returns the number of lines that are missing if these cannot be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the lines with their time.
    pub(super) fn stamped(&mut self, now: Timestamp) -> &[u8] {
        let time = line::time(now);
        for start in &self.starts {
            line::stamp(&mut self.bytes[*start..], &time);
        }
        &self.bytes
    }

    /// Tells all who wait for these lines.
    pub(super) fn tell(&self, written: Result<(), NotRecording>) {
        // it is told once, by the writer that took the lines
        let _ = self.outcome.set(written);
    }

    /// Takes the memory of written lines, to use it again.
    pub(super) fn take_back(&mut self, mut written: Self) {
        if self.bytes.capacity() == 0 && written.bytes.capacity() <= KEPT {
            written.bytes.clear();
            written.starts.clear();
            (self.bytes, self.starts) = (written.bytes, written.starts);
        }
    }
}

/// A line that waits for its write. A drop writes it, so no line stays behind.
#[must_use]
pub struct Gathered {
    inner: Arc<Inner>,
    outcome: Arc<Outcome>,
}

impl Gathered {
    pub(super) fn new(inner: &Arc<Inner>, fields: &impl Serialize) -> Result<Option<Self>, NotRecording> {
        match inner.take_in(fields, 1) {
            Ok(outcome) => Ok(Some(Self { inner: Arc::clone(inner), outcome })),
            Err(refused) => inner.or_go_on(Err(refused)).map(|()| None),
        }
    }

    /// Writes all lines that wait, unless somebody has written this one. Blocks for one `write`.
    ///
    /// # Errors
    /// [`NotRecording`], only with `on_error = "deny"`: answer 503 in place of what was decided.
    pub fn write(self) -> Result<(), NotRecording> {
        self.inner.or_go_on(self.inner.write(&self.outcome))
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if self.outcome.get().is_none() {
            // the request is gone, and learns nothing of a record that cannot be written
            let _ = self.inner.write(&self.outcome);
        }
    }
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathered").finish_non_exhaustive()
    }
}
