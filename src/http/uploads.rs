//! Handles uploads: end-4, end-5, end-6, end-11, end-13 and end-14 of the specification's table.

use std::{sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tracing::Instrument as _;

use super::{
    authorize,
    body::Body,
    call::Call,
    failure::Failure,
    headers::{CONTENT_DIGEST, digest_header, upload_location, upload_range},
    limits::Slot,
    open_uploads::{InUse, Place, Reserved},
};
use crate::{
    action::{Action, Upload},
    oci::{Algorithm, Digest, ErrorCode, Name, range::ContentRange},
    registry::{Actor, Chunk, Error, UploadStatus},
};

/// The most uploads that one request looks at in the store to find one that gives way.
const LOOKS: usize = 16;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Returns an answer with the extent of an upload.
fn progress(code: StatusCode, name: &Name, status: &UploadStatus) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, upload_location(name, status));
    headers.insert(header::RANGE, upload_range(status.offset));
    if let Ok(id) = HeaderValue::from_str(&status.id.to_string()) {
        headers.insert(UPLOAD_UUID, id);
    }
    response
}

/// Returns 201 for a blob.
fn created(name: &Name, digest: &Digest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    let location = format!("/v2/{name}/blobs/{digest}");
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/v2/")));
    headers.insert(CONTENT_DIGEST, digest_header(digest));
    response
}

/// Returns true if a `POST` with a digest has the blob as its body. Without a body the digest tells the empty blob from a
/// client that begins an upload and ignores this way.
pub(super) fn has_body(call: &Call<'_>) -> bool {
    let empty = |digest: &str| {
        let of_nothing = |algorithm| Digest::of(algorithm, b"").to_string();
        digest == of_nothing(Algorithm::Sha256) || digest == of_nothing(Algorithm::Sha512)
    };
    call.body.length() != Some(0)
        || call.parts.uri.query().is_some_and(|query| {
            let query = percent_encoding::percent_decode_str(query).decode_utf8_lossy().into_owned();
            query.split('&').filter_map(|pair| pair.strip_prefix("digest=")).any(empty)
        })
}

/// Finds the owner of an action's upload, before policy decides: in memory, or in the store if a rule asks for the owner. So
/// a stranger whom policy refuses costs no request to the store. Returns true if the owner was found.
pub(super) async fn find_owner(call: &Call<'_>, action: &mut Action) -> Result<bool, Failure> {
    let target = action.target();
    let (Some(name), Some((upload, _))) = (target.name, target.upload) else { return Ok(true) };
    let registry = &call.service.registry;
    let owner = match registry.uploads.remembered_owner(name, &upload.id) {
        Some(owner) => owner,
        None if call.snapshot.policy().asks_for_upload_owner(name) => {
            match registry.uploads.owner(name, &upload.id).await {
                Ok(owner) => owner,
                // the handler answers 404, after policy has allowed the action
                Err(Error::UploadUnknown(_)) => return Ok(false),
                Err(error) => return Err(Failure::about(name, error)),
            }
        }
        None => {
            call.decisions.without_upload_owner();
            return Ok(false);
        }
    };
    action.set_upload_owner(&owner);
    Ok(true)
}

/// Returns 404 for every identity but the upload's owner. `known` is true if the action has its owner.
pub(super) async fn check_owner(call: &Call<'_>, action: &Action, known: bool) -> Result<(), Failure> {
    let target = action.target();
    let (Some(name), Some((upload, owner))) = (target.name, target.upload) else { return Ok(()) };
    let mut owner = owner.to_owned();
    if !known {
        let read = call.service.registry.uploads.owner(name, &upload.id).await;
        owner = read.map_err(|error| Failure::about(name, error))?;
        call.decisions.add_upload_owner(&owner);
    }
    if call.caller.effective_identity(action).0.upload_owner() == owner {
        return Ok(());
    }
    Err(Failure::about(name, Error::UploadUnknown(upload.id.clone())))
}

/// Answers a `POST` that begins an upload.
pub(super) async fn start(call: &Call<'_>, name: &Name, algorithm: Algorithm) -> Result<Response<Body>, Failure> {
    let action = Action::StartUpload { name: name.clone(), digest: None, algorithm };
    let owner = call.caller.effective_identity(&action).0.upload_owner();
    let place = place(call, name).await?;
    let (registry, repository, by) = (Arc::clone(&call.service.registry), name.clone(), call.by());
    // a task of its own: an upload counts although its client leaves before the answer
    let begins = tokio::spawn(
        async move {
            let status = registry.uploads.start(&repository, algorithm, &owner, &by).await?;
            place.begun(&status);
            Ok::<_, Error>(status)
        }
        .in_current_span(),
    );
    let broken_off =
        |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, "the server is stopping");
    let status = begins.await.map_err(broken_off)??;
    Ok(progress(StatusCode::ACCEPTED, name, &status))
}

/// Takes the place of one more upload, if need be that of an upload that has been silent for `server.query_timeout`.
async fn place(call: &Call<'_>, name: &Name) -> Result<Place, Failure> {
    let (service, silence) = (call.service, call.snapshot.config().server.query_timeout);
    let mut looks = 0;
    let full = loop {
        match service.uploads.reserve(call.holder.client, name, silence, Instant::now()) {
            Reserved::Place(place) => return Ok(place),
            Reserved::Silent(silent, _) if looks < LOOKS => end_silent(call, &silent).await?,
            Reserved::Silent(_, full) | Reserved::Full(full) => break full,
        }
        looks += 1;
    };
    service.metrics.record_rejected("too-many-uploads");
    Err(full.into())
}

