//! The answers to clients, and what they promise.

use std::sync::Arc;

use crate::{
    oci::{Digest, Name, Tag},
    records::key::Ordinal,
};

/// An answer that holds until an operation ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// The repository has the blob, for as long as a blob link of this process exists.
    Blob(Name, Digest, String),
    /// The manifest exists. If scrub removes untagged manifests, this holds only until a time of the store.
    Manifest(Name, Digest, Option<u64>),
    /// The tag means the manifest.
    Tag(Name, Tag, Digest),
    /// A promise that holds whatever other processes do.
    Promise(Promise),
}

/// A test for answers that do not count any more.
pub(super) type Void = Arc<dyn Fn(&Ack) -> bool + Send + Sync>;

/// The answers to all processes together, and their errors.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) acked: Vec<Ack>,
    /// The answers that do not count any more since the last step.
    pub(super) void: Vec<Void>,
    /// Operations that failed and must not.
    pub(super) failed: Vec<String>,
    pub(super) log: Vec<String>,
}

/// A promise that holds from here on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Promise {
    /// The tag means this manifest, all of it exists, and nothing removes it.
    Stays(Name, Tag, Digest),
    /// The tag means one of these.
    OneOf(Name, Tag, Vec<Digest>),
    /// The manifest exists with all that it needs.
    Stands(Name, Digest),
    /// The tag means nothing, or another manifest.
    NotThis(Name, Tag, Digest),
    /// The manifest was deleted, and no list of referrers has it.
    Gone(Name, Digest),
    /// The tag meant this once, and its history has it.
    Meant(Name, Tag, Digest),
    /// The meaning of the immutable tag changes only if it meant nothing in between.
    Once(Name, Tag),
    /// The repository is in the catalog.
    Listed(Name),
    /// Some copy of the bytes is right, and readers use it, while the repository has the blob.
    Sound(Name, Digest),
    /// No sound copy has a corruption note.
    NoSlander,
    /// There is no quarantine note.
    NothingNoted,
    /// The repository has the blob, and its bytes exist.
    Has(Name, Digest),
    /// The repository has the blob, and its bytes exist, until the manifest is deleted after this version.
    Kept(Name, Digest, Ordinal, Digest),
    /// The repository does not have the blob any more.
    Lacks(Name, Digest),
}
