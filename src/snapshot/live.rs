//! The snapshot in force, and the way to another one.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{Snapshot, SnapshotError, Sources, sources};
use crate::config::Config;

/// Times that files are read again because they changed while they were read.
const MOST_READINGS: usize = 5;

/// The snapshot in force.
pub struct Live {
    current: ArcSwap<Snapshot>,
    /// What the process began with: what takes a restart is compared with this.
    began_with: Config,
    sources: Sources,
    attempt: Mutex<Attempt>,
}

/// What came of the last reload.
#[derive(Default)]
struct Attempt {
    /// Why it was refused.
    refused: Option<String>,
    /// What it named: also when it was refused, since mending a named file mends it.
    named: BTreeSet<PathBuf>,
}

/// What came of a reload.
#[derive(Debug)]
pub enum Reload {
    /// The files say what is in force.
    Unchanged,
    /// Another snapshot is in force.
    Changed {
        /// The one.
        snapshot: Arc<Snapshot>,
        /// Keys that changed and take effect after a restart.
        restart: Vec<&'static str>,
    },
    /// The files are wrong, and what was in force still is.
    Refused(String),
}

/// A first snapshot that was checked, before anything was written.
#[derive(Debug)]
pub struct Checked {
    snapshot: Snapshot,
    sources: Sources,
}

impl Checked {
    /// Reads what the sources say and checks it, whole.
    ///
    /// # Errors
    /// Whatever is wrong.
    pub fn new(sources: Sources) -> Result<Self, SnapshotError> {
        let config = sources.config()?;
        let inputs = sources::inputs(sources.files(), Some(&config));
        Ok(Self { snapshot: Snapshot::check(config, inputs, None)?, sources })
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        self.snapshot.config()
    }
}

impl Live {
    /// Puts a first snapshot in force. Makes the key of tokens where there is none; so not before the store is open, which
    /// may be made in the same directory, and wants to find it empty.
    ///
    /// # Errors
    /// Of the key.
    pub fn start(checked: Checked) -> Result<Self, SnapshotError> {
        let Checked { snapshot, sources } = checked;
        let attempt = Attempt { refused: None, named: sources::named(snapshot.config()) };
        let began_with = snapshot.config().clone();
        let current = ArcSwap::from_pointee(snapshot.with_key()?);
        Ok(Self { current, began_with, sources, attempt: Mutex::new(attempt) })
    }

    /// The snapshot in force; a request takes it once.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Why the files, as they were last read, are not in force; none where they are.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// Files and directories that may be edited: those of the snapshot in force, and of the last attempt.
    #[must_use]
    pub fn watched(&self) -> BTreeSet<PathBuf> {
        let mut paths = sources::named(self.current().config());
        paths.extend(self.sources.files().iter().cloned());
        paths.extend(self.attempt.lock().unwrap_or_else(PoisonError::into_inner).named.iter().cloned());
        paths
    }

    /// Reads the files again and puts what they say in force if it is valid, whole. Blocks; one at a time.
    pub fn reload(&self) -> Reload {
        let mut attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        let mut built = None;
        for _ in 0..MOST_READINGS {
            let (inputs, outcome, named) = self.read(&current);
            attempt.named = named;
            // what was edited while it was read is read again: half of an edit is none
            let still = self.inputs_now() == inputs;
            built = Some(outcome);
            if still {
                break;
            }
        }
        match built {
            Some(Ok(Some(snapshot))) => {
                attempt.refused = None;
                let restart = self.began_with.changes_needing_restart(snapshot.config());
                let snapshot = Arc::new(snapshot);
                self.current.store(Arc::clone(&snapshot));
                Reload::Changed { snapshot, restart }
            }
            Some(Err(error)) => {
                let error = error.to_string();
                attempt.refused = Some(error.clone());
                Reload::Refused(error)
            }
            Some(Ok(None)) | None => {
                attempt.refused = None;
                Reload::Unchanged
            }
        }
    }

    /// One reading: the hash of what was read, what it makes (nothing where it is in force), and what it named.
    #[allow(clippy::type_complexity, reason = "used once, by the function above")]
    fn read(&self, current: &Snapshot) -> ([u8; 32], Result<Option<Snapshot>, SnapshotError>, BTreeSet<PathBuf>) {
        match self.sources.config() {
            Err(error) => (sources::inputs(self.sources.files(), None), Err(error), BTreeSet::new()),
            Ok(config) => {
                let named = sources::named(&config);
                let inputs = sources::inputs(self.sources.files(), Some(&config));
                if inputs == current.inputs {
                    return (inputs, Ok(None), named);
                }
                (inputs, Snapshot::check(config, inputs, Some(current)).and_then(Snapshot::with_key).map(Some), named)
            }
        }
    }

    fn inputs_now(&self) -> [u8; 32] {
        sources::inputs(self.sources.files(), self.sources.config().ok().as_ref())
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("current", &self.current.load()).finish_non_exhaustive()
    }
}
