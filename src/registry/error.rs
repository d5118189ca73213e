//! What can go wrong with an operation of the registry, in the registry's own words: no status codes here.

use crate::{
    action::UploadId,
    oci::{Digest, Name, Reference, Tag, manifest::ManifestError},
    storage::{FaultKind, StorageError},
    telemetry::counted,
};

/// An operation that was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository has no such blob.
    #[error("{name} has no blob {digest}")]
    BlobUnknown {
        /// The repository.
        name: Name,
        /// The blob.
        digest: Digest,
    },
    /// The repository has no such manifest.
    #[error("{name} has no manifest {reference}")]
    ManifestUnknown {
        /// The repository.
        name: Name,
        /// What was asked for.
        reference: Reference,
    },
    /// There is no such repository.
    #[error("there is no repository {0}; it begins to exist with the first manifest pushed to it")]
    NameUnknown(Name),
    /// There is no such upload, or no more.
    #[error("there is no upload {0}; it was completed, cancelled or expired, so begin a new one")]
    UploadUnknown(UploadId),
    /// A chunk that does not begin where the upload stands, or that another one came before.
    #[error("the upload stands at byte {offset}; send the bytes from there on")]
    OutOfOrder {
        /// The upload.
        id: UploadId,
        /// Bytes it has.
        offset: u64,
        /// Its state's number.
        state: u32,
    },
    /// The bytes have another digest.
    #[error("the bytes received have the digest {computed}, not {expected}; nothing was stored")]
    DigestMismatch {
        /// What the client said.
        expected: Box<Digest>,
        /// What it is.
        computed: Box<Digest>,
    },
    /// The bytes are fewer or more than announced.
    #[error("{} received where {announced} were announced", counted(*received, "byte"))]
    SizeMismatch {
        /// As in `Content-Range` or `Content-Length`.
        announced: u64,
        /// As counted.
        received: u64,
    },
    /// A body that is longer than the limit.
    #[error("the {what} is larger than the limit of {}", counted(*limit, "byte"))]
    TooLarge {
        /// `blob` or `manifest`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// An upload in too many pieces.
    #[error("an upload has at most {limit} chunks; begin a new one and send larger chunks")]
    TooManyChunks {
        /// The limit.
        limit: u32,
    },
    /// The client broke off, or fell silent.
    #[error("the request's body could not be taken: {0}")]
    Body(#[from] super::BodyError),
    /// Not a manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// A descriptor's size is not that of the content.
    #[error("the manifest says that {digest} has {}; it has {found}", counted(*said, "byte"))]
    DescriptorSize {
        /// The content.
        digest: Digest,
        /// As in the descriptor.
        said: u64,
        /// As stored.
        found: u64,
    },
    /// A manifest that names what the repository does not have.
    #[error("the manifest names {} that {name} does not have; push them first", if missing.len() == 1 { "content" } else { "contents" })]
    Missing {
        /// The repository.
        name: Name,
        /// All that is missing.
        missing: Vec<Digest>,
    },
    /// Something that stands needs what was to be deleted.
    #[error("{digest} is needed by {}{}; delete that first", needed_by[0], if needed_by.len() > 1 { " and others" } else { "" })]
    Needed {
        /// What was to be deleted.
        digest: Digest,
        /// The manifests that need it; never empty.
        needed_by: Vec<Digest>,
    },
    /// A push that would give an immutable tag another meaning.
    #[error("tag {tag} of {name} is immutable and means {digest}; push under another tag")]
    TagImmutable {
        /// The repository.
        name: Name,
        /// The tag.
        tag: Tag,
        /// What it means, and goes on meaning.
        digest: Digest,
    },
    /// A delete of an immutable tag, or of the manifest that it means.
    #[error("tag {tag} of {name} is immutable and means {digest}; neither can be deleted, unless allow_delete is set")]
    TagKept {
        /// The repository.
        name: Name,
        /// The tag.
        tag: Tag,
        /// What it means.
        digest: Digest,
    },
    /// A delete by digest of a manifest whose tag the caller may not delete.
    #[error("tag {tag} of {name} means {digest} and would go with it, and you may not delete this tag")]
    TagDenied {
        /// The repository.
        name: Name,
        /// The tag.
        tag: Tag,
        /// The digest that it means.
        digest: Digest,
    },
    /// What was to be restored, and cannot be.
    #[error("{what} cannot be brought back in {name}: {why}")]
    GoneForGood {
        /// The repository.
        name: Name,
        /// What.
        what: String,
        /// What is missing.
        why: String,
    },
    /// The operation took so long that what it relied on may not hold any more.
    #[error("the operation took too long to be sure of its outcome; try again")]
    TooSlow,
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A result of the registry.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether something in the store is not what it should be: what is wrong with it, no further try puts right.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind == FaultKind::Damaged)
    }
}
