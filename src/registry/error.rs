//! Errors of the registry, in its own words: no status codes here.

use crate::{
    action::UploadId,
    oci::{Digest, Name, Reference, Tag, manifest::ManifestError},
    storage::{FaultKind, StorageError},
    telemetry::counted,
};

/// The reason why an operation was not done.
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
        /// The tag or digest that was asked for.
        reference: Reference,
    },
    /// The repository does not exist.
    #[error("there is no repository {0}; it begins to exist with the first manifest pushed to it")]
    NameUnknown(Name),
    /// The upload does not exist, or it is over.
    #[error("there is no upload {0}; it was completed, cancelled or expired, so begin a new one")]
    UploadUnknown(UploadId),
    /// A chunk that does not begin at the end of the upload, or that came second.
    #[error("the upload stands at byte {offset}; send the bytes from there on")]
    OutOfOrder {
        /// The upload.
        id: UploadId,
        /// The number of bytes that the upload has.
        offset: u64,
        /// The number of its state.
        state: u32,
    },
    /// The bytes have another digest than the client named.
    #[error("the bytes received have the digest {computed}, not {expected}; nothing was stored")]
    DigestMismatch {
        /// The digest that the client named.
        expected: Box<Digest>,
        /// The digest of the bytes.
        computed: Box<Digest>,
    },
    /// The body has fewer or more bytes than announced.
    #[error("{} of the body received, where Content-Length or Content-Range announced {announced}", counted(*received, "byte"))]
    SizeMismatch {
        /// The length from `Content-Range` or `Content-Length`, in bytes.
        announced: u64,
        /// The length of the body, in bytes.
        received: u64,
    },
    /// A body above the size limit.
    #[error("the {what} is larger than the limit of {}", counted(*limit, "byte"))]
    TooLarge {
        /// The kind of content: `blob` or `manifest`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// An upload with too many chunks.
    #[error("an upload has at most {limit} chunks; begin a new one and send larger chunks")]
    TooManyChunks {
        /// The largest number of chunks.
        limit: u32,
    },
    /// The client broke off the body, or stopped sending.
    #[error("the request's body could not be taken: {0}")]
    Body(#[from] super::BodyError),
    /// The bytes are not a valid manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// A descriptor with another size than its content has.
    #[error("the manifest says that {digest} has {}; it has {found}", counted(*said, "byte"))]
    DescriptorSize {
        /// The content.
        digest: Digest,
        /// The size in the descriptor, in bytes.
        said: u64,
        /// The size in the store, in bytes.
        found: u64,
    },
    /// A manifest that names content that the repository does not have.
    #[error(
        "the manifest names {}, and {name} does not have {}; push {} first",
        some(missing),
        them(missing),
        them(missing)
    )]
    Missing {
        /// The repository.
        name: Name,
        /// All missing digests, in the order of the manifest.
        missing: Vec<Digest>,
    },
    /// A delete of content that an existing manifest needs.
    #[error("{digest} is needed by {}{}; delete that first", needed_by[0], if needed_by.len() > 1 { " and others" } else { "" })]
    Needed {
        /// The digest that was not deleted.
        digest: Digest,
        /// The manifests that need it, or some of them; never empty.
        needed_by: Vec<Digest>,
    },
    /// A write whose condition does not hold.
    #[error(
        "{reference} of {name} {}, and the request's If-Match or If-None-Match does not allow that; read it again",
        digest.as_ref().map_or_else(|| "does not exist".to_owned(), |digest| format!("is {digest}"))
    )]
    Condition {
        /// The repository.
        name: Name,
        /// The tag or digest.
        reference: Reference,
        /// The manifest that it means.
        digest: Option<Box<Digest>>,
    },
    /// A push that would give an immutable tag another meaning.
    #[error("tag {tag} of {name} is immutable and means {digest}; push under another tag")]
    TagImmutable {
        /// The repository.
        name: Name,
        /// The tag.
        tag: Tag,
        /// The manifest that the tag keeps.
        digest: Digest,
    },
    /// A delete of an immutable tag, or of the manifest that it means.
    #[error("tag {tag} of {name} is immutable and means {digest}; neither can be deleted, unless allow_delete is set")]
    TagKept {
        /// The repository.
        name: Name,
        /// The tag.
        tag: Tag,
        /// The manifest that the tag means.
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
    /// A restore of something that cannot be restored.
    #[error("{what} cannot be brought back in {name}: {why}")]
    GoneForGood {
        /// The repository.
        name: Name,
        /// The tag, manifest or blob, in words.
        what: String,
        /// The reason: what is missing.
        why: String,
    },
    /// The operation took so long that what it relied on may be out of date.
    #[error("the operation took too long to be sure of its outcome; try again")]
    TooSlow,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Names some digests, and how many there are beside them.
fn some(digests: &[Digest]) -> String {
    const MOST: usize = 5;
    let named: Vec<String> = digests.iter().take(MOST).map(ToString::to_string).collect();
    match digests.len().saturating_sub(MOST) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

const fn them(digests: &[Digest]) -> &'static str {
    if digests.len() == 1 { "it" } else { "them" }
}

/// A result of the registry.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn blob_unknown(name: &Name, digest: &Digest) -> Self {
        Self::BlobUnknown { name: name.clone(), digest: *digest }
    }

    pub(super) fn gone(name: &Name, what: String, why: &str) -> Self {
        Self::GoneForGood { name: name.clone(), what, why: why.to_owned() }
    }

    pub(crate) fn manifest_unknown(name: &Name, reference: Reference) -> Self {
        Self::ManifestUnknown { name: name.clone(), reference }
    }

    pub(super) fn tag_immutable(name: &Name, tag: &Tag, digest: Digest) -> Self {
        Self::TagImmutable { name: name.clone(), tag: tag.clone(), digest }
    }

    /// Returns whether an object in the store is damaged. No retry helps then.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind == FaultKind::Damaged)
    }
}
