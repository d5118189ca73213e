//! Handles blobs: end-2 and end-10 of the specification's table.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    body::Body,
    call::Call,
    failure::Failure,
    from_cache::FromCache,
    headers::{CONTENT_DIGEST, digest_header, matches_etag},
    limits::Slot,
    service::Service,
    transfer::Transfer,
};
use crate::{
    action::Action,
    mirror::{Pull, Served},
    oci::{Digest, ErrorCode, Name, range::ByteRange},
    registry::{Blob, Error},
    telemetry::counted,
    upstream::Cached,
};

const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// A blob that is about to be sent.
enum Found {
    /// It is here.
    Here(Blob),
    /// An upstream sends it. It has this size in bytes.
    Coming(Box<Pull>, u64, Transfer),
    /// An upstream has it. It has this size in bytes, if the upstream says it.
    There(Option<u64>),
}

impl Found {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Here(blob) => Some(blob.size),
            Self::Coming(_, size, _) => Some(*size),
            Self::There(size) => *size,
        }
    }
}

/// Answers `GET` and `HEAD` of a blob.
pub(super) async fn get(
    call: &Call<'_>,
    slot: &Slot,
    name: &Name,
    digest: &Digest,
    head: bool,
) -> Result<Response<Body>, Failure> {
    let (found, from) = match call.snapshot.caches().of(name) {
        Some(cached) => Box::pin(find_in_cache(call, slot, &cached, name, digest, head)).await?,
        None => (Found::Here(find(call, name, digest, head).await?), None),
    };
    let mut response = respond(call, name, digest, head, found).await?;
    if let Some(from) = from {
        from.tell(&mut response);
    }
    Ok(response)
}

/// Finds a blob of a repository that clients push to.
async fn find(call: &Call<'_>, name: &Name, digest: &Digest, head: bool) -> Result<Blob, Failure> {
    let blobs = &call.service.registry.blobs;
    // a client that may push skips its upload after this answer, so the blob must stay
    if head && may_push(call, name) {
        return Ok(blobs.get_to_rely_on(name, digest, &call.by()).await?);
    }
    let blob = blobs.get(name, digest).await;
    // the same 404 for a damaged blob as above
    if head { blob.map_err(|error| Failure::or_absent(ErrorCode::BlobUnknown, error)) } else { Ok(blob?) }
}

/// Finds a blob of a cache, here or at an upstream. A damaged one counts as absent, so that an upstream heals it.
async fn find_in_cache(
    call: &Call<'_>,
    slot: &Slot,
    cached: &Cached,
    name: &Name,
    digest: &Digest,
    head: bool,
) -> Result<(Found, Option<FromCache>), Failure> {
    let Service { registry, mirror, .. } = call.service;
    match registry.blobs.get(name, digest).await {
        Ok(blob) => return Ok((Found::Here(blob), Some(FromCache::hit()))),
        Err(Error::BlobUnknown { .. }) => {}
        Err(error) if error.is_damage() => {}
        Err(error) => return Err(error.into()),
    }
    let (transfer, client) = (call.wait_for_upstream(slot)?, call.holder.client);
    // the condition names the content, so the client needs no byte of it
    if head || matches_etag(&call.parts.headers, &etag(digest)) {
        let answer = mirror.blob_size(cached, name, digest, client).await.map_err(Failure::of_blob)?;
        let from = FromCache { served: answer.served, upstream: answer.upstream };
        return Ok((Found::There(answer.value), Some(from)));
    }
    let pull = mirror.pull(cached, name, digest, &call.by(), client).map_err(Failure::of_blob)?;
    let size = pull.size().await.map_err(Failure::of_blob)?;
    let from = FromCache { served: Served::Miss, upstream: pull.upstream() };
    Ok((Found::Coming(Box::new(pull), size, transfer), Some(from)))
}

async fn respond(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    head: bool,
    found: Found,
) -> Result<Response<Body>, Failure> {
    let etag = etag(digest);
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
    let size = found.size();
    // ranges are defined for GET alone (RFC 9110 section 14.2)
    let range = match size {
        Some(size) if !head => requested_range(call, size, &etag)?,
        _ => None,
    };
    if let (Some(range), Some(size)) = (&range, size) {
        let content = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&content).unwrap_or(RANGE_UNKNOWN));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    } else if let Some(size) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    if head {
        return Ok(response);
    }
    let registry = &call.service.registry;
    let length = range.as_ref().map_or(size.unwrap_or(0), |range| range.end - range.start);
    *response.body_mut() = match found {
        Found::Here(blob) => {
            let transfer = call.service.limits.transfer(&call.holder)?;
            Body::stream(registry.blobs.read(name, &blob, range).await?, length, transfer)
        }
        Found::Coming(pull, size, transfer) => {
            let stream = pull.read(Arc::clone(registry), range.unwrap_or(0..size));
            Body::stream(stream, length, transfer)
        }
        Found::There(_) => Body::empty(),
    };
    Ok(response)
}

/// Returns the entity tag of a blob.
fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

const RANGE_UNKNOWN: HeaderValue = HeaderValue::from_static("bytes */*");

/// Returns the bytes that `Range` asks for, or `None` for the whole blob.
fn requested_range(call: &Call<'_>, size: u64, etag: &HeaderValue) -> Result<Option<std::ops::Range<u64>>, Failure> {
    if call.parts.headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(None);
    }
    let Some(range) = call.header(header::RANGE).and_then(ByteRange::parse) else { return Ok(None) };
    if let Some(range) = range.within(size) {
        return Ok(Some(range));
    }
    let message = format!("the range lies outside the blob, which has {}", counted(size, "byte"));
    let size = HeaderValue::from_str(&format!("bytes */{size}")).unwrap_or(RANGE_UNKNOWN);
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
