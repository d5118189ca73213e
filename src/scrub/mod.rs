//! Scrub: retention, garbage and consistency, beside servers that push.
//!
//! It looks, marks, looks again, and frees exactly the keys that it saw; who needs a thing writes its reference first and
//! looks afterwards. So it needs no stop and no lock, several of them may run at once, and one that dies leaves nothing
//! but work for the next. `ARCHITECTURE.md` has the protocol.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `run` | one run: its clock, what it may change, what it found; the only way to change the store |
//! | `ages` | how old things are, and what that means |
//! | `report` | what a run tells |
//! | `retention` | tags that no rule keeps |
//! | `repositories` | manifests, tags, referrers and the catalog: what nothing needs |
//! | `bytes` | blobs and uploads: what nothing needs, and whether it is there |
//! | `links` | whether what repositories name is there |
//! | `content` | whether bytes are what they were |

mod ages;
mod bytes;
mod content;
#[cfg(test)]
mod interleavings;
mod links;
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

/// A part of what scrub does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Images that no rule keeps.
    Retention,
    /// Uploads that went silent.
    Uploads,
    /// What nothing needs.
    Garbage,
    /// Whether what names something names what is there.
    Links,
    /// Whether bytes are what they were.
    Content,
}

impl Pass {
    /// All, in the order in which they are done.
    pub const ALL: [Self; 5] = [Self::Links, Self::Retention, Self::Garbage, Self::Uploads, Self::Content];

    /// Its word on the command line.
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
        // bytes that no blob copy names are found by reading the blob copies of all repositories
        !matches!(self, Self::Uploads)
    }
}

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nothing is changed; the report says what would be.
    pub dry_run: bool,
    /// What is done.
    pub passes: BTreeSet<Pass>,
    /// Only repositories that this prefix covers. Bytes are not freed then: other repositories may need them.
    pub repository: Option<Name>,
    /// How many of a hundred blobs are read back and hashed by [`Pass::Content`], 1 to 100.
    pub verify_percent: u8,
    /// The time after which the run stops. A later run does the rest, and continues reading content where this run was.
    pub max_duration: Option<Duration>,
}

/// A run that ended early. What it did until then is done.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why.
    #[source]
    pub error: ScrubError,
    /// What it did until then.
    pub summary: Box<Summary>,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The store failed. Nothing is freed on the word of a store that cannot say what it holds.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An operation of the registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The time of the run is over. Finished steps stay done, and nothing is wrong.
    #[error("the time is over")]
    OutOfTime,
    /// The store's clock went back by this much, so ages that were seen since may be wrong.
    #[error(
        "the store's clock was set back by {} s during the run, so new objects may look old and nothing more is removed; \
         the next run does the rest; let NTP slew the clocks of the store, not step them", .0.as_secs()
    )]
    ClockSetBack(Duration),
    /// The record of deletions cannot be written, and what is not recorded is not removed.
    #[error("a deletion cannot be recorded, so nothing more is removed: {0}")]
    Record(String),
}

/// A result of scrub.
pub type Result<T> = std::result::Result<T, ScrubError>;

/// Who is told of what a run does, as it happens.
pub trait Observer: Send + Sync {
    /// A run of this id begins.
    fn begins(&self, _run: &str) {}

    /// Something is about to be removed, or was found. An error ends the run, before anything is removed.
    fn event(&self, event: &Event) -> std::result::Result<(), String>;

    /// Something that the operator has to know while the run goes on.
    fn warning(&self, _warning: &str) {}

    /// So many of about so many, which are no fewer, have been looked at in this pass.
    fn progress(&self, pass: Pass, done: u64, total: u64);

    /// Whether [`Observer::progress`] is for anybody: else nothing is counted for its totals alone.
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
    observer.begins(&run.id);
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
    // before anything is judged by references: one that was lost must not cost what it named
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
