//! Holds the table of the API's actions, and parses the action of a request from method and URI.
//!
//! Parsing, the words and variables of policies, token scopes, logs, metrics and the tests of the reference follow from
//! the table. `src/http/dispatch.rs` maps each action to its handler.

mod place;
mod query;
#[cfg(test)]
pub(crate) mod seeded;
mod table;
mod upload;

use std::borrow::Cow;

pub use self::{
    place::ReferrerPlace,
    query::MAX_TAGS,
    table::{Access, Row, Scope},
    upload::{Upload, UploadId},
};
use self::{
    query::{Query, decode},
    table::{RequestLine, actions},
};
use crate::oci::{
    Algorithm, Digest, Name, Reference, Tag, digest::DigestError, name::NameError, reference::ReferenceError,
    reference::TagError,
};

// A row: the word in policies, records, logs and metrics; the access; the methods; the path; the fields of the variant of
// `Action`, with their types and values. Below `repository`, the path begins with `/v2/<name>`, the variant has a field
// `name`, and the access gives the token scope. An argument stands behind the last slash. The query must have a parameter
// behind `?`. The first row that fits a path counts.
//
// Paths of our own are below `/v2/_` or `/v2/<name>/_`. No part of a repository name begins with `_`.
actions! {
    |request|
    registry {
        "get-api-version" Pull Scope::Any, "GET, HEAD" "/v2/" => GetApiVersion;
        "list-catalog" List Scope::Registry("catalog"), "GET, HEAD" "/v2/_catalog"
            => ListCatalog { page: Page<String> = request.page_of_names()? };
        // only an address that has metrics answers this path
        "get-metrics" Admin Scope::Registry("metrics"), "GET, HEAD" "/metrics" => GetMetrics;
    }
    repository {
        "list-tags" List "GET, HEAD" "/tags/list" "" => ListTags { page: Page<String> = request.page_of_names()? };
        "get-tag-history" List "GET, HEAD" "/_history/" "<tag>"
            => GetTagHistory { tag: Tag = request.argument()?, page: Page<u64> = request.page_of_ordinals()? };
        "get-manifest" Pull "GET, HEAD" "/manifests/" "<reference>"
            => GetManifest { reference: Reference = request.argument()?, head: bool = request.is_head };
        "put-manifest" Push "PUT" "/manifests/" "<reference>"
            => PutManifest { reference: Reference = request.argument()?, tags: Vec<Tag> = request.query.tags()? };
        "delete-manifest" Delete "DELETE" "/manifests/" "<reference>"
            => DeleteManifest { reference: Reference = request.argument()? };
        "get-referrers" Pull "GET, HEAD" "/referrers/" "<digest>"
            => GetReferrers {
                digest: Digest = request.argument()?,
                artifact_type: Option<String> = request.query.get("artifactType")?.map(Cow::into_owned),
                page: Page<ReferrerPlace> = request.page()?
            };
        "mount-blob" Push "POST" "/blobs/uploads/" "" ? "mount"
            => MountBlob { digest: Digest = request.digest("mount")?, from: Option<Name> = request.from()? };
        "start-upload" Push "POST" "/blobs/uploads/" ""
            => StartUpload { digest: Option<Digest> = request.optional("digest")?, algorithm: Algorithm = request.algorithm()? };
        "get-upload" Push "GET, HEAD" "/blobs/uploads/" "<id>"
            => GetUpload { upload: Upload = request.upload()?, owner: Box<str> = Box::default() };
        "update-upload" Push "PATCH" "/blobs/uploads/" "<id>"
            => UpdateUpload { upload: Upload = request.upload()?, owner: Box<str> = Box::default() };
        "complete-upload" Push "PUT" "/blobs/uploads/" "<id>"
            => CompleteUpload {
                upload: Upload = request.upload()?,
                digest: Digest = request.digest("digest")?,
                owner: Box<str> = Box::default()
            };
        "cancel-upload" Push "DELETE" "/blobs/uploads/" "<id>"
            => CancelUpload { upload: Upload = request.upload()?, owner: Box<str> = Box::default() };
        "get-blob" Pull "GET, HEAD" "/blobs/" "<digest>"
            => GetBlob { digest: Digest = request.argument()?, head: bool = request.is_head };
        "delete-blob" Delete "DELETE" "/blobs/" "<digest>" => DeleteBlob { digest: Digest = request.argument()? };
    }
}

