//! The reasons why a cache gives no answer.

use std::sync::Arc;

use super::held::Held;
use crate::{
    oci::{Digest, Name},
    registry,
    storage::StorageError,
    upstream::Unanswered,
};

/// The reason why a cache gives no answer. It is cheap to clone, since several clients may wait for one answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The registry.
    #[error(transparent)]
    Registry(Arc<registry::Error>),
    /// No upstream has it, or none answered.
    #[error("{name} has no {what} here, and its upstreams do not give it: {unanswered}")]
    Unanswered {
        /// The repository.
        name: Name,
        /// The thing that was asked for, in words.
        what: Arc<str>,
        /// The upstreams' answers.
        unanswered: Arc<Unanswered>,
    },
    /// A manifest is younger than the cooldown of its repository.
    #[error("{0}")]
    Held(Box<Held>),
    /// The bytes of a whole download have another digest.
    #[error("{upstream} sent bytes for {expected} that have another digest; they are not kept")]
    WrongDigest {
        /// The upstream that sent the last of them.
        upstream: Arc<str>,
        /// The digest that was asked for.
        expected: Digest,
    },
    /// The client has too many downloads and questions under way.
    #[error("this client has too many downloads and questions to upstreams under way; try again in a moment")]
    Busy,
    /// A download that did not come to its end.
    #[error("the download was not finished: {0}; pull again")]
    Unfinished(String),
}

/// A result of a cache.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Held> for Error {
    fn from(held: Held) -> Self {
        Self::Held(Box::new(held))
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Arc::new(error))
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        registry::Error::from(error).into()
    }
}
