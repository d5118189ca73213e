//! Checks that bytes still match their digests, by reading them back and hashing them.
//!
//! The pass goes in the order of keys: first the blob copies, then the manifests. A run whose time is over writes a
//! cursor. The next run continues there, and wraps around.

mod blobs;
mod cursor;
mod manifests;
mod total;

use std::{
    future::ready,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, Stream, TryStreamExt, future::BoxFuture};

use self::{
    cursor::{Part, parts},
    total::Total,
};
use super::{Pass, Result, ScrubError, ages::AgeThresholds, notes::Notes, run::Run};
use crate::{
    records::key::{Key, Prefix},
    storage::Entry,
};

/// The number of things that are read back at a time: while one is looked up, the other is hashed.
const AT_A_TIME: usize = 2;

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let ages = run.ages().await?;
    // the pass `links` alone frees notes about records; this pass writes them where the run does not do `links`
    let notes = Notes::read(run, Pass::Content, ages.at(), &[Prefix::Blobs, Prefix::Repositories]).await?;
    let repositories = if reads_manifests(run) { run.repositories().await? } else { 0 };
    let total = Mutex::new(Total::new(repositories));
    let content = Content { run, ages, notes, total };
    // a run over some repositories, or a dry run, does not use cursors
    let goes_around = run.options.repository.is_none() && !run.options.dry_run;
    let (cursors, after) = if goes_around { cursor::read(run).await? } else { Default::default() };
    let mut stopped = None;
    for part in parts(after) {
        stopped = content.part(&part).await?;
        if stopped.is_some() {
            break;
        }
    }
    run.summary().content_left = stopped.is_some();
    if let Some(Stopped { after, error }) = stopped {
        if goes_around {
            cursor::write(run, ages.at(), &after).await?;
            cursor::free(run, &cursors).await?;
        }
        return error.map_or(Ok(()), Err);
    }
    let read = run.done(Pass::Content);
    if read > 0 {
        run.progress(Pass::Content, read, read);
    }
    cursor::free(run, &cursors).await
}

/// Returns whether this pass reads manifests back. If the run does the pass `links`, that pass has read all of them.
fn reads_manifests(run: &Run<'_>) -> bool {
    !run.options.passes.contains(&Pass::Links)
}

/// The state of the pass.
struct Content<'a> {
    run: &'a Run<'a>,
    ages: AgeThresholds,
    notes: Notes,
    total: Mutex<Total>,
}

/// The place where the pass stopped early, for want of time or by an error. The next run goes on behind a thing that
/// failed, since it would never get past it otherwise.
struct Stopped {
    after: String,
    error: Option<ScrubError>,
}

impl Content<'_> {
    async fn part(&self, part: &Part) -> Result<Option<Stopped>> {
        self.total(|total| total.begin(part));
        let stopped = self.go_over(part).await?;
        if stopped.is_none() {
            self.total(|total| total.end(part));
        }
        Ok(stopped)
    }

    async fn go_over(&self, part: &Part) -> Result<Option<Stopped>> {
        let entries =
            self.run.store.scan_after(&part.prefix.to_string(), part.after.as_deref()).map_err(ScrubError::from);
        let until = part.until.as_deref();
        let entries = entries.try_take_while(move |entry| ready(Ok(until.is_none_or(|until| *entry.key <= *until))));
        if part.prefix == Prefix::Blobs {
            let places = entries.try_filter(|entry| ready(Key::copy(&entry.key).is_some()));
            self.each(places, |entry| self.blob(entry).boxed()).await
        } else if !reads_manifests(self.run) {
            Ok(None)
        } else {
            let mut before = part.after.as_deref().and_then(manifests::thing).map(|(name, digest, _)| (name, digest));
            let newest = entries.try_filter(move |entry| {
                let Some((name, digest, version)) = manifests::thing(&entry.key) else { return ready(false) };
                let first = before.replace((name, digest)) != before;
                ready(first && version.there)
            });
            self.each(newest, |entry| self.manifest(entry).boxed()).await
        }
    }

    /// Checks entries in their order, a few at a time. Returns the place where it stopped, if it stopped early.
    async fn each<'s>(
        &'s self,
        entries: impl Stream<Item = Result<Entry>> + Send,
        check: impl Fn(Entry) -> BoxFuture<'s, Result<()>> + Send + Sync,
    ) -> Result<Option<Stopped>> {
        let stop = AtomicBool::new(false);
        let entries = entries.try_take_while(|_| ready(Ok(!stop.load(Ordering::Relaxed))));
        let checked = entries.map_ok(|entry| {
            let key = entry.key.clone();
            let check = check(entry);
            check.map(move |outcome| Ok::<_, ScrubError>((key, outcome)))
        });
        let mut checked = std::pin::pin!(checked.try_buffered(AT_A_TIME));
        let mut stopped = None;
        // checks that have begun come to their end, so that their changes are reported
        while let Some((after, outcome)) = checked.try_next().await? {
            self.tell(&after);
            if self.run.is_late() || outcome.is_err() || stop.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
                let before = stopped.and_then(|stopped: Stopped| stopped.error);
                stopped = Some(Stopped { after, error: before.or(outcome.err()) });
            }
        }
        Ok(stopped)
    }

    /// Counts a thing that was read back.
    fn verified(&self, bytes: u64) {
        let mut summary = self.run.summary();
        summary.verified.number += 1;
        summary.verified.bytes += bytes;
    }

    fn total<T>(&self, of: impl FnOnce(&mut Total) -> T) -> T {
        of(&mut self.total.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports the progress behind this key, whether the run covers the key or not.
    fn tell(&self, key: &str) {
        let read = self.run.summary().verified.number;
        let total = self.total(|total| total.went_by(key, read));
        if read > 0 {
            self.run.progress(Pass::Content, read, total);
        }
    }
}