/// The things that an action is about, as policies, logs and token scopes see them.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the specification's names say it")]
pub struct Target<'a> {
    pub name: Option<&'a Name>,
    pub reference: Option<&'a Reference>,
    pub tag: Option<&'a Tag>,
    pub digest: Option<&'a Digest>,
    /// The tags that a push sets beside its reference.
    pub tags: Option<&'a [Tag]>,
    /// The repository that a blob is to be mounted from.
    pub from: Option<&'a Name>,
    /// The upload and its owner. The owner is empty for an anonymous or unknown upload, and before a lookup.
    pub upload: Option<(&'a Upload, &'a str)>,
}

/// A page of a list: at most `n` entries that come after `last`. In a list of names, `last` may be any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The number of wanted entries. `None` asks for the whole list, in pages of the server's size.
    pub n: Option<usize>,
    /// The entry after which the page begins.
    pub last: Option<T>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { n: None, last: None }
    }
}

/// The most characters of a client's text in an error.
const LONGEST_TOLD: usize = 128;

/// The reason why a request is not an action of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// No path of the API.
    #[error("no such path; the API begins at /v2/")]
    NotFound,
    /// A path of the API with a method that it does not have.
    #[error("{method} is not a method of this path; it has {allow}")]
    Method {
        /// The method of the request.
        method: String,
        /// The methods of the path, as in an `Allow` header.
        allow: String,
    },
    /// The repository's name.
    #[error("the repository name {text:?} is not valid: {error}")]
    Name {
        /// The beginning of the text.
        text: String,
        /// The rule that it breaks.
        error: NameError,
    },
    /// A digest, in the path or a parameter.
    #[error("the digest {text:?} is not valid: {error}")]
    Digest {
        /// The beginning of the text.
        text: String,
        /// The rule that it breaks.
        error: DigestError,
    },
    /// A tag.
    #[error("the tag {text:?} is not valid: {error}")]
    Tag {
        /// The beginning of the text.
        text: String,
        /// The rule that it breaks.
        error: TagError,
    },
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
    /// More parameters than any request needs.
    #[error("the query has more parameters than the registry takes; at most 100 tags in one request")]
    TooManyParameters,
    /// A parameter that is longer than any valid one.
    #[error("a query parameter is longer than 8 KiB")]
    LongParameter,
    /// Bytes that are not UTF-8.
    #[error("the {0} is not UTF-8 after percent-decoding")]
    Encoding(&'static str),
}

impl ActionError {
    /// Adds the text that is not valid, or the beginning of a long one.
    pub(super) fn about(mut self, said: &str) -> Self {
        if let Self::Name { text, .. } | Self::Digest { text, .. } | Self::Tag { text, .. } = &mut self {
            *text = said.chars().take(LONGEST_TOLD).collect();
        }
        self
    }
}

impl From<NameError> for ActionError {
    fn from(error: NameError) -> Self {
        Self::Name { text: String::new(), error }
    }
}

impl From<DigestError> for ActionError {
    fn from(error: DigestError) -> Self {
        Self::Digest { text: String::new(), error }
    }
}

impl From<TagError> for ActionError {
    fn from(error: TagError) -> Self {
        Self::Tag { text: String::new(), error }
    }
}

impl From<ReferenceError> for ActionError {
    fn from(error: ReferenceError) -> Self {
        match error {
            ReferenceError::Digest(error) => error.into(),
            ReferenceError::Tag(error) => error.into(),
        }
    }
}

