//! Reads and writes the headers that several handlers share.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    oci::{Digest, Name},
    registry::UploadStatus,
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
