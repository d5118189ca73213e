//! Writes the record of decisions: one JSON line for each, in the file before the answer is sent.
//!
//! A line that is recorded has been handed to the system whole, in one `write`; lines of several threads never mix. While
//! no line can be written, requests are refused or go on, as configured, and the record says afterwards how many lines are
//! missing. `docs/reference/audit.md` describes the lines.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `line` | the JSON |
//! | `batch` | lines that one `write` takes together |
//! | `sink` | the destination of lines |
//! | `denials` | one line for many denials of anonymous callers |
//! | `failure` | the failure of a record that cannot be written |
//! | `file` | appending, rotation, files that are moved away |

mod batch;
mod denials;
mod failure;
mod file;
mod line;
mod sink;

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::{self, AuditFile, OnAuditError};
use batch::{Outcome, Queue};
use denials::Counts;
use failure::Failure;
use file::{Keep, Limits};
use line::{Deleted, Gap};
use sink::Sink;

pub use batch::Gathered;
pub use denials::Denial;
pub use line::{Deletion, Event, Line, SeenImage};

/// The time between two tries of a failing record.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The number of files put aside that are kept of those about anonymous callers.
const ANONYMOUS: usize = 9;
/// The size of the memory that a thread keeps for its lines.
const BUFFER: usize = 16 << 10;

thread_local! {
    static LINE: RefCell<Vec<u8>> = RefCell::default();
}

/// A record of decisions or of deletions. Clones write to the same record. A process has one record of decisions, and
/// no other process may write to its file.
#[derive(Clone)]
pub struct Audit {
    inner: Option<Arc<Inner>>,
    /// The file of its own for decisions about anonymous callers that change nothing.
    anonymous: Option<Arc<Inner>>,
    denials: Arc<Counts>,
}

/// The way in which a decision is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// For as long as the configuration says.
    ByAge,
    /// As long as there is room: it is about an anonymous caller, and changes nothing.
    BySize,
    /// The same; and many that are alike become one line. The text is the reference of the request.
    Counted(Denial, String),
}

struct Inner {
    on_error: OnAuditError,
    /// True if `state` has a failure. Readers of this flag need no lock.
    failing: AtomicBool,
    /// The number of lines that could not be written since the start.
    lost: AtomicU64,
    state: Mutex<State>,
    /// The lines that no writer has taken yet. The holder of `state` may take them.
    queue: Mutex<Queue>,
}

struct State {
    sink: Sink,
    failure: Option<Failure>,
}

/// The reason why a record cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {} cannot be opened: {source}; name a file in a directory that this user may write", path.display())]
pub struct AuditError {
    /// The configuration's key.
    key: &'static str,
    /// The file as it was named, or `stdout`.
    path: PathBuf,
    /// The system's error.
    source: io::Error,
}

/// `audit.on_error` is `"deny"` and the record cannot be written. `Display` is for logs: it names the file's trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "decisions cannot be recorded: {cause}; requests are refused until they can be, as audit.on_error = \"deny\" asks"
)]
pub struct NotRecording {
    cause: String,
}

impl Audit {
    /// Opens the record. A file is created, readable by its owner alone, where there is none; its directory must exist.
    ///
    /// # Errors
    /// [`AuditError`] if the file cannot be opened for appending, or standard output is closed, whatever `on_error`
    /// says.
    pub fn open(options: &config::Audit) -> Result<Self, AuditError> {
        let mut audit = Self::open_file("audit.file", &options.file, options, false)?;
        if let AuditFile::File(file) = &options.file
            && file.metadata().is_ok_and(|found| found.is_file())
        {
            let file = AuditFile::File(beside(file, ".anonymous"));
            audit.anonymous = Self::open_file("audit.file", &file, options, true)?.inner;
        }
        Ok(audit)
    }

    /// Returns an audit without a record.
    #[must_use]
    pub fn off() -> Self {
        Self { inner: None, anonymous: None, denials: Arc::default() }
    }

    /// Opens the record of deletions: the file of `scrub.record`, or else a file beside the record of decisions. The
    /// same limits rotate it. Several processes may write to it.
    ///
    /// # Errors
    /// The same as those of [`Audit::open`].
    pub fn open_deletions(config: &config::Config) -> Result<Self, AuditError> {
        let file = match (&config.scrub.record, &config.audit.file) {
            (Some(record), _) => record.clone(),
            (None, AuditFile::File(decisions)) => AuditFile::File(beside(decisions, ".scrub")),
            (None, AuditFile::Off | AuditFile::Stdout) => AuditFile::Off,
        };
        Self::open_file("scrub.record", &file, &config.audit, false)
    }