impl Action {
    /// Returns the action's name in policies, records, logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.row().word
    }

    /// Returns the repository in the path, if there is one.
    #[must_use]
    pub const fn name(&self) -> Option<&Name> {
        self.target().name
    }

    /// Returns the things that the action is about.
    #[must_use]
    pub const fn target(&self) -> Target<'_> {
        let none =
            Target { name: None, reference: None, tag: None, digest: None, tags: None, from: None, upload: None };
        match self {
            Self::GetApiVersion | Self::GetMetrics | Self::ListCatalog { .. } => none,
            Self::ListTags { name, .. } => Target { name: Some(name), ..none },
            Self::GetTagHistory { name, tag, .. } => Target { name: Some(name), tag: Some(tag), ..none },
            Self::GetManifest { name, reference, .. } | Self::DeleteManifest { name, reference } => {
                Target { name: Some(name), reference: Some(reference), ..none }
            }
            Self::PutManifest { name, reference, tags } => {
                Target { name: Some(name), reference: Some(reference), tags: Some(tags.as_slice()), ..none }
            }
            Self::GetReferrers { name, digest, .. }
            | Self::GetBlob { name, digest, .. }
            | Self::DeleteBlob { name, digest } => Target { name: Some(name), digest: Some(digest), ..none },
            Self::StartUpload { name, digest, .. } => Target { name: Some(name), digest: digest.as_ref(), ..none },
            Self::MountBlob { name, digest, from } => {
                Target { name: Some(name), digest: Some(digest), from: from.as_ref(), ..none }
            }
            Self::GetUpload { name, upload, owner }
            | Self::UpdateUpload { name, upload, owner }
            | Self::CancelUpload { name, upload, owner } => {
                Target { name: Some(name), upload: Some((upload, owner)), ..none }
            }
            Self::CompleteUpload { name, upload, digest, owner } => {
                Target { name: Some(name), digest: Some(digest), upload: Some((upload, owner)), ..none }
            }
        }
    }

    /// Returns true for lists, whose cost grows with what is stored.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(
            self,
            Self::ListCatalog { .. } | Self::ListTags { .. } | Self::GetTagHistory { .. } | Self::GetReferrers { .. }
        )
    }

    /// Stores the owner of an upload, for policy and for the record.
    pub fn set_upload_owner(&mut self, began: &str) {
        match self {
            Self::GetUpload { owner, .. }
            | Self::UpdateUpload { owner, .. }
            | Self::CompleteUpload { owner, .. }
            | Self::CancelUpload { owner, .. } => *owner = began.into(),
            _ => {}
        }
    }

    /// Returns the registry that a client names in a query (`ns`), which it takes this one for.
    pub fn asked_registry(query: Option<&str>) -> Result<Option<Cow<'_, str>>, ActionError> {
        Query::new(query.unwrap_or_default())?.get("ns")
    }

    /// Parses a request line: `method`, and `path` and `query` as the client sent them, percent-encoded.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, ActionError> {
        let encoded = path;
        let path = decode(encoded, "path")?;
        // outside of /v2 a path has one spelling: an address without metrics refuses that spelling
        if !path.starts_with("/v2") && path != encoded {
            return Err(ActionError::NotFound);
        }
        let (front, last) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let mut fitting = ACTIONS.iter().filter_map(|row| Some((row, row.fit(&path, front)?)));
        let (first, name) = fitting.next().ok_or(ActionError::NotFound)?;
        let mut line = RequestLine {
            name,
            argument: last,
            query: Query::new(query.unwrap_or_default())?,
            is_head: method == "HEAD",
        };
        let rows = || ACTIONS.iter().filter(|row| row.has_shape_of(first));
        for row in rows().filter(|row| row.has_method(method)) {
            match (row.parameter, (row.parse)(&line)) {
                // a parameter asks for a shortcut, and a request that cannot have the shortcut goes the long way
                (Some(name), parsed) if parsed.is_err() || !line.query.has(name) => {}
                (_, parsed) => return parsed,
            }
        }
        // a malformed name or argument is told first
        line.query = Query("");
        rows().find(|row| row.parameter.is_none()).map_or(Ok(()), |row| (row.parse)(&line).map(drop))?;
        let mut allow: Vec<&str> = rows().map(|row| row.methods).collect();
        allow.dedup();
        Err(ActionError::Method { method: method.chars().take(20).collect(), allow: allow.join(", ") })
    }
}

#[cfg(test)]
mod tests;
