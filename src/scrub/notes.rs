//! Reports of faults and quarantine notes: written once, known to later runs, and freed when the object is right or gone.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use futures::StreamExt;
use serde::Serialize;

use super::{Finding, Outcome, Pass, Reason, Result, run::Run};
use crate::{
    records::{
        json,
        key::{Key, Owner, Prefix, Suffix},
    },
    storage::Entry,
};

/// The body of a note.
#[derive(Serialize)]
struct Note<'a> {
    /// The key of the object with the fault.
    key: &'a str,
    /// The fault, in a sentence.
    says: &'a str,
    /// The run that found it.
    run: Suffix,
    /// The time of the note, in milliseconds since 1970.
    at: u64,
}

/// The notes about objects of some kinds, as they were when the pass began, and the faults found since.
#[derive(Debug)]
pub(super) struct Notes {
    /// The pass that writes the notes. A run without it writes and frees no note.
    pass: Pass,
    now: u64,
    before: HashMap<String, Vec<Entry>>,
    wrong: Mutex<HashSet<String>>,
}

impl Notes {
    /// Reads the notes about keys under these prefixes, if the run does the pass.
    pub(super) async fn read(run: &Run<'_>, pass: Pass, now: u64, prefixes: &[Prefix<'_>]) -> Result<Self> {
        let mut before: HashMap<String, Vec<Entry>> = HashMap::new();
        if run.options.passes.contains(&pass) {
            for prefix in prefixes {
                let prefix = prefix.to_string();
                let mut entries = std::pin::pin!(run.store.scan(&Prefix::NotesBelow(&prefix).to_string()));
                while let Some(entry) = entries.next().await.transpose()? {
                    if let Some(Key::Quarantine(key, _)) = Key::parse(&entry.key) {
                        before.entry(key).or_default().push(entry);
                    }
                }
            }
        }
        Ok(Self { pass, now, before, wrong: Mutex::default() })
    }

    /// Reports a fault that cannot be repaired, and writes a note about it. Does nothing if this run has reported one
    /// for the key.
    pub(super) async fn wrong(&self, run: &Run<'_>, key: &str, says: &str) -> Result<()> {
        if !run.options.passes.contains(&self.pass) || !self.remember(key) {
            return Ok(());
        }
        if self.before.contains_key(key) {
            return found(run, key, says, Outcome::Known);
        }
        // the report comes first: if a run ends between the two, the next run reports the fault again
        found(run, key, says, Outcome::Quarantined)?;
        let note = Note { key, says, run: run.id, at: self.now };
        run.put(&Key::Quarantine(key.to_owned(), Suffix::random()).to_string(), json(&note)).await
    }

    /// Reports a key that is none of the layout's, and writes a note about it.
    pub(super) async fn unknown(&self, run: &Run<'_>, key: &str) -> Result<()> {
        let says = format!(
            "{key} is no object that this registry writes, and it is left alone; if you know what put it there, remove it"
        );
        self.wrong(run, key, &says).await
    }

    /// Ends the pass, and frees the notes about keys that it found no fault with, if the run covers them. Call it only
    /// after a look at all such keys.
    pub(super) async fn end(self, run: &Run<'_>) -> Result<()> {
        let wrong = self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_over = |key: &str| {
            !wrong.contains(key)
                && match Owner::repository(key) {
                    Some(name) => run.covers(&name),
                    None => run.options.repository.is_none(),
                }
        };
        for note in self.before.iter().filter(|(key, _)| is_over(key)).flat_map(|(_, notes)| notes) {
            run.housekeeping(Reason::Superseded);
            run.free(&note.key, note.size).await?;
        }
        Ok(())
    }

    /// Records a fault of a key. Returns whether it is the first.
    fn remember(&self, key: &str) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }
}

/// Reports a fault and its outcome. In a dry run, the outcome is [`Outcome::DryRun`] unless the fault is known.
pub(super) fn found(run: &Run<'_>, key: &str, says: &str, outcome: Outcome) -> Result<()> {
    let outcome = match outcome {
        Outcome::Known => Outcome::Known,
        _ if run.options.dry_run => Outcome::DryRun,
        other => other,
    };
    run.found(Finding { key: key.to_owned(), says: says.to_owned(), outcome })
}
