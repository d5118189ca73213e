//! Quarantine notes: written once, known to later runs, and freed when the object is right or gone.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use futures::StreamExt;
use serde::Serialize;

use super::super::{Finding, Outcome, Pass, Reason, Result, ages::Ages, run::Run};
use crate::storage::layout;

/// The body of a note.
#[derive(Serialize)]
struct Note<'a> {
    key: &'a str,
    says: &'a str,
    run: &'a str,
    /// Milliseconds since 1970.
    at: u64,
}

/// The notes about objects of some kinds, as they were when the pass began, and the faults found since.
#[derive(Debug)]
pub(in crate::scrub) struct Notes {
    /// The pass that writes the notes. A run without it writes and frees no note.
    pass: Pass,
    now: u64,
    before: HashMap<String, Vec<String>>,
    wrong: Mutex<HashSet<String>>,
}

impl Notes {
    /// Reads the notes about keys under these prefixes, if the run does the pass.
    pub(in crate::scrub) async fn read(run: &Run<'_>, pass: Pass, now: u64, prefixes: &[&str]) -> Result<Self> {
        let mut before: HashMap<String, Vec<String>> = HashMap::new();
        if run.options.passes.contains(&pass) {
            for prefix in prefixes {
                let mut entries = std::pin::pin!(run.store.scan(&format!("{}{prefix}", layout::QUARANTINE)));
                while let Some(entry) = entries.next().await.transpose()? {
                    if let Some(key) = layout::noted(&entry.key) {
                        before.entry(key.to_owned()).or_default().push(entry.key);
                    }
                }
            }
        }
        Ok(Self { pass, now, before, wrong: Mutex::default() })
    }

    /// Reports a fault that cannot be repaired, and writes a note about it. Does nothing if this run has reported one
    /// for the key.
    pub(in crate::scrub) async fn wrong(&self, run: &Run<'_>, key: &str, says: &str) -> Result<()> {
        if !run.options.passes.contains(&self.pass) || !self.remember(key) {
            return Ok(());
        }
        if self.before.contains_key(key) {
            return found(run, key, says, Outcome::Known);
        }
        // the report comes first: if a run ends between the two, the next run reports the fault again
        found(run, key, says, Outcome::Quarantined)?;
        let note = Note { key, says, run: &run.id, at: self.now };
        let note = serde_json::to_vec(&note).unwrap_or_else(|error| unreachable!("a note is plain: {error}"));
        run.put(&(layout::notes(key) + &layout::attempt()), note).await
    }

    /// Ends the pass, and frees the notes about keys that it found no fault with. Call it only after a look at all such
    /// keys.
    pub(in crate::scrub) async fn end(self, run: &Run<'_>) -> Result<()> {
        let wrong = self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        for note in self.before.iter().filter(|(key, _)| !wrong.contains(*key)).flat_map(|(_, notes)| notes) {
            run.housekeeping(Reason::Superseded);
            run.free(note, 0).await?;
        }
        Ok(())
    }

    /// Records a fault of a key. Returns whether it is the first.
    fn remember(&self, key: &str) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }
}

/// Frees small objects of passing use that are older than a lease. Every server has heard old damage reports by now.
/// Processes write the others to learn the store's time or to try a bucket, and leave them behind only when they die.
pub(super) async fn free_momentary(run: &Run<'_>, ages: Ages) -> Result<()> {
    for (prefix, reason) in
        [(layout::CORRUPT, Reason::Superseded), (layout::CLOCKS, Reason::Expired), (layout::PROBES, Reason::Expired)]
    {
        let mut entries = std::pin::pin!(run.store.scan(prefix));
        while let Some(entry) = entries.next().await.transpose()? {
            run.go_on()?;
            if ages.is_old(&entry) {
                run.housekeeping(reason);
                run.free(&entry.key, entry.size).await?;
            }
        }
    }
    Ok(())
}

/// Reports a fault and its outcome. In a dry run, the outcome is [`Outcome::DryRun`] unless the fault is known.
pub(in crate::scrub) fn found(run: &Run<'_>, key: &str, says: &str, outcome: Outcome) -> Result<()> {
    let outcome = match outcome {
        Outcome::Known => Outcome::Known,
        _ if run.options.dry_run => Outcome::DryRun,
        other => other,
    };
    run.found(Finding { key: key.to_owned(), says: says.to_owned(), outcome })
}
