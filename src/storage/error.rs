//! Defines the errors of storage. Absence is an answer, not an error.

use std::{io, sync::Arc};

/// A failed storage operation. It is cheap to clone, since several requests may wait for one operation.
#[derive(Clone, Debug, thiserror::Error)]
#[error("storage could not {operation} {key:?}: {kind}: {}", in_one_line(cause.as_ref()))]
pub struct StorageError {
    /// The operation that failed.
    pub operation: &'static str,
    /// The key or prefix.
    pub key: String,
    /// The kind of the fault.
    pub kind: FaultKind,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

/// The kind of fault of a storage error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no space left, or a quota is used up.
    Full,
    /// The store refuses the credentials, or the operating system refuses access.
    Denied,
    /// An object that a record promises is missing, or has another length or content.
    Damaged,
    /// Any other fault, such as a store that does not answer, is slow, or is broken.
    Unavailable,
}

impl FaultKind {
    /// Returns one word for metrics.
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
        // the library tells much, and of its own parts: this is for whoever looks into the library
        tracing::debug!(operation, key, %error, "storage failed");
        Self { operation, key: key.to_owned(), kind: kind_of(operation, &error), cause: Arc::new(error) }
    }

    /// Returns the error of an object that contradicts its record, or that is missing although something promises it.
    pub(crate) fn damaged(operation: &'static str, key: &str, what: impl Into<String>) -> Self {
        let cause = io::Error::new(io::ErrorKind::InvalidData, what.into());
        Self { operation, key: key.to_owned(), kind: FaultKind::Damaged, cause: Arc::new(cause) }
    }

    /// Returns the error of a listing that cannot be trusted.
    pub(super) fn unordered(prefix: &str, what: String) -> Self {
        let cause = io::Error::new(io::ErrorKind::InvalidData, what);
        Self { operation: "list", key: prefix.to_owned(), kind: FaultKind::Unavailable, cause: Arc::new(cause) }
    }
}

/// Returns the innermost cause of an error, in one line: the words of the system or of the server.
fn in_one_line(cause: &(dyn std::error::Error + 'static)) -> String {
    const LONGEST: usize = 300;
    let mut innermost = cause;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = match innermost.downcast_ref::<opendal::Error>() {
        Some(error) => error.message().to_owned(),
        None => innermost.to_string(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(LONGEST).collect()
}

/// Returns the kind of a fault. Only a read can find that something is missing: a write that is told so met a multipart
/// upload or a bucket that is gone.
fn kind_of(operation: &str, error: &opendal::Error) -> FaultKind {
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
        opendal::ErrorKind::NotFound | opendal::ErrorKind::RangeNotSatisfied if operation == "read" => {
            FaultKind::Damaged
        }
        _ => FaultKind::Unavailable,
    }
}
