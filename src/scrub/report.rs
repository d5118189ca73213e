//! What a run tells: each thing that it removes, each that it finds wrong, and a summary.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    oci::{Digest, Name},
    registry::{InForce, facts::Stamp},
};

/// What was removed, as users know it.
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
    /// Objects of the store that only it knows of: superseded versions, pins, grants, states, empty directories. Counted
    /// alone.
    Housekeeping,
}

impl What {
    /// Its word in reports and records.
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

    /// The noun for one of them, in sentences.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Housekeeping => "housekeeping object",
            other => other.as_str(),
        }
    }
}

/// Why it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No rule keeps it.
    Retention,
    /// No tag means it, and untagged manifests go.
    Untagged,
    /// Its index is gone.
    WithIndex,
    /// Its subject is gone.
    WithSubject,
    /// It was deleted longer ago than the trash keeps.
    Deleted,
    /// Nothing needs it.
    Unreferenced,
    /// It went silent.
    Expired,
    /// Another copy of the same bytes stays.
    Duplicate,
    /// Something newer stands in its place.
    Superseded,
    /// It has no tag and no manifest, nor any that could be brought back.
    Empty,
}

impl Reason {
    /// Its word in reports and records.
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

/// Something that is removed.
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// What.
    pub what: What,
    /// Why.
    pub reason: Reason,
    /// The repository, where it is of one.
    pub repository: Option<Name>,
    /// The tag, or the upload's id.
    pub reference: Option<String>,
    /// The digest that it is or means.
    pub digest: Option<Digest>,
    /// Bytes that are freed by it.
    pub size: u64,
    /// The policy that no rule of keeps it.
    pub policy: Option<String>,
    /// The SHA-256 of that policy's text.
    pub policy_sha256: Option<String>,
    /// Who deleted it, when that was a request.
    pub deleted: Option<Stamp>,
}

impl Removal {
    /// One about which no more is known than this.
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

/// Something that a later run removes.
#[derive(Clone, Debug, Serialize)]
pub struct Later {
    /// The thing that a later run removes.
    #[serde(flatten)]
    pub removal: Removal,
    /// The time from which on a run removes it, in RFC 3339, unless something changes until then. Nothing if the store does
    /// not tell when it was pushed.
    pub from: Option<String>,
}

/// What became of something that was found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is right again.
    Repaired,
    /// A note stands beside it; nobody reads it, and nothing was removed.
    Quarantined,
    /// A note about it was there already.
    Known,
    /// A run that may change something would see to it.
    DryRun,
}

impl Outcome {
    /// Its word in reports and metrics.
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

/// Something that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The object of the store, or what is missing there.
    pub key: String,
    /// What is wrong with it, in a sentence that names what users know of it.
    pub says: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a run tells as it happens.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something is removed now, or would be.
    Removal(Removal),
    /// A later run removes something. Only a run that changes nothing tells it.
    Later(Later),
    /// Something is wrong.
    Finding(Finding),
}

/// How much, and how large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many.
    pub number: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The lease that a run keeps to, where its own configuration asks for a shorter one.
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

/// What a run did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The run's id, as in the facts that it wrote.
    pub run: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Why it ended early: the rest is what it did until then.
    pub failed: Option<String>,
    /// The lease in force, if it is longer than `scrub.upload_expiry`.
    pub lease_in_force: Option<LeaseInForce>,
    /// What the operator should know about this run, in sentences.
    pub warnings: Vec<String>,
    /// Repositories, tags, manifests, blobs and uploads that were looked at, by those words.
    pub seen: BTreeMap<&'static str, u64>,
    /// What was removed, by what and why.
    pub removed: BTreeMap<What, BTreeMap<Reason, Count>>,
    /// The things that a later run removes, as a dry run foresees them.
    pub later: BTreeMap<What, BTreeMap<Reason, u64>>,
    /// Bytes that the store has less for it.
    pub freed: u64,
    /// What was found wrong, by what became of it.
    pub findings: BTreeMap<Outcome, u64>,
    /// Objects that may belong to a push or a delete under way: whether what they name is there was not judged.
    pub too_young: u64,
    /// Blobs whose bytes were to be read back and were not: left out of a sample, or another scrub is at work on them.
    pub not_read: u64,
    /// Blobs that were read back and hashed.
    pub verified: Count,
    /// True if the time of the run was over before its last pass was.
    pub out_of_time: bool,
    /// Whether content is left that a later run will read.
    pub content_left: bool,
}

impl Summary {
    /// Whether nothing was found that could not be repaired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|(outcome, _)| matches!(outcome, Outcome::Repaired | Outcome::Known))
    }
}

/// Returns a time of the store as RFC 3339 writes it.
pub(super) fn date_of(milliseconds: u64) -> String {
    let at = i64::try_from(milliseconds).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    format!("{:.0}", at.unwrap_or(Timestamp::MAX))
}
