//! Reports of a run: each removal, each finding, and a summary.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    oci::{Digest, Name},
    records::Provenance,
    registry::InForce,
};

/// A kind of removed thing, as users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A tag.
    Tag,
    /// A manifest.
    Manifest,
    /// The bytes of a blob.
    Blob,
    /// A second copy of the bytes of a blob.
    Copy,
    /// An upload that was not completed, with its bytes.
    Upload,
    /// A repository's place in the catalog.
    Repository,
    /// Objects that users do not know of: superseded versions, pins, links, states, empty directories. Reports have
    /// only their number.
    Housekeeping,
}

impl What {
    /// Returns the word for the kind in reports and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Copy => "copy",
            Self::Upload => "upload",
            Self::Repository => "repository",
            Self::Housekeeping => "housekeeping",
        }
    }

    /// Returns the noun for one thing of the kind, for sentences.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Housekeeping => "housekeeping object",
            other => other.as_str(),
        }
    }
}

/// The reason for a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No retention rule keeps it.
    Retention,
    /// No tag means it, and the configuration removes untagged manifests.
    Untagged,
    /// Its index was removed.
    WithIndex,
    /// Its subject was removed.
    WithSubject,
    /// It was deleted, and the trash time is over.
    Deleted,
    /// Nothing needs it.
    Unreferenced,
    /// The upload received nothing for too long.
    Expired,
    /// Another copy of the same bytes stays.
    Duplicate,
    /// A newer object replaces it.
    Superseded,
    /// The repository has no tag and no manifest, nor any that could be restored.
    Empty,
}

impl Reason {
    /// Returns the word for the reason in reports and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Untagged => "untagged",
            Self::WithIndex => "with_index",
            Self::WithSubject => "with_subject",
            Self::Deleted => "deleted",
            Self::Unreferenced => "unreferenced",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Empty => "empty",
        }
    }
}

/// A removal.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// The kind of the thing.
    pub what: What,
    /// The reason.
    pub reason: Reason,
    /// The repository, if the thing belongs to one.
    pub repository: Option<Name>,
    /// The tag, or the upload's id.
    pub reference: Option<String>,
    /// The digest of the thing, or of the manifest that the tag means.
    pub digest: Option<Digest>,
    /// The bytes that the removal frees.
    pub size: u64,
    /// The policy in which no rule matched.
    pub policy: Option<String>,
    /// The SHA-256 of that policy's text.
    pub policy_sha256: Option<String>,
    /// The author and time of the delete, if a request deleted it.
    pub deleted: Option<Provenance>,
}

impl Removal {
    /// Returns a removal of this kind for this reason, with all other fields empty.
    #[must_use]
    pub const fn new(what: What, reason: Reason) -> Self {
        Self {
            what,
            reason,
            repository: None,
            reference: None,
            digest: None,
            size: 0,
            policy: None,
            policy_sha256: None,
            deleted: None,
        }
    }
}

/// A removal by a later run.
#[derive(Clone, Debug, Serialize)]
pub struct Later {
    /// The removal.
    #[serde(flatten)]
    pub removal: Removal,
    /// The time from which on a run removes it, in RFC 3339, unless something changes until then. Nothing if the time
    /// of the push is not known.
    pub from: Option<String>,
}

/// The outcome of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Scrub repaired it.
    Repaired,
    /// Scrub wrote a note about it and removed nothing. Servers do not read segments with a corruption note.
    Quarantined,
    /// An earlier run had written a note about it.
    Known,
    /// A run without `dry_run` would repair or quarantine it.
    DryRun,
}

impl Outcome {
    /// Returns the word for the outcome in reports and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Quarantined => "quarantined",
            Self::Known => "known",
            Self::DryRun => "dry_run",
        }
    }
}

/// A finding: something that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The key of the object that is wrong or missing.
    pub key: String,
    /// The fault, in a sentence that names the thing as users know it.
    pub says: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// An event of a run, reported as it happens.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A removal, before it happens. In a dry run, it does not happen.
    Removal(Removal),
    /// A removal by a later run. Only a dry run reports it.
    Later(Later),
    /// A finding.
    Finding(Finding),
}

/// A number of things and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The number of things.
    pub number: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The lease that a run keeps to, if it is longer than the lease of the run's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseInForce {
    /// The lease, in seconds.
    pub seconds: u64,
    /// The time until which it is in force at least, in RFC 3339.
    pub until: String,
}

impl LeaseInForce {
    pub(super) fn new(lease: InForce) -> Self {
        Self { seconds: lease.lease_ms / 1000, until: date_of(lease.until_ms) }
    }
}

/// The summary of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The run's id, as in the records that it wrote.
    pub run: String,
    /// True if the run changed nothing.
    pub dry_run: bool,
    /// The reason why the run ended early. The rest of the summary covers the steps until then.
    pub failed: Option<String>,
    /// The lease in force, if it is longer than `scrub.upload_expiry`.
    pub lease_in_force: Option<LeaseInForce>,
    /// Messages about this run for the operator, in sentences.
    pub warnings: Vec<String>,
    /// The numbers of repositories, tags, manifests, blobs and uploads that the run looked at, by those words.
    pub seen: BTreeMap<&'static str, u64>,
    /// The removed things, by kind and reason.
    pub removed: BTreeMap<What, BTreeMap<Reason, Count>>,
    /// The things that a later run removes, as a dry run foresees them.
    pub later: BTreeMap<What, BTreeMap<Reason, u64>>,
    /// The number of bytes that the run freed, or would have freed in a dry run.
    pub freed: u64,
    /// The number of findings, by outcome.
    pub findings: BTreeMap<Outcome, u64>,
    /// The number of objects that may belong to a push or a delete under way. The run did not judge whether the things
    /// that they name exist.
    pub too_young: u64,
    /// The number of blobs that the run was to read back and did not: left out of a sample, or in the hands of another
    /// scrub.
    pub not_read: u64,
    /// The number and bytes of the blobs that the run read back and hashed.
    pub verified: Count,
    /// True if the time of the run was over before its last pass ended.
    pub out_of_time: bool,
    /// True if content is left that a later run will read.
    pub content_left: bool,
}

impl Summary {
    /// Returns whether each finding was repaired or was known before.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|(outcome, _)| matches!(outcome, Outcome::Repaired | Outcome::Known))
    }
}

/// Returns a time of the store, in milliseconds since 1970, as RFC 3339.
pub(super) fn date_of(milliseconds: u64) -> String {
    let at = i64::try_from(milliseconds).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    format!("{:.0}", at.unwrap_or(Timestamp::MAX))
}