    fn open_file(
        key: &'static str,
        file: &AuditFile,
        options: &config::Audit,
        by_size: bool,
    ) -> Result<Self, AuditError> {
        let config::Audit { max_size, max_age, keep_age, max_total_size, .. } = *options;
        let limits = if by_size {
            Limits { max_size, max_age: Duration::ZERO, keep: Keep::Newest(ANONYMOUS), max_total_size: None }
        } else {
            Limits { max_size, max_age, keep: Keep::Age(keep_age), max_total_size }
        };
        let sink = match file {
            AuditFile::Off => return Ok(Self::off()),
            AuditFile::Stdout => Sink::stdout().map_err(|source| (PathBuf::from("stdout"), source)),
            AuditFile::File(path) => file::Log::open(path, limits)
                .map(|log| Sink::File(Box::new(log)))
                .map_err(|source| (path.clone(), source)),
        };
        let sink = sink.map_err(|(path, source)| AuditError { key, path, source })?;
        let (state, queue) = (Mutex::new(State { sink, failure: None }), Mutex::default());
        let inner = Inner {
            on_error: options.on_error,
            failing: AtomicBool::default(),
            lost: AtomicU64::default(),
            state,
            queue,
        };
        Ok(Self { inner: Some(Arc::new(inner)), ..Self::off() })
    }

    /// Returns true if there is a record.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Checks that a request may begin. This fails only with `on_error = "deny"`, while the record fails.
    ///
    /// Tries the record again, at most once a second. Costs next to nothing otherwise.
    ///
    /// # Errors
    ///
    /// [`NotRecording`]: refuse the request before any work.
    pub fn ready(&self) -> Result<(), NotRecording> {
        let Some(inner) = self.inner.as_deref() else { return Ok(()) };
        if inner.on_error == OnAuditError::Continue || !inner.failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        inner.recover(&mut inner.lock())
    }

    /// Writes a line, stamped with the time of now.
    ///
    /// Blocks for one `write`. Lines are in the file in the order of their times.
    ///
    /// # Errors
    /// [`NotRecording`], only with `on_error = "deny"`: answer 503 in place of what was decided.
    pub fn record<R: Serialize>(&self, line: &Line<'_, R>, kept: Kept) -> Result<(), NotRecording> {
        self.gather(line, kept)?.map_or(Ok(()), Gathered::write)
    }

    /// Takes a line, to be written together with the lines of other requests. Returns `None` if no line is written.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub fn gather<R: Serialize>(&self, line: &Line<'_, R>, kept: Kept) -> Result<Option<Gathered>, NotRecording> {
        let inner = match kept {
            Kept::ByAge => self.inner.as_ref(),
            Kept::BySize => self.by_size(),
            Kept::Counted(denial, reference) => {
                let is_whole = self.denials.is_whole(denial, &reference);
                self.by_size().filter(|_| is_whole)
            }
        };
        inner.map_or(Ok(None), |inner| Gathered::new(inner, line))
    }

    /// Returns the record of decisions about anonymous callers that change nothing.
    fn by_size(&self) -> Option<&Arc<Inner>> {
        self.anonymous.as_ref().or(self.inner.as_ref())
    }

    /// Writes the lines for denials that were counted: those of the minutes that are over, or all. A line that cannot be
    /// written is not lost: its denials stay counted for a later one.
    ///
    /// # Errors
    /// [`NotRecording`], under each `on_error`.
    pub fn record_denials(&self, all: bool) -> Result<(), NotRecording> {
        let Some(inner) = self.by_size() else { return Ok(()) };
        self.denials.write(all, |line| inner.record(line, 0))
    }

    /// Returns the number of lines that could not be written since the start, of all files of this record.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let all = [&self.inner, &self.anonymous].into_iter().filter_map(Option::as_deref);
        all.map(|inner| inner.lost.load(Ordering::Relaxed)).sum()
    }

    /// Writes the line of a deletion that is about to be made, as [`Audit::record`] does.
    ///
    /// # Errors
    /// The message of the system, under each `on_error`: without its line, a deletion must not happen.
    pub fn record_deletion(&self, deletion: &Deletion<'_>) -> Result<(), String> {
        let Some(inner) = self.inner.as_deref() else { return Ok(()) };
        inner.record(&Deleted { event: "deletion", deletion }, 1).map_err(|refused| refused.cause)
    }

    /// Returns the reason why lines cannot be written, for `/readyz`. Returns `None` while they can, and until the
    /// first one cannot.
    ///
    /// Tries the record again, as [`Audit::ready`] does. A server that gets no requests, because it is not ready,
    /// must become ready.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        let all = [&self.inner, &self.anonymous].into_iter().filter_map(Option::as_deref);
        let mut failing = all.filter(|inner| inner.failing.load(Ordering::Relaxed));
        failing.find_map(|inner| inner.recover(&mut inner.lock()).err().map(|refused| refused.cause))
    }
}

