//! Handles manifests: end-3, end-7 and end-9 of the specification's table.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    body::Body,
    call::Call,
    failure::Failure,
    from_cache::FromCache,
    headers::{CONTENT_DIGEST, condition, digest_header, matches_etag},
    limits::Slot,
    shares::Holder,
    tag_decisions::TagDecisions,
};
use crate::{
    action::Action,
    mirror::{self, ManifestPull, TakeMemory},
    oci::{ErrorCode, MediaType, Name, Reference, Tag},
    registry::{Error, LookAtTag, Protection, PutManifest, StoredManifest, TagDelete},
    upstream::Cached,
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Answers `GET` and `HEAD` of a manifest.
///
/// Ignores `Accept`: a registry sends the bytes of the push, and clients read the `Content-Type`.
pub(super) async fn get(
    call: &Call<'_>,
    slot: &Slot,
    name: &Name,
    reference: &Reference,
    head: bool,
) -> Result<Response<Body>, Failure> {
    let (manifest, from) = if let Some(cached) = call.snapshot.caches().of(name) {
        let (manifest, from) = Box::pin(get_from_cache(call, slot, cached, name, reference, head)).await?;
        (manifest, Some(from))
    } else {
        let manifest = call.service.registry.manifests.get(name, reference).await;
        // clients push a manifest again after a 404, and fail after a 500
        (manifest.map_err(|error| Failure::or_absent(ErrorCode::ManifestUnknown, error))?, None)
    };
    // 304 counts as a pull as well: the client is about to use the manifest
    call.service.registry.pulls.note(name, reference, &manifest.digest);
    let etag = HeaderValue::from_str(&manifest.etag).unwrap_or(HeaderValue::from_static("\"\""));
    let unchanged = matches_etag(&call.parts.headers, &etag);
    let body = if head || unchanged { Body::empty() } else { Body::whole(manifest.bytes.clone()) };
    let mut response = Response::new(body);
    if let Some(from) = from {
        from.tell(&mut response);
    }
    let headers = response.headers_mut();
    let digest = manifest.etag.trim_matches('"');
    headers.insert(CONTENT_DIGEST, HeaderValue::from_str(digest).unwrap_or(HeaderValue::from_static("")));
    headers.insert(header::ETAG, etag);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let media_type = HeaderValue::from_str(manifest.media_type.as_str());
    headers.insert(header::CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/json")));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(manifest.bytes.len()));
    Ok(response)
}

/// Finds a manifest of a cache, here or at an upstream.
async fn get_from_cache(
    call: &Call<'_>,
    slot: &Slot,
    cached: Cached,
    name: &Name,
    reference: &Reference,
    head: bool,
) -> Result<(Arc<StoredManifest>, FromCache), Failure> {
    let rule = call.snapshot.immutable_tags().of(name);
    let pull = ManifestPull {
        cached,
        name: name.clone(),
        largest: call.snapshot.config().max_manifest_size,
        memory: memory(call),
        immutable: Arc::new(move |tag| rule.covers(tag)),
        by: call.by(),
        client: call.holder.client,
    };
    let (mirror, failure) = (&call.service.mirror, |error| Failure::of_cache(ErrorCode::ManifestUnknown, error));
    let pull_of =
        |reference: &Reference| Action::GetManifest { name: name.clone(), reference: reference.clone(), head };
    let here = mirror.manifest_here(&pull, reference).await.map_err(failure)?;
    // the age of an image may need a look at many others
    let waits = here.is_none() || call.needs_second_decision();
    let _waiting = if waits { Some(call.wait_for_upstream(slot)?) } else { None };
    let exempt = |reference: &Reference, seen| call.is_exempt_from_cooldown(&pull_of(reference), seen);
    let found = match here {
        Some(hit) => Ok(hit),
        None => mirror.manifest(&pull, reference, &exempt).await,
    };
    let digest = match &found {
        Ok(answered) => Some(answered.value.digest),
        // the refusal tells the digest
        Err(mirror::Error::Held(young)) => Some(young.digest),
        Err(_) => None,
    };
    if let Some(digest) = digest.filter(|_| call.needs_second_decision()) {
        let seen = mirror.first_seen(&pull, reference, &digest).await.map_err(failure)?;
        // a refusal is final: no older manifest is given in its place
        call.authorize_image(&pull_of(reference), &digest, seen)?;
    }
    Ok(FromCache::of(found.map_err(failure)?))
}

/// Returns the way to the memory that pushed manifests have as well. Nobody takes it away: an upstream's answer is short.
fn memory(call: &Call<'_>) -> TakeMemory {
    let (limits, client) = (Arc::clone(&call.service.limits), call.holder.client);
    Arc::new(move |bytes| {
        let (limits, holder) = (Arc::clone(&limits), Holder { client, ends: None });
        Box::pin(async move { limits.document(&holder, bytes).await.ok().map(|share| Box::new(share) as Box<_>) })
    })
}

/// Answers `PUT` of a manifest.
pub(super) async fn put(
    call: Call<'_>,
    slot: &Slot,
    name: &Name,
    reference: Reference,
    tags: Vec<Tag>,
) -> Result<Response<Body>, Failure> {
    let media_type = match call.header(header::CONTENT_TYPE).map(str::parse::<MediaType>) {
        None => None,
        Some(Ok(media_type)) => Some(media_type),
        Some(Err(error)) => {
            let message = format!("the Content-Type header is not valid: {error}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, message));
        }
    };
    let by = call.by();
    let condition = condition(&call.parts.headers);
    let Call { service, snapshot, body, clock, holder, .. } = call;
    let limit = snapshot.config().max_manifest_size;
    let too_large = || Error::TooLarge { what: "manifest", limit };
    let (bytes, _memory) = body.collect(limit, too_large, &service.limits, &holder, slot, &clock).await?;
    let request = PutManifest { reference, tags, media_type, bytes };
    let rule = snapshot.immutable_tags().of(name);
    let put = service.registry.manifests.put_if(name, &request, &condition, &|tag| rule.covers(tag), &by).await;
    let put = put.map_err(|error| Failure::under(&rule, error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    let location = format!("/v2/{name}/manifests/{}", request.reference);
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/v2/")));
    headers.insert(CONTENT_DIGEST, digest_header(&put.digest));
    if let Some(subject) = &put.subject {
        headers.insert(OCI_SUBJECT, digest_header(subject));
    }
    for tag in &request.tags {
        if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
            headers.append(OCI_TAG, tag);
        }
    }
    Ok(response)
}

/// Answers `DELETE` of a manifest by digest, or of a tag.
pub(super) async fn delete(call: &Call<'_>, name: &Name, reference: &Reference) -> Result<Response<Body>, Failure> {
    let (registry, by) = (&call.service.registry, call.by());
    let rule = call.snapshot.immutable_tags().of(name);
    let done = match reference {
        Reference::Digest(digest) => {
            let decided = TagDecisions::new(call, name, digest);
            let keeps = !rule.is_none() && !rule.allow_delete();
            let look = |tag: &Tag| match (decided.may_go(tag), keeps && rule.covers(tag)) {
                (false, _) => TagDelete::Denied,
                (true, true) => TagDelete::Kept,
                (true, false) => TagDelete::Allowed,
            };
            let look: &LookAtTag<'_> = &look;
            // without a rule about tags no tag is read
            let look = (keeps || decided.are_needed()).then_some(look);
            let done = registry.manifests.delete_under(name, digest, look, &by).await;
            if let Err(Error::TagDenied { .. }) = &done
                && let Some(refused) = decided.refusal()
            {
                return Err(refused);
            }
            done
        }
        Reference::Tag(tag) => {
            let protection = match (rule.covers(tag), rule.allow_delete()) {
                (false, _) => Protection::None,
                (true, true) => Protection::Immutable,
                (true, false) => Protection::Kept,
            };
            registry.tags.delete_if(name, tag, &condition(&call.parts.headers), protection, &by).await
        }
    };
    done.map_err(|error| Failure::under(&rule, error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
