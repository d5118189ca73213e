//! Holds the snapshot in force, and builds the next one.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    Snapshot, SnapshotError, Sources,
    sources::{self, Hash},
};
use crate::{config::Config, memory::Memory, upstream::CachedNamespaces};

/// Times that files are read again because they changed while they were read.
const MOST_READINGS: usize = 5;

/// The snapshot in force.
pub struct Live {
    current: ArcSwap<Snapshot>,
    /// The configuration at the start of the process. Keys that need a restart are compared with this one.
    began_with: Config,
    sources: Sources,
    /// The reason why the last reading was refused. It has a lock of its own, since a reading may take its time.
    refused: ArcSwapOption<String>,
    /// The paths that the last reading named, even if it was refused: mending a named file mends it. Locked while
    /// reading.
    named: Mutex<BTreeSet<PathBuf>>,
    /// The time at which a reading began that has not ended.
    reading: Mutex<Option<Instant>>,
    /// The memory of passwords and tokens.
    memory: Arc<Memory>,
}

/// The outcome of a reload.
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
    /// The first source that is wrong.
    pub fn new(sources: Sources) -> Result<Self, SnapshotError> {
        let mut readings = 0;
        loop {
            let before = sources.inputs();
            let config = sources.config()?;
            let mut snapshot = Snapshot::check(config, before, None)?;
            // those in force will have a memory, whose size the configuration says
            snapshot.caches = CachedNamespaces::load(snapshot.config(), None, &Memory::new(0))?;
            readings += 1;
            // an edit in between is found by the next reading, or by the first reload
            if sources.inputs() == before || readings == MOST_READINGS {
                return Ok(Self { snapshot, sources });
            }
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        self.snapshot.config()
    }

    /// Returns warnings about valid but doubtful settings.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.snapshot.warnings()
    }

    /// Returns the configuration files, and folders of such files.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        self.sources.files()
    }
}

impl Live {
    /// Puts a first snapshot in force. `memory` is for passwords and tokens.
    ///
    /// This makes the key of tokens where there is none. So call it when the store is open, which may be made in the same
    /// directory, and wants to find it empty.
    ///
    /// # Errors
    /// Of the key.
    pub fn start(checked: Checked, memory: &Arc<Memory>) -> Result<Self, SnapshotError> {
        let Checked { snapshot, sources } = checked;
        let named = Mutex::new(sources::named(snapshot.config()));
        let began_with = snapshot.config().clone();
        let current = ArcSwap::from_pointee(snapshot.with_memory(None, memory)?);
        let (refused, reading, memory) = (ArcSwapOption::empty(), Mutex::new(None), Arc::clone(memory));
        Ok(Self { current, began_with, sources, refused, named, reading, memory })
    }

    /// Returns the memory of passwords and tokens.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Returns the snapshot in force. A request calls this once.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Returns the reason why the files of the last reading are not in force; `None` if they are.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.refused.load().as_deref().cloned()
    }

    /// Returns the time that a reading has taken up to now, if one has not ended. A file of a network may never answer.
    #[must_use]
    pub fn reading_for(&self) -> Option<Duration> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).map(|began| began.elapsed())
    }

    /// Notes that a reading has begun, or that none is under way.
    fn set_reading(&self, began: Option<Instant>) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// Returns the files and directories that may be edited: those of the snapshot in force, and of the last attempt.
    #[must_use]
    pub fn watched(&self) -> BTreeSet<PathBuf> {
        let mut paths = sources::named(self.current().config());
        paths.extend(self.sources.files().iter().cloned());
        paths.extend(self.named.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        paths
    }

    /// Reads the files again and puts what they say in force if it is valid, whole. Blocks; one at a time.
    pub fn reload(&self) -> Reload {
        self.set_reading(Some(Instant::now()));
        let outcome = self.read_until_settled();
        self.set_reading(None);
        outcome
    }

    fn read_until_settled(&self) -> Reload {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        for _ in 0..MOST_READINGS {
            // hashed before and after: what was edited while it was read is read again, since half of an edit is none
            let before = self.sources.inputs();
            let outcome = self.read(&current, before, &mut named);
            if self.sources.inputs() == before {
                return self.conclude(outcome);
            }
        }
        self.conclude(Err(
            "the files changed each time while they were read; they are read again when they change next".to_owned(),
        ))
    }

    /// Reads the files once. Returns the new snapshot, or nothing if it is already in force.
    fn read(
        &self,
        current: &Snapshot,
        inputs: Hash,
        named: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<Snapshot>, String> {
        let config = self.sources.config().map_err(|error| error.to_string())?;
        *named = sources::named(&config);
        if inputs == current.inputs {
            return Ok(None);
        }
        let snapshot = Snapshot::check(config, inputs, Some(current))
            .and_then(|snapshot| snapshot.with_memory(Some(current), &self.memory));
        snapshot.map(Some).map_err(|error| error.to_string())
    }

    fn conclude(&self, outcome: Result<Option<Snapshot>, String>) -> Reload {
        match outcome {
            Ok(Some(snapshot)) => {
                let restart = self.began_with.changes_needing_restart(snapshot.config());
                let snapshot = Arc::new(snapshot);
                self.current.store(Arc::clone(&snapshot));
                self.refused.store(None);
                Reload::Changed { snapshot, restart }
            }
            Ok(None) => {
                self.refused.store(None);
                Reload::Unchanged
            }
            Err(error) => {
                self.refused.store(Some(Arc::new(error.clone())));
                Reload::Refused(error)
            }
        }
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("current", &self.current.load()).finish_non_exhaustive()
    }
}
