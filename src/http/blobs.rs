//! Handles blobs: end-2 and end-10 of the specification's table.

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    body::Body,
    call::Call,
    failure::Failure,
    headers::{CONTENT_DIGEST, digest_header, matches_etag},
};
use crate::{
    action::Action,
    oci::{Digest, ErrorCode, Name, range::ByteRange},
    registry::Blob,
    telemetry::counted,
};

const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// Answers `GET` and `HEAD` of a blob.
pub(super) async fn get(call: &Call<'_>, name: &Name, digest: &Digest, head: bool) -> Result<Response<Body>, Failure> {
    let registry = &call.service.registry;
    // a client that may push skips its upload after this answer, so the blob must stay
    let blob = if head && may_push(call, name) {
        registry.blobs.get_to_rely_on(name, digest, &call.by()).await?
    } else if head {
        // the same 404 for a damaged blob as above
        let blob = registry.blobs.get(name, digest).await;
        blob.map_err(|error| Failure::or_absent(ErrorCode::BlobUnknown, error))?
    } else {
        registry.blobs.get(name, digest).await?
    };
    let etag = format!("\"{digest}\"");
    let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_DIGEST, digest_header(digest));
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    if matches_etag(&call.parts.headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // ranges are defined for GET alone (RFC 9110 section 14.2)
    let range = if head { None } else { requested_range(call, &blob, &etag)? };
    if let Some(range) = &range {
        let content = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.size);
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&content).unwrap_or(RANGE_UNKNOWN));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    } else {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(blob.size));
    }
    if !head {
        let length = range.as_ref().map_or(blob.size, |range| range.end - range.start);
        let transfer = call.service.limits.transfer(&call.holder)?;
        let stream = registry.blobs.read(name, &blob, range).await?;
        *response.body_mut() = Body::stream(stream, length, transfer);
    }
    Ok(response)
}

const RANGE_UNKNOWN: HeaderValue = HeaderValue::from_static("bytes */*");

/// Returns the bytes that `Range` asks for, or `None` for the whole blob.
fn requested_range(call: &Call<'_>, blob: &Blob, etag: &HeaderValue) -> Result<Option<std::ops::Range<u64>>, Failure> {
    if call.parts.headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(None);
    }
    let Some(range) = call.header(header::RANGE).and_then(ByteRange::parse) else { return Ok(None) };
    if let Some(range) = range.within(blob.size) {
        return Ok(Some(range));
    }
    let message = format!("the range lies outside the blob, which has {}", counted(blob.size, "byte"));
    let size = HeaderValue::from_str(&format!("bytes */{}", blob.size)).unwrap_or(RANGE_UNKNOWN);
    let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::SizeInvalid, message);
    Err(failure.header(header::CONTENT_RANGE, size))
}

/// Returns true if the caller may push to a repository.
fn may_push(call: &Call<'_>, name: &Name) -> bool {
    let push = Action::StartUpload { name: name.clone(), digest: None, algorithm: crate::oci::Algorithm::Sha256 };
    call.could(push)
}

/// Answers `DELETE` of a blob.
pub(super) async fn delete(call: &Call<'_>, name: &Name, digest: &Digest) -> Result<Response<Body>, Failure> {
    call.service.registry.blobs.delete(name, digest, &call.by()).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
