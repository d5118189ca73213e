//! Parses the operation of a request, once, from method and URI.
//!
//! The code splits the path by hand, from the right: a repository name has slashes and may contain the very words
//! behind it (`a/blobs/uploads/blobs/sha256:...` is a blob of the repository `a/blobs/uploads`).

mod query;
#[cfg(test)]
pub(crate) mod seeded;
mod upload;

use std::borrow::Cow;

use self::query::{Query, decode};
pub use self::{
    query::MAX_TAGS,
    upload::{Upload, UploadId},
};
use crate::oci::{
    Algorithm, Digest, Name, Reference, Tag, digest::DigestError, name::NameError, reference::ReferenceError,
    reference::TagError,
};

/// A page of a list: at most `n` entries that sort after `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Entries wanted; the whole list, in pages of the server's size, where nothing is said.
    pub n: Option<usize>,
    /// The entry after which the page begins.
    pub last: Option<T>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { n: None, last: None }
    }
}

/// One operation of the API, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names say it")]
pub enum Action {
    GetApiVersion,
    /// `/metrics`, where the address that it came to answers it.
    GetMetrics,
    ListCatalog {
        page: Page<Name>,
    },
    ListTags {
        name: Name,
        page: Page<Tag>,
    },
    /// The history of a tag; pages are by ordinal.
    GetTagHistory {
        name: Name,
        tag: Tag,
        page: Page<u64>,
    },
    GetManifest {
        name: Name,
        reference: Reference,
        head: bool,
    },
    PutManifest {
        name: Name,
        reference: Reference,
        tags: Vec<Tag>,
    },
    DeleteManifest {
        name: Name,
        reference: Reference,
    },
    GetReferrers {
        name: Name,
        digest: Digest,
        artifact_type: Option<String>,
        page: Page<Digest>,
    },
    GetBlob {
        name: Name,
        digest: Digest,
        head: bool,
    },
    DeleteBlob {
        name: Name,
        digest: Digest,
    },
    StartUpload {
        name: Name,
        digest: Option<Digest>,
        algorithm: Algorithm,
    },
    MountBlob {
        name: Name,
        digest: Digest,
        from: Option<Name>,
    },
    GetUpload {
        name: Name,
        upload: Upload,
        owner: Box<str>,
    },
    UpdateUpload {
        name: Name,
        upload: Upload,
        owner: Box<str>,
    },
    CompleteUpload {
        name: Name,
        upload: Upload,
        digest: Digest,
        owner: Box<str>,
    },
    CancelUpload {
        name: Name,
        upload: Upload,
        owner: Box<str>,
    },
}

/// The kind of an action, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads content.
    Pull,
    /// Adds content.
    Push,
    /// Removes content.
    Delete,
    /// Reads names of things.
    List,
    /// Looks at the registry itself.
    Admin,
}

