//! Notes about faults: an object of its own for each, which scrub alone reads.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::TryStreamExt as _;
use serde::Serialize;

use crate::{
    scrub::{
        Result,
        report::{Finding, Outcome, Reason},
        run::Run,
    },
    storage::layout,
};

/// A note.
#[derive(Debug, Serialize)]
struct Note {
    /// The key of the object with the fault.
    key: String,
    /// The fault, in a sentence.
    says: String,
    /// The run that found it.
    run: String,
    /// The time of the note, in milliseconds since 1970.
    at: u64,
}

/// The notes about keys of repositories and of the catalog, as they were when the pass began.
#[derive(Debug)]
pub(super) struct Notes {
    known: Mutex<HashMap<String, Vec<Known>>>,
}

#[derive(Debug)]
struct Known {
    /// The key of the note.
    note: String,
    size: u64,
    /// True if this run found the fault again.
    so: bool,
}

impl Notes {
    pub(super) async fn read(run: &Run<'_>) -> Result<Self> {
        let mut known: HashMap<String, Vec<Known>> = HashMap::new();
        for part in [layout::CATALOG, layout::REPOSITORIES, layout::PULLS_SINCE] {
            let prefix = format!("{}{part}", layout::QUARANTINE);
            let mut scan = std::pin::pin!(run.store.scan(&prefix));
            while let Some(entry) = scan.try_next().await? {
                let Some(about) = layout::noted(&entry.key) else { continue };
                let of_key = known.entry(about.to_owned()).or_default();
                of_key.push(Known { note: entry.key.clone(), size: entry.size, so: false });
            }
        }
        Ok(Self { known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a fault, and writes a note about it if there is none yet.
    pub(super) async fn wrong(&self, run: &Run<'_>, key: &str, says: String) -> Result<()> {
        let known = self.known().get_mut(key).map(|notes| notes.iter_mut().for_each(|note| note.so = true)).is_some();
        let outcome = match (known, run.options.dry_run) {
            (true, _) => Outcome::Known,
            (false, true) => Outcome::DryRun,
            (false, false) => Outcome::Quarantined,
        };
        if outcome == Outcome::Quarantined {
            let note =
                Note { key: key.to_owned(), says: says.clone(), run: run.id.clone(), at: run.store.clock().time_ms() };
            let note = serde_json::to_vec(&note).unwrap_or_else(|error| unreachable!("a note is plain: {error}"));
            run.put(&(layout::notes(key) + &layout::attempt()), note).await?;
        }
        run.found(Finding { key: key.to_owned(), says, outcome })
    }

    /// Frees the notes about faults that this run did not find again, of the repositories that it looked at.
    pub(super) async fn drop_settled(self, run: &Run<'_>) -> Result<()> {
        let known = self.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (about, notes) in known {
            let covered = match layout::repository_name(&about) {
                Some((name, _)) => run.covers(&name),
                None => run.options.repository.is_none(),
            };
            if !covered {
                continue;
            }
            for note in notes.into_iter().filter(|note| !note.so) {
                run.housekeeping(Reason::Superseded);
                run.free(&note.note, note.size).await?;
            }
        }
        Ok(())
    }
}
