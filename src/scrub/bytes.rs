//! Frees bytes and records about bytes that nothing needs, and checks that the bytes that records name exist.
//!
//! The pass first counts the objects under `data/`, with 32 bytes of memory for each upload. Then it walks over all
//! records about digests. It frees records that protect nothing any more, and compares each blob copy with the count.
//! Only digests with a difference get a closer look, after the walk: two digests may name the same bytes. Bytes that no
//! record names belong to uploads under way, or to uploads that went silent.

mod adopt;
mod attend;
mod copies;
mod facts;
mod free;
mod groups;
mod listed;
mod lost;
mod momentary;
mod rights;
mod table;
mod uploads;
mod wishes;

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

pub(super) use self::{
    copies::{Copy, State, look, look_all, note_corrupt},
    facts::holders,
};
use self::{facts::Found, table::Table};
use super::{Pass, Reason, Result, ages::AgeThresholds, notes::Notes, run::Run};
use crate::{action::UploadId, records::key::Prefix};

/// The number of operations of the store that run at a time.
const AT_A_TIME: usize = 8;

/// The results of the walk over all records.
struct Context<'a> {
    run: &'a Run<'a>,
    ages: AgeThresholds,
    table: Table,
    notes: &'a Notes,
    found: Found,
    /// Uploads whose blob copies this run wrote again.
    adopted: Mutex<HashSet<UploadId>>,
}

impl Context<'_> {
    fn does(&self, pass: Pass) -> bool {
        self.run.options.passes.contains(&pass)
    }

    /// Returns whether this run wrote the blob copy of an upload again.
    fn is_adopted(&self, id: &UploadId) -> bool {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    // other repositories may need bytes that the covered ones do not
    if run.options.repository.is_some() {
        return Ok(());
    }
    let ages = run.ages().await?;
    let notes = Notes::read(run, Pass::Links, ages.at(), &[Prefix::Blobs, Prefix::AllData, Prefix::Uploads]).await?;
    let mut table = uploads::count(run, ages, &notes).await?;
    let mut found = facts::walk(run, ages, &mut table, &notes).await?;
    let suspects = std::mem::take(&mut found.suspects);
    let context = Context { run, ages, table, notes: &notes, found, adopted: Mutex::default() };
    let attended =
        stream::iter(suspects).map(|suspect| attend::attend(&context, suspect).boxed()).buffer_unordered(AT_A_TIME);
    attended.try_for_each(|()| std::future::ready(Ok(()))).await?;
    adopt::run(&context).await?;
    uploads::run(&context).await?;
    if context.does(Pass::Links) {
        run.too_young(context.table.young());
    }
    drop(context);
    notes.end(run).await?;
    momentary::free(run, ages).await?;
    wishes::free(run, ages).await?;
    if run.options.passes.contains(&Pass::Garbage) && !run.options.dry_run {
        run.trusts_ages().await?;
        let swept = run.store.sweep(ages.old_before(), ages.at()).await?;
        for _ in 0..swept.directories {
            run.housekeeping(Reason::Empty);
        }
        for _ in 0..swept.files {
            run.housekeeping(Reason::Expired);
        }
        run.summary().freed += swept.bytes;
    }
    Ok(())
}
