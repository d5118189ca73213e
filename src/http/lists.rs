//! Lists repositories, tags, referrers and a tag's history, and answers the ping: end-1, end-8, end-12 and the catalog.

use std::fmt::Display;

use http::{HeaderName, HeaderValue, Response, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::json;

use super::{body::Body, call::Call, failure::Failure, from_cache::FromCache, limits::Slot};
use crate::{
    action::{Page, ReferrerPlace},
    oci::{Descriptor, Digest, ErrorCode, MediaType, Name, Reference, Tag},
    registry::Error,
    upstream::Cached,
};

/// The number of entries of a tag's history in one answer, unless `n` asks for another.
const HISTORY: usize = 100;
/// The most entries in one answer.
const MOST_HISTORY: usize = 1000;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Returns an answer with a text of a media type.
pub(super) fn document(media_type: &'static str, text: String) -> Response<Body> {
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Body::whole(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// Answers `GET /v2/`.
pub(super) fn api_version() -> Response<Body> {
    document("application/json", "{}".to_owned())
}

/// Adds `Link: <...>; rel="next"` (RFC 8288).
fn link(response: &mut Response<Body>, path: &str, n: Option<usize>, last: &dyn Display, more: &str) {
    let last = last.to_string();
    let last = utf8_percent_encode(&last, NON_ALPHANUMERIC);
    let n = n.map(|n| format!("&n={n}")).unwrap_or_default();
    if let Ok(link) = HeaderValue::from_str(&format!("<{path}?last={last}{n}{more}>; rel=\"next\"")) {
        response.headers_mut().insert(header::LINK, link);
    }
}

/// Answers `GET /v2/_catalog`: the repositories that the caller may list.
pub(super) async fn catalog(call: &Call<'_>, page: &Page<String>) -> Result<Response<Body>, Failure> {
    let sight = call.sight();
    let listed = call.service.registry.catalog.list(page, &sight.beginnings(), |name| sight.sees(name)).await?;
    let mut response = document("application/json", json!({ "repositories": listed.entries }).to_string());
    if let Some(last) = listed.entries.last().filter(|_| listed.more) {
        link(&mut response, "/v2/_catalog", page.n, last, "");
    }
    Ok(response)
}

/// A page of tags.
#[derive(Serialize)]
struct Tags<'a> {
    name: &'a Name,
    tags: &'a [Tag],
}

/// Answers `GET /v2/<name>/tags/list`.
pub(super) async fn tags(
    call: &Call<'_>,
    slot: &Slot,
    name: &Name,
    page: &Page<String>,
) -> Result<Response<Body>, Failure> {
    let (listed, from) = match call.snapshot.caches().of(name) {
        Some(cached) => {
            let _waiting = call.wait_for_upstream(slot)?;
            let answered = call.service.mirror.tags(&cached, name, page, call.holder.client).await;
            let (listed, from) =
                FromCache::of(answered.map_err(|error| Failure::of_cache(ErrorCode::NameUnknown, error))?);
            (listed, Some(from))
        }
        None => (call.service.registry.tags.list(name, page).await?, None),
    };
    let text = serde_json::to_string(&Tags { name: call.shown(name), tags: &listed.entries }).unwrap_or_default();
    let mut response = document("application/json", text);
    if let Some(last) = listed.entries.last().filter(|_| listed.more) {
        let path = format!("/v2/{}/tags/list", call.shown(name));
        link(&mut response, &path, page.n, last, &call.asked_registry());
    }
    if let Some(from) = from {
        from.tell(&mut response);
    }
    Ok(response)
}

/// Answers `GET /v2/<name>/_history/<tag>`: the meanings of the tag, newest first.
pub(super) async fn tag_history(
    call: &Call<'_>,
    name: &Name,
    tag: &Tag,
    page: &Page<u64>,
) -> Result<Response<Body>, Failure> {
    let wanted = page.n.unwrap_or(HISTORY).min(MOST_HISTORY);
    // one more tells whether there is a next page
    let mut found = call.service.registry.tags.history(name, tag, wanted + 1, page.last).await?;
    if found.is_empty() && page.last.is_none() {
        let reference = Reference::Tag(tag.clone());
        return Err(Error::ManifestUnknown { name: name.clone(), reference }.into());
    }
    let more = found.len() > wanted;
    found.truncate(wanted);
    let history: Vec<_> = found
        .iter()
        .map(|entry| {
            json!({
                "digest": entry.target.map(|(digest, _)| digest),
                "from": rfc3339(entry.at),
                "by": entry.by.identity,
                "request_id": entry.by.request,
                "ordinal": entry.ordinal,
            })
        })
        .collect();
    let text = json!({ "name": call.shown(name), "tag": tag, "history": history }).to_string();
    let mut response = document("application/json", text);
    if let Some(last) = found.last().filter(|_| more) {
        let path = format!("/v2/{}/_history/{tag}", call.shown(name));
        link(&mut response, &path, page.n, &last.ordinal, &call.asked_registry());
    }
    Ok(response)
}

/// Writes a time in milliseconds since 1970 in the form of RFC 3339.
fn rfc3339(at: u64) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// An index, as an answer has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u64,
    media_type: &'static str,
    manifests: Vec<&'a Descriptor>,
}

/// Answers `GET /v2/<name>/referrers/<digest>`: an index, empty if nothing refers to the digest.
pub(super) async fn referrers(
    call: &Call<'_>,
    slot: &Slot,
    name: &Name,
    digest: &Digest,
    artifact_type: Option<&str>,
    page: &Page<ReferrerPlace>,
) -> Result<Response<Body>, Failure> {
    let artifact_type = artifact_type.filter(|wanted| !wanted.is_empty());
    if let Some(cached) = call.snapshot.caches().of(name) {
        let _waiting = call.wait_for_upstream(slot)?;
        return Box::pin(referrers_of_cache(call, &cached, name, digest, artifact_type)).await;
    }
    let found = call.service.registry.referrers.list(name, digest, artifact_type, page).await?;
    let manifests = found.descriptors.iter().map(AsRef::as_ref).collect();
    let mut response = index(manifests, artifact_type);
    if let Some(last) = &found.next {
        let filter = artifact_type
            .map(|wanted| format!("&artifactType={}", utf8_percent_encode(wanted, NON_ALPHANUMERIC)))
            .unwrap_or_default();
        let path = format!("/v2/{}/referrers/{digest}", call.shown(name));
        link(&mut response, &path, page.n, last, &format!("{filter}{}", call.asked_registry()));
    }
    Ok(response)
}

/// Returns an answer with an index of referrers, which the caller has filtered by artifact type.
fn index(manifests: Vec<&Descriptor>, artifact_type: Option<&str>) -> Response<Body> {
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    // neither numbers nor texts fail to become JSON
    let text = serde_json::to_string(&index).unwrap_or_default();
    let mut response = document(MediaType::OCI_INDEX, text);
    if artifact_type.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    response
}

/// Answers a list of referrers from a cache: whole, since an upstream knows no place within ours.
async fn referrers_of_cache(
    call: &Call<'_>,
    cached: &Cached,
    name: &Name,
    digest: &Digest,
    artifact_type: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let answered = call.service.mirror.referrers(cached, name, digest, call.holder.client).await;
    let answered = answered.map_err(|error| Failure::of_cache(ErrorCode::ManifestUnknown, error))?;
    let (all, from) = FromCache::of(answered);
    let wanted = |descriptor: &&Descriptor| {
        artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted))
    };
    let mut response = index(all.iter().filter(wanted).collect(), artifact_type);
    from.tell(&mut response);
    Ok(response)
}
