//! Runs the scrubs of a server, and records deletions.
//!
//! A scrub runs in a thread of its own, with its own runtime and connection to the store, in spare time if there is any
//! ([`Background`]). A scrub that a signal or a fault breaks off leaves its work to the next.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use super::open_store;
use crate::{
    audit::{Audit, AuditError, Deletion},
    config::Config,
    priority::Background,
    scrub::{self, Event, Finding, Observer, Options, Outcome, Pass, Removal, Summary},
    snapshot::Live,
    storage::OpenError,
    telemetry::Metrics,
};

/// An observer that writes each deletion into the record, and then tells another observer. A dry run records nothing.
#[derive(Debug)]
pub struct Recording<O> {
    audit: Audit,
    run: OnceLock<String>,
    then: O,
}

impl<O> Recording<O> {
    /// Opens the record of `config`, unless this is a dry run.
    ///
    /// # Errors
    /// The record cannot be opened.
    pub fn open(config: &Config, dry_run: bool, then: O) -> Result<Self, AuditError> {
        let audit = if dry_run { Audit::off() } else { Audit::open_deletions(config)? };
        Ok(Self { audit, run: OnceLock::new(), then })
    }

    /// Returns the other observer.
    pub const fn then(&self) -> &O {
        &self.then
    }

    fn record(&self, removal: &Removal) -> Result<(), String> {
        if !self.audit.is_on() {
            return Ok(());
        }
        let digest = removal.digest.map(|digest| digest.to_string());
        let deleted_at = removal.deleted.as_ref().and_then(|stamp| {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(stamp.at).ok()?).ok()?;
            Some(format!("{at:.3}"))
        });
        self.audit.record_deletion(&Deletion {
            run: self.run.get().map_or("", String::as_str),
            what: removal.what.as_str(),
            reason: removal.reason.as_str(),
            repository: removal.repository.as_ref().map(super::super::oci::name::Name::as_str),
            reference: removal.reference.as_deref(),
            digest: digest.as_deref(),
            size: removal.size,
            policy: removal.policy.as_deref(),
            policy_sha256: removal.policy_sha256.as_deref(),
            by: removal.deleted.as_ref().map(|stamp| stamp.by.identity.as_str()),
            request_id: removal.deleted.as_ref().map(|stamp| stamp.by.request.as_str()),
            deleted_at: deleted_at.as_deref(),
            ..Deletion::default()
        })
    }
}

impl<O: Observer> Observer for Recording<O> {
    fn begins(&self, run: &str) {
        let _ = self.run.set(run.to_owned());
        self.then.begins(run);
    }

    fn event(&self, event: &Event) -> Result<(), String> {
        if let Event::Removal(removal) = event {
            self.record(removal).map_err(|cause| format!("scrub.record: {cause}"))?;
        }
        self.then.event(event)
    }

    fn warning(&self, warning: &str) {
        self.then.warning(warning);
    }

    fn progress(&self, pass: Pass, done: u64, total: u64) {
        self.then.progress(pass, done, total);
    }

    fn looks_on(&self) -> bool {
        self.then.looks_on()
    }
}

/// Bounds how long a stopping server waits for its scrub. On cores that are never idle, one step of a scrub may last for
/// seconds. A scrub that is cut off leaves the store as a crash does.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server's scrub, in its thread.
pub(super) struct Scrubbing {
    /// Closed when the thread ends.
    ended: oneshot::Receiver<()>,
    whereabouts: Arc<Whereabouts>,
}

impl Scrubbing {
    /// Waits until the scrub that was told to stop has ended, but not for ever.
    pub(super) async fn end(self) {
        self.ends_within(PATIENCE).await;
    }

    /// Returns whether the scrub ends within `patience`; otherwise logs what is left.
    async fn ends_within(self, patience: Duration) -> bool {
        let ended = tokio::time::timeout(patience, self.ended).await.is_ok();
        if !ended {
            tracing::warn!(
                left = self.whereabouts.left(),
                "a scrub did not stop within {} s and is cut off; what it did until then is done, and the next one does the rest",
                patience.as_secs()
            );
        }
        ended
    }
}

/// The pass that a scrub is in, and how many things it has looked at there.
#[derive(Debug, Default)]
struct Whereabouts(Mutex<Option<(Pass, u64)>>);