/// Ends an upload, unless the store has a newer state of it than this process saw: then it was not silent.
async fn end_silent(call: &Call<'_>, silent: &InUse) -> Result<(), Failure> {
    let Some((id, name, state)) = silent.upload() else { return Ok(()) };
    if let Some(newer) = call.service.registry.uploads.cancel_in_state(&name, &id, state).await? {
        silent.stands_at(newer);
    } else {
        silent.is_over();
        call.service.metrics.record_given_up("uploads");
    }
    Ok(())
}

/// Notes what a request learned of an upload: the number of its state, or none if the upload is over.
fn note<T>(upload: &InUse, outcome: &Result<T, Error>, state: impl Fn(&T) -> Option<u32>) {
    match outcome.as_ref().map(state) {
        Ok(Some(state)) | Err(&Error::OutOfOrder { state, .. }) => upload.stands_at(state),
        Ok(None) | Err(Error::UploadUnknown(_)) => upload.is_over(),
        Err(_) => {}
    }
}

/// Answers a `POST` with the whole blob.
pub(super) async fn put_at_once(
    call: Call<'_>,
    slot: &Slot,
    name: &Name,
    digest: &Digest,
) -> Result<Response<Body>, Failure> {
    let registry = &call.service.registry;
    let (chunk, by) = chunk(call, slot)?;
    registry.uploads.put_blob(name, digest, chunk, &by).await?;
    Ok(created(name, digest))
}

/// Answers a `POST` that asks for a blob of another repository. Begins an upload if no such blob is found.
pub(super) async fn mount(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    from: Option<&Name>,
) -> Result<Response<Body>, Failure> {
    let registry = &call.service.registry;
    // reading from the other repository needs a permit of its own
    let may_pull = |from: &Name| {
        let read = Action::GetBlob { name: from.clone(), digest: *digest, head: false };
        call.authorize_other(read)
    };
    if registry.blobs.mount(name, digest, from, may_pull, &call.by()).await?.is_some() {
        return Ok(created(name, digest));
    }
    // policy decides this upload like any other
    let algorithm = digest.algorithm();
    authorize::authorize(call, Action::StartUpload { name: name.clone(), digest: None, algorithm })?;
    start(call, name, algorithm).await
}

/// Answers `GET` of an upload with its extent.
pub(super) async fn status(call: &Call<'_>, name: &Name, upload: &Upload) -> Result<Response<Body>, Failure> {
    let in_use = call.service.uploads.work_on(call.holder.client, name, &upload.id);
    let status = call.service.registry.uploads.status(name, upload).await;
    note(&in_use, &status, |status| Some(status.state));
    let status = status?;
    Ok(progress(StatusCode::NO_CONTENT, name, &status))
}

/// Answers `PATCH`: a chunk.
pub(super) async fn update(
    call: Call<'_>,
    slot: &Slot,
    name: &Name,
    upload: &Upload,
) -> Result<Response<Body>, Failure> {
    let registry = &call.service.registry;
    let in_use = call.service.uploads.work_on(call.holder.client, name, &upload.id);
    let (chunk, _) = chunk(call, slot)?;
    let status = registry.uploads.append(name, upload, chunk).await;
    note(&in_use, &status, |status| Some(status.state));
    let status = status.map_err(|error| Failure::about(name, error))?;
    Ok(progress(StatusCode::ACCEPTED, name, &status))
}

/// Answers `PUT`: the end of an upload, perhaps with a last chunk.
pub(super) async fn complete(
    call: Call<'_>,
    slot: &Slot,
    name: &Name,
    upload: &Upload,
    digest: &Digest,
) -> Result<Response<Body>, Failure> {
    let registry = &call.service.registry;
    let in_use = call.service.uploads.work_on(call.holder.client, name, &upload.id);
    let (chunk, by) = chunk(call, slot)?;
    let done = registry.uploads.complete(name, upload, digest, chunk, &by).await;
    note(&in_use, &done, |_| None);
    done.map_err(|error| Failure::about(name, error))?;
    Ok(created(name, digest))
}

/// Answers `DELETE`: the client cancels the upload.
pub(super) async fn cancel(call: &Call<'_>, name: &Name, upload: &Upload) -> Result<Response<Body>, Failure> {
    let in_use = call.service.uploads.work_on(call.holder.client, name, &upload.id);
    let done = call.service.registry.uploads.cancel(name, upload).await;
    note(&in_use, &done, |()| None);
    done.map_err(|error| Failure::about(name, error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Returns the request's body as a chunk of an upload.
fn chunk(call: Call<'_>, slot: &Slot) -> Result<(Chunk, Actor), Failure> {
    let range = match call.parts.headers.get(header::CONTENT_RANGE) {
        None => None,
        Some(range) => {
            let parsed = range.to_str().ok().and_then(|range| range.parse::<ContentRange>().ok());
            let message = "Content-Range is written <first>-<last>, both inclusive, for example 0-1023";
            Some(parsed.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid, message))?)
        }
    };
    let length = call.body.length();
    // a final PUT of no bytes may still carry a range, of the chunk before it
    let range = if length == Some(0) { None } else { range };
    let by = call.by();
    let body = call.body.into_stream(&call.service.limits, &call.holder, slot, &call.clock)?;
    let clock = call.clock;
    let progress = Arc::new(move || clock.start());
    Ok((Chunk { range, length, body, progress }, by))
}
