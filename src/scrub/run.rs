//! One run: what it works on, and the only way in which it changes the store.

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
    ages::milliseconds,
    report::{Event, Finding, Later, LeaseInForce, Reason, Removal, Summary, What, date_of},
    repositories,
};
use crate::{
    config::Config,
    oci::{Digest, Name},
    policy::Policy,
    registry::{By, InForce, Registry},
    storage::{
        Reading, Store, layout,
        mutation::{mutated, wishes},
    },
};

/// One run.
pub(super) struct Run<'a> {
    pub(super) store: Store,
    /// A registry of this run's own, without memory of what may change.
    pub(super) registry: Registry,
    pub(super) config: &'a Config,
    pub(super) policy: &'a Policy,
    pub(super) options: Options,
    /// What marks of this run are called: no other run's mark is.
    pub(super) id: String,
    /// Who writes the facts of this run.
    pub(super) by: By,
    /// By the time since boot.
    began: Duration,
    /// The reading of the store's clock by which later objects can look oldest.
    reading: Mutex<Option<Reading>>,
    observer: Arc<dyn Observer>,
    summary: Mutex<Summary>,
    /// Of each pass, how many things were said to be done.
    done: Mutex<BTreeMap<Pass, u64>>,
    /// Repositories by the catalog, once they were counted.
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
        let id = if mutated("shared marks") { "0".repeat(16) } else { layout::attempt() };
        let by = By::scrub(&id);
        let summary = Summary { run: id.clone(), dry_run: options.dry_run, ..Summary::default() };
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

    /// Reads the store's time, and then the lease in force, in milliseconds: before a look at anything whose age is judged
    /// by them. A wish that comes after that time is of a process that relies on nothing older.
    ///
    /// # Errors
    /// Also if the store's clock was set back since an earlier reading.
    pub(super) async fn time_and_lease(&self) -> Result<(u64, u64)> {
        if !self.options.dry_run {
            // for the marks and records of this run, which another scrub must not take for old
            self.registry.renew_wish(8).await?;
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
        if !wishes() || mutated("another's wish not looked at") {
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

    /// Ends the run if ages cannot be trusted that it has seen. Call it between the last look at things and a removal for
    /// their age.
    ///
    /// An object that was written after the store's clock was set back looks older than it is, by the length of that step.
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
        if back >= self.lease() * 3 / 4 && !mutated("clock set back unseen") {
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

    /// Ends the run where its time is over. Each pass asks before each thing that it looks at.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.is_late() { Err(ScrubError::OutOfTime) } else { Ok(()) }
    }

    /// Whether a run over all repositories may do this to that one.
    pub(super) fn covers(&self, name: &Name) -> bool {
        self.options.repository.as_ref().is_none_or(|prefix| {
            name.as_str().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Tells that something is about to be removed, before it is: what cannot be recorded is not removed. Its freed bytes
    /// are those of its [`Run::free`].
    pub(super) fn tell(&self, removal: Removal) -> Result<()> {
        {
            let mut summary = self.summary();
            let count = summary.removed.entry(removal.what).or_default().entry(removal.reason).or_default();
            count.number += 1;
            count.bytes += removal.size;
        }
        self.observer.event(&Event::Removal(removal)).map_err(ScrubError::Record)
    }

    /// Tells what a later run removes, and from when on; nothing is removed now.
    pub(super) fn foresee(&self, removal: Removal, from: Option<Timestamp>) -> Result<()> {
        let from = from.map(|from| from.to_string());
        *self.summary().later.entry(removal.what).or_default().entry(removal.reason).or_default() += 1;
        self.observer.event(&Event::Later(Later { removal, from })).map_err(ScrubError::Record)
    }

    /// Counts what only the store knows of.
    pub(super) fn housekeeping(&self, reason: Reason) {
        let mut summary = self.summary();
        summary.removed.entry(What::Housekeeping).or_default().entry(reason).or_default().number += 1;
    }

    /// Tells that something is wrong.
    pub(super) fn found(&self, finding: Finding) -> Result<()> {
        *self.summary().findings.entry(finding.outcome).or_default() += 1;
        self.observer.event(&Event::Finding(finding)).map_err(ScrubError::Record)
    }

    /// Tells the operator of something that is not right with this run, and that nothing in the store is to blame for.
    pub(super) fn warn(&self, warning: String) {
        self.observer.warning(&warning);
        self.summary().warnings.push(warning);
    }

    /// Counts so many objects as too young to judge.
    pub(super) fn too_young(&self, number: u64) {
        self.summary().too_young += number;
    }

    /// Counts a blob that was to be read back and was not.
    pub(super) fn not_read(&self) {
        self.summary().not_read += 1;
    }

    /// Tells servers that what is stored of a digest is damaged, after the note beside it: they forget what they remember.
    pub(super) async fn report_damage(&self, digest: &Digest) -> Result<()> {
        if !self.options.dry_run {
            self.registry.report_damage(digest).await?;
        }
        Ok(())
    }

    pub(super) fn saw(&self, what: &'static str, number: u64) {
        *self.summary().seen.entry(what).or_default() += number;
    }

    /// Says that so many of about so many are done in this pass.
    pub(super) fn progress(&self, pass: Pass, done: u64, total: u64) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(pass, done);
        self.observer.progress(pass, done, total.max(done));
    }

    /// How many things were said to be done in this pass so far: what follows counts on from there.
    pub(super) fn done(&self, pass: Pass) -> u64 {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).get(&pass).copied().unwrap_or_default()
    }

    /// About how many repositories this run goes over, for [`Run::progress`]: those in the catalog, listed once, and only
    /// where somebody looks on.
    pub(super) async fn repositories(&self) -> Result<u64> {
        if !self.observer.looks_on() {
            return Ok(0);
        }
        self.repositories.get_or_try_init(|| repositories::count(self)).await.copied()
    }

    /// Removes an object of `size` bytes, unless nothing is to be changed.
    pub(super) async fn free(&self, key: &str, size: u64) -> Result<()> {
        self.trusts_ages().await?;
        if !self.options.dry_run {
            self.store.delete(key).await?;
        }
        self.summary().freed += size;
        Ok(())
    }

    /// Writes an object, unless nothing is to be changed.
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