impl Whereabouts {
    fn at(&self, now: Option<(Pass, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Returns the passes that a run leaves to the next one if it is cut off here.
    fn left(&self) -> String {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = PASSES.into_iter().skip_while(|pass| at.is_some_and(|(at, _)| at != *pass));
        let left: Vec<&str> = passes.map(Pass::as_str).collect();
        let done = at.map(|(pass, done)| format!("; {done} looked at in {}", pass.as_str()));
        left.join(", ") + &done.unwrap_or_default()
    }
}

/// The passes of a server's scrub, in their order.
const PASSES: [Pass; 4] = [Pass::Links, Pass::Retention, Pass::Garbage, Pass::Uploads];

/// Scrubs every `interval` until `stop` turns true.
///
/// `began` is the configuration that the server began with: its store is that of the requests, whatever the files say by now.
pub(super) fn start(
    interval: Duration,
    live: Arc<Live>,
    began: Config,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> std::io::Result<Scrubbing> {
    let (ends, ended) = oneshot::channel();
    let whereabouts = Arc::<Whereabouts>::default();
    let scrubbing = Scrubbing { ended, whereabouts: Arc::clone(&whereabouts) };
    let work = move || {
        let _ends = ends;
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                runtime.block_on(until_stopped(interval, &live, &began, &metrics, &whereabouts, stop));
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "this server will not scrub its store: no runtime for it"),
        }
    };
    std::thread::Builder::new().name("scrub".to_owned()).spawn(work)?;
    Ok(scrubbing)
}

async fn until_stopped(
    interval: Duration,
    live: &Live,
    began: &Config,
    metrics: &Metrics,
    whereabouts: &Arc<Whereabouts>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(interval) => {}
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {
                tracing::info!(left = whereabouts.left(), "scrub is broken off; the next one does the rest");
                metrics.record_scrub("stopped", 0);
                return;
            }
            () = once(live, began, metrics, whereabouts) => {}
        }
    }
}

/// The reason why a run failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Record(#[from] AuditError),
    #[error("no threads for work in the background: {0}")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Scrub(#[from] scrub::Failed),
}

async fn once(live: &Live, began: &Config, metrics: &Metrics, whereabouts: &Arc<Whereabouts>) {
    let start = Instant::now();
    tracing::info!("scrub begins");
    whereabouts.at(None);
    match run(live, began, metrics, whereabouts).await {
        Ok(summary) => {
            let outcome = if summary.is_clean() { "clean" } else { "findings" };
            count(metrics, outcome, &summary);
            tracing::info!(
                run = summary.run,
                outcome,
                freed = summary.freed,
                removed = %serde_json::json!(summary.removed),
                findings = %serde_json::json!(summary.findings),
                seconds = start.elapsed().as_secs(),
                "scrub ended"
            );
        }
        Err(Failed::Scrub(failed)) => {
            let summary = &failed.summary;
            count(metrics, "failed", summary);
            tracing::error!(
                error = %failed,
                run = summary.run,
                freed = summary.freed,
                removed = %serde_json::json!(summary.removed),
                findings = %serde_json::json!(summary.findings),
                seconds = start.elapsed().as_secs(),
                "scrub failed; what it did until then is done, and the next one goes on"
            );
        }
        Err(error) => {
            metrics.record_scrub("failed", 0);
            tracing::error!(%error, "scrub failed; what it did until then is done, and the next one goes on");
        }
    }
}

/// Counts a run that has ended, in this way or that.
fn count(metrics: &Metrics, outcome: &'static str, summary: &Summary) {
    metrics.record_scrub(outcome, summary.freed);
    for (outcome, number) in &summary.findings {
        metrics.record_scrub_findings(outcome.as_str(), *number);
    }
}

async fn run(
    live: &Live,
    began: &Config,
    metrics: &Metrics,
    whereabouts: &Arc<Whereabouts>,
) -> Result<Summary, Failed> {
    let snapshot = live.current();
    let mut config = snapshot.config().clone();
    config.storage = began.storage.clone();
    let store = open_store(&config).await?;
    let observer = Arc::new(Recording::open(&config, false, Log(Arc::clone(whereabouts)))?);
    let options = Options {
        dry_run: false,
        passes: BTreeSet::from(PASSES),
        repository: None,
        verify_percent: 100,
        max_duration: None,
    };
    let background = Background::start().map_err(Failed::Threads)?;
    let work = scrub::run(&store, &config, snapshot.policy(), options, observer, metrics.clone());
    Ok(background.drive(Box::pin(work)).await?)
}

/// Findings go to the log; of deletions it has their number alone.
#[derive(Debug)]
struct Log(Arc<Whereabouts>);

impl Observer for Log {
    fn event(&self, event: &Event) -> Result<(), String> {
        if let Event::Finding(Finding { key, says, outcome }) = event {
            if outcome == &Outcome::Known {
                tracing::debug!(key, says, outcome = outcome.as_str(), "scrub finding");
            } else {
                tracing::warn!(key, says, outcome = outcome.as_str(), "scrub finding");
            }
        }
        Ok(())
    }

    fn warning(&self, warning: &str) {
        tracing::warn!(warning, "scrub warning");
    }

    fn progress(&self, pass: Pass, done: u64, _total: u64) {
        self.0.at(Some((pass, done)));
    }

    fn looks_on(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_does_not_wait_for_ever_for_a_scrub_that_stands_still() {
        let (ends, ended) = oneshot::channel();
        assert!(!Scrubbing { ended, whereabouts: Arc::default() }.ends_within(Duration::ZERO).await);
        drop(ends);
        let (ends, ended) = oneshot::channel();
        drop(ends);
        assert!(Scrubbing { ended, whereabouts: Arc::default() }.ends_within(Duration::from_hours(1)).await);
    }

    #[test]
    fn a_scrub_says_which_passes_it_leaves() {
        let whereabouts = Whereabouts::default();
        assert_eq!(whereabouts.left(), "links, retention, garbage, uploads");
        whereabouts.at(Some((Pass::Garbage, 7)));
        assert_eq!(whereabouts.left(), "garbage, uploads; 7 looked at in garbage");
    }
}
