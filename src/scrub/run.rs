//! One run of scrub, and the only way in which it changes the store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;

use super::{
    Observer, Options, Pass, Result, ScrubError,
    ages::{AgeThresholds, milliseconds},
    names,
    report::{Event, Finding, Later, LeaseInForce, Reason, Removal, Summary, What, date_of},
};
use crate::{
    config::Config,
    oci::{Digest, Name},
    policy::Policy,
    records::{Actor, key::Suffix},
    registry::{InForce, Registry},
    storage::{
        Reading, Store,
        mutation::{Mutation, mutated, wishes},
    },
};

/// One run.
pub(super) struct Run<'a> {
    pub(super) store: Store,
    /// The registry of this run alone, with no cache of things that may change.
    pub(super) registry: Registry,
    pub(super) config: &'a Config,
    pub(super) policy: &'a Policy,
    pub(super) options: Options,
    /// The id of the run, which its marks have in their keys. No other run has it.
    pub(super) id: Suffix,
    /// The author that records of this run name.
    pub(super) by: Actor,
    /// The start of the run, as time since boot.
    began: Duration,
    /// The reading at which the store's clock was furthest ahead. Against it, a later step back shows in full.
    reading: Mutex<Option<Reading>>,
    observer: Arc<dyn Observer>,
    summary: Mutex<Summary>,
    /// The number of things that each pass has reported as done.
    done: Mutex<BTreeMap<Pass, u64>>,
    /// The number of repositories in the catalog, once they were counted.
    repositories: OnceCell<u64>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        store: Store,
        registry: Registry,
        config: &'a Config,
        policy: &'a Policy,
        options: Options,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let id = if mutated(Mutation::SharedMarks) { Suffix(0) } else { Suffix::random() };
        let by = Actor::scrub(id);
        let summary = Summary { run: id.to_string(), dry_run: options.dry_run, ..Summary::default() };
        Self {
            began: store.clock().since_boot(),
            reading: Mutex::default(),
            store,
            registry,
            config,
            policy,
            options,
            id,
            by,
            observer,
            summary: Mutex::new(summary),
            done: Mutex::default(),
            repositories: OnceCell::new(),
        }
    }

    pub(super) fn into_summary(self) -> Summary {
        self.summary.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the store for its time. Call it before the look at anything that is judged by that time.
    pub(super) async fn ages(&self) -> Result<AgeThresholds> {
        let (now, lease) = self.time_and_lease().await?;
        Ok(AgeThresholds::new(now, lease, &self.config.scrub))
    }

    /// Reads the store's time, and then the lease in force, both in milliseconds. Call it before the look at anything
    /// whose age is judged by them. A process that writes its wish after that time relies on nothing older.
    ///
    /// # Errors
    /// Those of the store, and [`ScrubError::ClockSetBack`] if the clock was set back since an earlier reading.
    async fn time_and_lease(&self) -> Result<(u64, u64)> {
        if !self.options.dry_run {
            // protects the marks and records of this run, which another scrub must not take for old
            self.registry.lease().renew_wish(8).await?;
        }
        let before = self.store.clock().now();
        let now = self.store.now().await?;
        self.check_clock()?;
        self.remember(Reading::new(before, now));
        Ok((now, self.read_lease(now).await?))
    }

    fn remember(&self, reading: Reading) {
        let mut last = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(last.map_or(reading, |last| last.or_higher(reading)));
    }

    async fn read_lease(&self, now: u64) -> Result<u64> {
        let own = milliseconds(self.lease());
        if !wishes() || mutated(Mutation::AnothersWishNotLookedAt) {
            return Ok(own);
        }
        let Some(longer) = InForce::read(&self.store, now).await?.filter(|it| it.lease_ms > own) else {
            return Ok(own);
        };
        let before = self.summary().lease_in_force.replace(LeaseInForce::new(longer));
        if before.is_none_or(|before| before.seconds < longer.lease_ms / 1000) {
            self.warn(format!(
                "this run keeps to a lease of {:#}, which holds until {} at least, and not to scrub.upload_expiry ({:#}): a \
                 server wishes the longer one, or did so before its configuration changed",
                time_of(longer.lease_ms),
                date_of(longer.until_ms),
                time_of(own)
            ));
        }
        Ok(longer.lease_ms)
    }

    /// Ends the run if the store's clock was set back, so that ages that it has seen may be wrong. Call it between the
    /// last look at things and a removal for their age.
    ///
    /// An object that was written after such a step looks older than it is, by the length of the step.
    pub(super) async fn trusts_ages(&self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        self.store.hear_time().await?;
        self.check_clock()
    }

    fn check_clock(&self) -> Result<()> {
        let Some(reading) = *self.reading.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let back = self.store.clock().set_back_since(reading);
        // an object needs a whole lease to look old; answers that take long look like a small step
        if back >= self.lease() * 3 / 4 && !mutated(Mutation::ClockSetBackUnseen) {
            return Err(ScrubError::ClockSetBack(back));
        }
        Ok(())
    }

    /// Returns the lease of the configuration.
    fn lease(&self) -> Duration {
        self.config.scrub.upload_expiry
    }

    /// Returns whether the time of this run is over.
    pub(super) fn is_late(&self) -> bool {
        let lasts = self.store.clock().since_boot().saturating_sub(self.began);
        self.options.max_duration.is_some_and(|most| lasts >= most)
    }

    /// Returns [`ScrubError::OutOfTime`] if the time of the run is over. Each pass asks before each thing that it looks
    /// at.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.is_late() { Err(ScrubError::OutOfTime) } else { Ok(()) }
    }

    /// Returns whether the run looks at a repository: any, or one that the prefix of the options covers.
    pub(super) fn covers(&self, name: &Name) -> bool {
        self.options.repository.as_ref().is_none_or(|prefix| {
            name.as_str().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Reports a removal before it happens. An error of the observer ends the run, since scrub removes nothing without
    /// a record. [`Run::free`] counts the freed bytes.
    pub(super) fn tell(&self, removal: Removal) -> Result<()> {
        {
            let mut summary = self.summary();
            let count = summary.removed.entry(removal.what).or_default().entry(removal.reason).or_default();
            count.number += 1;
            count.bytes += removal.size;
        }
        self.observer.event(&Event::Removal(removal)).map_err(ScrubError::Record)
    }

    /// Reports a removal by a later run, and the time from which on it happens. Removes nothing.
    pub(super) fn foresee(&self, removal: Removal, from: Option<Timestamp>) -> Result<()> {
        let from = from.map(|from| from.to_string());
        *self.summary().later.entry(removal.what).or_default().entry(removal.reason).or_default() += 1;
        self.observer.event(&Event::Later(Later { removal, from })).map_err(ScrubError::Record)
    }

    /// Counts the removal of an object that users do not know of.
    pub(super) fn housekeeping(&self, reason: Reason) {
        let mut summary = self.summary();
        summary.removed.entry(What::Housekeeping).or_default().entry(reason).or_default().number += 1;
    }

    /// Reports and counts a finding.
    pub(super) fn found(&self, finding: Finding) -> Result<()> {
        *self.summary().findings.entry(finding.outcome).or_default() += 1;
        self.observer.event(&Event::Finding(finding)).map_err(ScrubError::Record)
    }

    /// Warns the operator of a fault of this run or its surroundings, which is no fault of an object of the store.
    pub(super) fn warn(&self, warning: String) {
        self.observer.warning(&warning);
        self.summary().warnings.push(warning);
    }

    /// Counts objects as too young to judge.
    pub(super) fn too_young(&self, number: u64) {
        self.summary().too_young += number;
    }

    /// Counts a blob that the run was to read back and did not.
    pub(super) fn not_read(&self) {
        self.summary().not_read += 1;
    }

    /// Reports a digest as damaged to servers, so that they forget what they remember of it. Call it after the note is
    /// written.
    pub(super) async fn report_damage(&self, digest: &Digest) -> Result<()> {
        if !self.options.dry_run {
            self.registry.damage.report(digest).await?;
        }
        Ok(())
    }

    pub(super) fn saw(&self, what: &'static str, number: u64) {
        *self.summary().seen.entry(what).or_default() += number;
    }

    /// Reports how many things of about how many are done in this pass.
    pub(super) fn progress(&self, pass: Pass, done: u64, total: u64) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(pass, done);
        self.observer.progress(pass, done, total.max(done));
    }

    /// Returns the number of things that this pass has reported as done. The next part of the pass counts on from
    /// there.
    pub(super) fn done(&self, pass: Pass) -> u64 {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).get(&pass).copied().unwrap_or_default()
    }

    /// Returns about how many repositories this run looks at, for [`Run::progress`]. Lists the catalog once. Returns 0
    /// if the observer does not use the progress.
    pub(super) async fn repositories(&self) -> Result<u64> {
        if !self.observer.looks_on() {
            return Ok(0);
        }
        self.repositories.get_or_try_init(|| names::count(&self.store, |name| self.covers(name))).await.copied()
    }

    /// Deletes an object of `size` bytes, or only counts its bytes in a dry run. Ends the run if ages cannot be
    /// trusted.
    pub(super) async fn free(&self, key: &str, size: u64) -> Result<()> {
        self.trusts_ages().await?;
        if !self.options.dry_run {
            self.store.delete(key).await?;
        }
        self.summary().freed += size;
        Ok(())
    }

    /// Writes an object, except in a dry run.
    pub(super) async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<()> {
        if !self.options.dry_run {
            self.store.put(key, content).await?;
        }
        Ok(())
    }
}

fn time_of(milliseconds: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}