/// Returns the path of a file beside another one.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut beside = file.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked here left a line whole, or a failure behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the outcome of a record. With `on_error = "continue"` it is never a failure.
    fn or_go_on(&self, outcome: Result<(), NotRecording>) -> Result<(), NotRecording> {
        if self.on_error == OnAuditError::Deny { outcome } else { Ok(()) }
    }

    /// Records a line. If that fails, `lost` lines are missing.
    fn record(&self, fields: &impl Serialize, lost: u64) -> Result<(), NotRecording> {
        self.take_in(fields, lost).and_then(|outcome| self.write(&outcome))
    }

    /// Puts a line into the queue. Returns the place of the outcome of its write.
    fn take_in(&self, fields: &impl Serialize, lost: u64) -> Result<Arc<Outcome>, NotRecording> {
        LINE.with_borrow_mut(|buffer| {
            let outcome = match line::format(buffer, fields) {
                Ok(()) => Ok(batch::locked(&self.queue).push(buffer, lost)),
                Err(error) => self.fail(&mut self.lock(), &error, lost).map(|()| Arc::default()),
            };
            if buffer.capacity() > BUFFER {
                *buffer = Vec::new();
            }
            outcome
        })
    }

    /// Writes the lines of the queue, unless another writer has taken the line with this outcome. Returns the outcome.
    fn write(&self, outcome: &Outcome) -> Result<(), NotRecording> {
        let mut state = self.lock();
        if let Some(outcome) = outcome.get() {
            return outcome.clone();
        }
        let mut batch = batch::locked(&self.queue).take();
        let written = self.append(&mut state, &mut batch);
        batch.tell(written.clone());
        batch::locked(&self.queue).take_back(batch);
        written
    }

    fn append(&self, state: &mut State, batch: &mut Queue) -> Result<(), NotRecording> {
        if let Err(refused) = self.recover(state) {
            if let Some(failure) = &mut state.failure {
                failure.lost += batch.lost();
            }
            self.lost.fetch_add(batch.lost(), Ordering::Relaxed);
            return Err(refused);
        }
        let now = Timestamp::now();
        match state.sink.append(batch.stamped(now), now) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(state, &error, batch.lost()),
        }
    }

    /// Notes lines that are lost.
    fn fail(&self, state: &mut State, error: &io::Error, lost: u64) -> Result<(), NotRecording> {
        let cause = error.to_string();
        let now = Instant::now();
        let failure = state.failure.get_or_insert_with(|| Failure {
            since: Timestamp::now(),
            lost: 0,
            cause: String::new(),
            tried: now,
            said: None,
        });
        failure.cause.clone_from(&cause);
        failure.lost += lost;
        self.lost.fetch_add(lost, Ordering::Relaxed);
        failure.tried = now;
        self.failing.store(true, Ordering::Relaxed);
        failure.say(self.on_error);
        Err(NotRecording { cause })
    }

    /// Writes into the record that lines are missing, if the record failed and not just now. If that succeeds, the
    /// failure is over.
    fn recover(&self, state: &mut State) -> Result<(), NotRecording> {
        let Some(failure) = &mut state.failure else { return Ok(()) };
        if failure.tried.elapsed() < TRY_AGAIN {
            failure.say(self.on_error);
            return Err(NotRecording { cause: failure.cause.clone() });
        }
        failure.tried = Instant::now();
        let since = format!("{:.3}", failure.since);
        let gap = Gap { event: "gap", since: &since, lost: failure.lost, cause: &failure.cause };
        let now = Timestamp::now();
        let mut line = Vec::new();
        let written = line::format(&mut line, &gap).and_then(|()| {
            line::stamp(&mut line, &line::time(now));
            state.sink.append(&line, now)
        });
        match written {
            Ok(()) => {
                let lost = failure.lost;
                state.failure = None;
                self.failing.store(false, Ordering::Relaxed);
                tracing::info!(lost, "decisions are recorded again");
                Ok(())
            }
            Err(error) => {
                failure.cause = error.to_string();
                failure.say(self.on_error);
                Err(NotRecording { cause: failure.cause.clone() })
            }
        }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}
