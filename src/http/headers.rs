//! Reads and writes the headers that several handlers share.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    oci::{Digest, Name},
    registry::{Condition, Meanings, UploadStatus},
};

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Returns a digest as a header's value.
pub(super) fn digest_header(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&digest.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// Returns true if `If-None-Match` names this entity (RFC 9110 section 13.1.2: a weak comparison).
pub(super) fn matches_etag(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let condition = headers.get(header::IF_NONE_MATCH).and_then(|condition| condition.to_str().ok());
    let Some(condition) = condition else { return false };
    let etag = etag.to_str().unwrap_or_default();
    condition.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Returns the `Location` for the next request of an upload, with the number of the state that the client learns by it.
pub(super) fn upload_location(name: &Name, status: &UploadStatus) -> HeaderValue {
    let location = format!("/v2/{name}/blobs/uploads/{}?state={}", status.id, status.state);
    HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/v2/"))
}

/// Returns the `Range` of an upload. Both ends are inclusive, so an empty upload looks like one byte.
pub(super) fn upload_range(offset: u64) -> HeaderValue {
    let range = format!("0-{}", offset.saturating_sub(1));
    HeaderValue::from_str(&range).unwrap_or(HeaderValue::from_static("0-0"))
}

/// Reads `If-Match` and `If-None-Match` of a write (RFC 9110, sections 13.1.1 and 13.1.2). An entity tag of this registry is
/// a digest in quotes; others match nothing.
pub(super) fn condition(headers: &HeaderMap) -> Condition {
    let meanings = |name: &HeaderName, weak: bool| {
        let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
        let mut tags = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
        match lines.is_empty() {
            true => None,
            false if tags.clone().any(|tag| tag == "*") => Some(Meanings::Any),
            false => {
                let strong = |tag: &'_ str| tag.strip_prefix("W/").filter(|_| weak).unwrap_or(tag).to_owned();
                let digest = |tag: &str| strong(tag).strip_prefix('"')?.strip_suffix('"')?.parse().ok();
                Some(Meanings::Of(tags.by_ref().filter_map(digest).collect()))
            }
        }
    };
    Condition { is: meanings(&header::IF_MATCH, false), is_not: meanings(&header::IF_NONE_MATCH, true) }
}
