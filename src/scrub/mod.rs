//! Scrub: retention, garbage and consistency, beside servers that push.
//!
//! Scrub looks, marks, looks again, and frees exactly the keys that it saw. A process that needs a thing writes its
//! reference first and looks afterwards. So scrub needs no stop and no lock, and several runs may work at once. A run
//! that dies leaves nothing but work for the next. `ARCHITECTURE.md` has the protocol.
//!
//! | file | content |
//! | --- | --- |
//! | `run` | one run: its clock, its options, its findings; the only way to change the store |
//! | `ages` | the ages of objects, and the limits that they pass |
//! | `names` | the names of repositories, and groups of a repository's keys |
//! | `hash` | bytes read back and hashed |
//! | `notes` | reports of faults, and the notes about them |
//! | `report` | events and the summary of a run |
//! | `retention` | tags that no rule keeps |
//! | `repositories` | unneeded manifests, tags, referrers and entries of the catalog |
//! | `bytes` | unneeded blobs and uploads, and lost bytes |
//! | `links` | references of repositories to missing things |
//! | `content` | bytes that no longer match their digests |

mod ages;
mod bytes;
mod content;
mod hash;
mod links;
mod names;
mod notes;
mod report;
mod repositories;
mod retention;
mod run;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use self::run::Run;
pub use self::{
    report::{Event, Finding, Later, Outcome, Reason, Removal, Summary, What},
    retention::{Tags, Unjudged, tags},
};
use crate::{
    config::Config,
    oci::Name,
    policy::Policy,
    registry::{self, Registry},
    storage::{StorageError, Store},
    telemetry::Metrics,
};

/// A pass: a part of a run of scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Removes tags that no rule keeps.
    Retention,
    /// Removes uploads that went silent.
    Uploads,
    /// Removes things that nothing needs.
    Garbage,
    /// Checks that the things that references name exist.
    Links,
    /// Checks that bytes still match their digests.
    Content,
}

impl Pass {
    /// All passes, in the order in which a run does them.
    pub const ALL: [Self; 5] = [Self::Links, Self::Retention, Self::Garbage, Self::Uploads, Self::Content];

    /// Returns the word for the pass on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Uploads => "uploads",
            Self::Garbage => "garbage",
            Self::Links => "links",
            Self::Content => "content",
        }
    }

    /// Returns whether the pass can look at some repositories alone.
    #[must_use]
    pub const fn honours_repository(self) -> bool {
        // scrub finds bytes without a blob copy by reading the blob copies of all repositories
        !matches!(self, Self::Uploads)
    }
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// True if the run changes nothing, and only reports the changes that it would make.
    pub dry_run: bool,
    /// The passes that the run does.
    pub passes: BTreeSet<Pass>,
    /// The prefix of the repositories to look at; none for all. Such a run frees no bytes, since other repositories may
    /// need them.
    pub repository: Option<Name>,
    /// The percentage of blobs that [`Pass::Content`] reads back and hashes, 1 to 100.
    pub verify_percent: u8,
    /// The time after which the run stops. A later run does the rest, and continues reading content where this run was.
    pub max_duration: Option<Duration>,
}

/// The error of a run that ended early. Its steps until then are done.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// The reason.
    #[source]
    pub error: ScrubError,
    /// The summary of the steps until then.
    pub summary: Box<Summary>,
}

/// The reason why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The store failed. Scrub frees nothing while it cannot list the store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An operation of the registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The time of the run is over. Finished steps stay done, and nothing is wrong.
    #[error("the time is over")]
    OutOfTime,
    /// The store's clock went back by this much, so the ages that the run saw since then may be wrong.
    #[error(
        "the store's clock was set back by {} s during the run, so new objects may look old and nothing more is removed; \
         the next run does the rest; let NTP slew the clocks of the store, not step them", .0.as_secs()
    )]
    ClockSetBack(Duration),
    /// The record of deletions cannot be written. Scrub removes nothing without a record.
    #[error("a deletion cannot be recorded, so nothing more is removed: {0}")]
    Record(String),
}

/// A result of scrub.
pub type Result<T> = std::result::Result<T, ScrubError>;

/// A receiver of the events of a run, as they happen.
pub trait Observer: Send + Sync {
    /// Receives the id of a run that begins.
    fn begins(&self, _run: &str) {}

    /// Receives a removal before it happens, or a finding. An error ends the run before the removal.
    fn event(&self, event: &Event) -> std::result::Result<(), String>;

    /// Receives a message that the operator has to know while the run goes on.
    fn warning(&self, _warning: &str) {}

    /// Receives the number of things that this pass has looked at, and an estimate of their total. The total is at
    /// least `done`.
    fn progress(&self, pass: Pass, done: u64, total: u64);

    /// Returns whether the observer uses [`Observer::progress`]. If not, the run counts nothing for totals alone.
    fn looks_on(&self) -> bool {
        true
    }
}

/// Runs once over the whole store.
///
/// `config` and `policy` are those of one snapshot.
///
/// # Errors
/// [`Failed`], with the summary of what was done.
pub async fn run(
    store: &Store,
    config: &Config,
    policy: &Policy,
    options: Options,
    observer: Arc<dyn Observer>,
    metrics: Metrics,
) -> std::result::Result<Summary, Failed> {
    let registry_options = registry::Options {
        lease: config.scrub.upload_expiry,
        cache_ttl: Duration::ZERO,
        max_blob_size: config.max_blob_size,
        allow_missing_references: config.allow_missing_references,
        verify_pulls: registry::VerifyPulls::None,
    };
    let registry = Registry::new(store.clone(), registry_options, metrics);
    let run = Run::new(store.clone(), registry, config, policy, options, Arc::clone(&observer));
    observer.begins(&run.id.to_string());
    let ended = passes(&run).await;
    let mut summary = run.into_summary();
    match ended {
        Ok(()) => Ok(summary),
        Err(error) => {
            summary.failed = Some(error.to_string());
            Err(Failed { error, summary: Box::new(summary) })
        }
    }
}

async fn passes(run: &Run<'_>) -> Result<()> {
    match all_passes(run).await {
        Err(ScrubError::OutOfTime) => {
            run.summary().out_of_time = true;
            Ok(())
        }
        ended => ended,
    }
}

async fn all_passes(run: &Run<'_>) -> Result<()> {
    run.store.hear_time().await?;
    if let Some(skew) = run.store.clock().skew() {
        run.warn(skew.to_string());
    }
    let does = |pass| run.options.passes.contains(&pass);
    // before any pass judges by references: a lost reference must not cost the thing that it named
    let links = if does(Pass::Links) { Some(links::begin(run).await?) } else { None };
    if does(Pass::Retention) {
        retention::run(run).await?;
    }
    if does(Pass::Garbage) {
        repositories::run(run).await?;
    }
    if does(Pass::Garbage) || does(Pass::Uploads) || does(Pass::Links) {
        bytes::run(run).await?;
    }
    if let Some(links) = links {
        links::end(run, links).await?;
    }
    if does(Pass::Content) {
        content::run(run).await?;
    }
    Ok(())
}
