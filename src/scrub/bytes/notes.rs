//! Notes on what is wrong: written once, known to later runs, gone when the thing is right or gone.

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

/// The notes about objects of some kinds, as they were when the pass began, and what was found wrong since.
#[derive(Debug)]
pub(in crate::scrub) struct Notes {
    /// What is looked after: without it nothing is found wrong, and no note goes.
    pass: Pass,
    now: u64,
    before: HashMap<String, Vec<String>>,
    wrong: Mutex<HashSet<String>>,
}

impl Notes {
    /// Reads the notes about keys under these prefixes, for a pass that alone writes any about such keys.
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

    /// Something is wrong that cannot be put right: a note stands beside it from here on.
    pub(in crate::scrub) async fn wrong(&self, run: &Run<'_>, key: &str, says: &str) -> Result<()> {
        if !run.options.passes.contains(&self.pass) || !self.remember(key) {
            return Ok(());
        }
        if self.before.contains_key(key) {
            return found(run, key, says, Outcome::Known);
        }
        // told before it is noted: a run that ends between the two is followed by one that tells it again
        found(run, key, says, Outcome::Quarantined)?;
        let note = Note { key, says, run: &run.id, at: self.now };
        let note = serde_json::to_vec(&note).unwrap_or_else(|error| unreachable!("a note is plain: {error}"));
        run.put(&(layout::notes(key) + &layout::attempt()), note).await
    }

    /// Ends the pass: notes about what is right again, or gone, go.
    pub(in crate::scrub) async fn end(self, run: &Run<'_>) -> Result<()> {
        let wrong = self.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        for note in self.before.iter().filter(|(key, _)| !wrong.contains(*key)).flat_map(|(_, notes)| notes) {
            run.housekeeping(Reason::Superseded);
            run.free(note, 0).await?;
        }
        Ok(())
    }

    /// Whether it was not found wrong before.
    fn remember(&self, key: &str) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }
}

/// Frees small objects that are of use for a moment: reports of damage, which every server has heard by now, and what
/// processes write to learn the store's time or to try a bucket. A process that dies does not delete those.
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

/// Tells that something is wrong, and what became of it; in a run that changes nothing, what would.
pub(in crate::scrub) fn found(run: &Run<'_>, key: &str, says: &str, outcome: Outcome) -> Result<()> {
    let outcome = match outcome {
        Outcome::Known => Outcome::Known,
        _ if run.options.dry_run => Outcome::DryRun,
        other => other,
    };
    run.found(Finding { key: key.to_owned(), says: says.to_owned(), outcome })
}
