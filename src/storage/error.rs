//! What can go wrong with storage. Absence is never among it: what is not there is an answer, not an error.

use std::{io, sync::Arc};

/// A storage operation that failed; cheap to clone, since several requests may wait for one operation.
#[derive(Clone, Debug, thiserror::Error)]
#[error("storage could not {operation} {key:?}: {kind}: {cause}")]
pub struct StorageError {
    /// What was tried.
    pub operation: &'static str,
    /// The key, or prefix.
    pub key: String,
    /// What to think of it.
    pub kind: FaultKind,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

/// What kind of fault a storage error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No space, or a quota used up.
    Full,
    /// The store refuses the credentials, or the file's owner.
    Denied,
    /// Not there although something says that it is, or of another length or content.
    Damaged,
    /// Anything else: away, slow, broken.
    Unavailable,
}

impl FaultKind {
    /// One word, for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Denied => "denied",
            Self::Damaged => "damaged",
            Self::Unavailable => "unavailable",
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "the store is full",
            Self::Denied => "the store refuses access",
            Self::Damaged => "the store does not hold what it should",
            Self::Unavailable => "the store does not answer as it should",
        })
    }
}

impl StorageError {
    pub(crate) fn from_opendal(operation: &'static str, key: &str, error: opendal::Error) -> Self {
        Self { operation, key: key.to_owned(), kind: kind_of(&error), cause: Arc::new(error) }
    }

    /// Something that is there is not what a fact says of it.
    pub(crate) fn damaged(operation: &'static str, key: &str, what: impl Into<String>) -> Self {
        let cause = io::Error::new(io::ErrorKind::InvalidData, what.into());
        Self { operation, key: key.to_owned(), kind: FaultKind::Damaged, cause: Arc::new(cause) }
    }

    /// Makes the error of a listing of which nothing can be believed.
    pub(super) fn unordered(prefix: &str, what: String) -> Self {
        let cause = io::Error::new(io::ErrorKind::InvalidData, what);
        Self { operation: "list", key: prefix.to_owned(), kind: FaultKind::Unavailable, cause: Arc::new(cause) }
    }
}

fn kind_of(error: &opendal::Error) -> FaultKind {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
                return FaultKind::Full;
            }
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => return FaultKind::Denied,
            _ => source = cause.source(),
        }
    }
    match error.kind() {
        opendal::ErrorKind::PermissionDenied => FaultKind::Denied,
        opendal::ErrorKind::NotFound | opendal::ErrorKind::RangeNotSatisfied => FaultKind::Damaged,
        _ => FaultKind::Unavailable,
    }
}