/// Why a request is not an action of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// No path of the API.
    #[error("no such path; the API begins at /v2/")]
    NotFound,
    /// A path of the API with a method that it does not have.
    #[error("{method} is not a method of this path; it has {allow}")]
    Method {
        /// The method that was used.
        method: String,
        /// Those that exist, as in an `Allow` header.
        allow: &'static str,
    },
    /// The repository's name.
    #[error("the repository name is not valid: {0}")]
    Name(#[from] NameError),
    /// A digest, in the path or a parameter.
    #[error("the digest is not valid: {0}")]
    Digest(#[from] DigestError),
    /// A tag.
    #[error("the tag is not valid: {0}")]
    Tag(#[from] TagError),
    /// An upload's id.
    #[error("an upload's id is the UUID of the location that the registry gave")]
    UploadId,
    /// A query parameter with an impossible value.
    #[error("the query parameter {name} is not valid: {rule}")]
    Query {
        /// The parameter.
        name: &'static str,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A percent sign that begins no escape, or bytes that are not UTF-8.
    #[error("the path or query is not UTF-8 after percent-decoding")]
    Encoding,
}

impl From<ReferenceError> for ActionError {
    fn from(error: ReferenceError) -> Self {
        match error {
            ReferenceError::Digest(error) => Self::Digest(error),
            ReferenceError::Tag(error) => Self::Tag(error),
        }
    }
}

impl Action {
    /// Returns the action's name in policies, records, logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::GetApiVersion => "get-api-version",
            Self::GetMetrics => "get-metrics",
            Self::ListCatalog { .. } => "list-catalog",
            Self::ListTags { .. } => "list-tags",
            Self::GetTagHistory { .. } => "get-tag-history",
            Self::GetManifest { .. } => "get-manifest",
            Self::PutManifest { .. } => "put-manifest",
            Self::DeleteManifest { .. } => "delete-manifest",
            Self::GetReferrers { .. } => "get-referrers",
            Self::GetBlob { .. } => "get-blob",
            Self::DeleteBlob { .. } => "delete-blob",
            Self::StartUpload { .. } => "start-upload",
            Self::MountBlob { .. } => "mount-blob",
            Self::GetUpload { .. } => "get-upload",
            Self::UpdateUpload { .. } => "update-upload",
            Self::CompleteUpload { .. } => "complete-upload",
            Self::CancelUpload { .. } => "cancel-upload",
        }
    }

    /// Returns the kind of the action.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self {
            Self::GetApiVersion | Self::GetManifest { .. } | Self::GetReferrers { .. } | Self::GetBlob { .. } => {
                Access::Pull
            }
            Self::ListCatalog { .. } | Self::ListTags { .. } | Self::GetTagHistory { .. } => Access::List,
            Self::GetMetrics => Access::Admin,
            Self::DeleteManifest { .. } | Self::DeleteBlob { .. } => Access::Delete,
            Self::PutManifest { .. }
            | Self::StartUpload { .. }
            | Self::MountBlob { .. }
            | Self::GetUpload { .. }
            | Self::UpdateUpload { .. }
            | Self::CompleteUpload { .. }
            | Self::CancelUpload { .. } => Access::Push,
        }
    }

    /// Returns the repository in the path, if there is one.
    #[must_use]
    pub const fn name(&self) -> Option<&Name> {
        match self {
            Self::GetApiVersion | Self::GetMetrics | Self::ListCatalog { .. } => None,
            Self::ListTags { name, .. }
            | Self::GetTagHistory { name, .. }
            | Self::GetManifest { name, .. }
            | Self::PutManifest { name, .. }
            | Self::DeleteManifest { name, .. }
            | Self::GetReferrers { name, .. }
            | Self::GetBlob { name, .. }
            | Self::DeleteBlob { name, .. }
            | Self::StartUpload { name, .. }
            | Self::MountBlob { name, .. }
            | Self::GetUpload { name, .. }
            | Self::UpdateUpload { name, .. }
            | Self::CompleteUpload { name, .. }
            | Self::CancelUpload { name, .. } => Some(name),
        }
    }

    /// Reads a request line: `method`, and `path` and `query` as they came, percent-encoded.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, ActionError> {
        let path = decode(path)?;
        let rest = path.strip_prefix("/v2").ok_or(ActionError::NotFound)?;
        let query = Query(query.unwrap_or_default());
        let head = method == "HEAD";
        let wrong = |allow| Err(ActionError::Method { method: method.chars().take(20).collect(), allow });
        if matches!(rest, "" | "/") {
            return if matches!(method, "GET" | "HEAD") { Ok(Self::GetApiVersion) } else { wrong("GET, HEAD") };
        }
        let rest = rest.strip_prefix('/').ok_or(ActionError::NotFound)?;
        if rest == "_catalog" {
            return match method {
                "GET" | "HEAD" => Ok(Self::ListCatalog { page: query.page(|last| Ok(last.parse()?))? }),
                _ => wrong("GET, HEAD"),
            };
        }
        let (front, last) = rest.rsplit_once('/').ok_or(ActionError::NotFound)?;
        if let Some(name) = front.strip_suffix("/tags").filter(|_| last == "list") {
            let name = name.parse()?;
            return match method {
                "GET" | "HEAD" => Ok(Self::ListTags { name, page: query.page(|last| Ok(last.parse()?))? }),
                _ => wrong("GET, HEAD"),
            };
        }
        if let Some(name) = front.strip_suffix("/manifests") {
            let (name, reference) = (name.parse()?, last.parse()?);
            return match method {
                "GET" | "HEAD" => Ok(Self::GetManifest { name, reference, head }),
                "PUT" => Ok(Self::PutManifest { name, reference, tags: query.tags()? }),
                "DELETE" => Ok(Self::DeleteManifest { name, reference }),
                _ => wrong("GET, HEAD, PUT, DELETE"),
            };
        }
        if let Some(name) = front.strip_suffix("/referrers") {
            let (name, digest) = (name.parse()?, last.parse()?);
            return match method {
                "GET" | "HEAD" => Ok(Self::GetReferrers {
                    name,
                    digest,
                    artifact_type: query.get("artifactType")?.map(Cow::into_owned),
                    page: query.page(|last| Ok(last.parse()?))?,
                }),
                _ => wrong("GET, HEAD"),
            };
        }
        // behind manifests: of the repository a/tags, `manifests/history` is a manifest
        if let Some((name, tag)) =
            front.rsplit_once("/tags/").filter(|(_, tag)| last == "history" && !tag.contains('/'))
        {
            let (name, tag) = (name.parse()?, tag.parse()?);
            let rule = "it is an ordinal of the history, written in decimal digits";
            let ordinal = |last: &str| last.parse().map_err(|_| ActionError::Query { name: "last", rule });
            return match method {
                "GET" | "HEAD" => Ok(Self::GetTagHistory { name, tag, page: query.page(ordinal)? }),
                _ => wrong("GET, HEAD"),
            };
        }
        Self::parse_uploads(method, front, last, &query).unwrap_or_else(|| {
            let Some(name) = front.strip_suffix("/blobs") else { return Err(ActionError::NotFound) };
            let (name, digest) = (name.parse()?, last.parse()?);
            match method {
                "GET" | "HEAD" => Ok(Self::GetBlob { name, digest, head }),
                "DELETE" => Ok(Self::DeleteBlob { name, digest }),
                _ => wrong("GET, HEAD, DELETE"),
            }
        })
    }

    fn parse_uploads(method: &str, front: &str, last: &str, query: &Query<'_>) -> Option<Result<Self, ActionError>> {
        let wrong = |allow| Err(ActionError::Method { method: method.chars().take(20).collect(), allow });
        // /v2/<name>/blobs/uploads, with or without a slash behind it
        let start = if last.is_empty() { front.strip_suffix("/blobs/uploads") } else { None };
        if let Some(name) = start.or_else(|| front.strip_suffix("/blobs").filter(|_| last == "uploads")) {
            return Some(if method == "POST" { Self::parse_start(name, query) } else { wrong("POST") });
        }
        let name = front.strip_suffix("/blobs/uploads")?;
        let parse = || {
            let name = name.parse()?;
            let upload = Upload { id: last.parse()?, state: query.get("state")?.and_then(|state| state.parse().ok()) };
            let owner = Box::default();
            match method {
                "GET" | "HEAD" => Ok(Self::GetUpload { name, upload, owner }),
                "PATCH" => Ok(Self::UpdateUpload { name, upload, owner }),
                "PUT" => {
                    let rule = "the final PUT names the whole blob's digest";
                    let digest = query.get("digest")?.ok_or(ActionError::Query { name: "digest", rule })?.parse()?;
                    Ok(Self::CompleteUpload { name, upload, digest, owner })
                }
                "DELETE" => Ok(Self::CancelUpload { name, upload, owner }),
                _ => wrong("GET, HEAD, PATCH, PUT, DELETE"),
            }
        };
        Some(parse())
    }

    fn parse_start(name: &str, query: &Query<'_>) -> Result<Self, ActionError> {
        let name = name.parse()?;
        if let Some(digest) = query.get("mount")? {
            let from = query.get("from")?.filter(|from| !from.is_empty()).map(|from| from.parse()).transpose()?;
            return Ok(Self::MountBlob { name, digest: digest.parse()?, from });
        }
        let digest = query.get("digest")?.map(|digest| digest.parse::<Digest>()).transpose()?;
        let algorithm = match (query.get("digest-algorithm")?, &digest) {
            (Some(algorithm), _) => algorithm.parse()?,
            (None, Some(digest)) => digest.algorithm(),
            (None, None) => Algorithm::Sha256,
        };
        Ok(Self::StartUpload { name, digest, algorithm })
    }
}

#[cfg(test)]
mod tests;
