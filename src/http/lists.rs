//! What exists: end-1, end-8, end-12 and the catalog.

use std::fmt::Display;

use http::{HeaderName, HeaderValue, Response, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{body::Body, dispatch::Call, failure::Failure};
use crate::{
    action::{Action, Page},
    oci::{Digest, MediaType, Name, Tag},
};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) fn document(media_type: &'static str, text: String) -> Response<Body> {
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Body::whole(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// `GET /v2/`.
pub(super) fn api_version() -> Response<Body> {
    document("application/json", "{}".to_owned())
}

/// `Link: <...>; rel="next"` (RFC 8288).
fn link(response: &mut Response<Body>, path: &str, n: Option<usize>, last: &dyn Display, more: &str) {
    let last = last.to_string();
    let last = utf8_percent_encode(&last, NON_ALPHANUMERIC);
    let n = n.map(|n| format!("&n={n}")).unwrap_or_default();
    if let Ok(link) = HeaderValue::from_str(&format!("<{path}?last={last}{n}{more}>; rel=\"next\"")) {
        response.headers_mut().insert(header::LINK, link);
    }
}

/// `GET /v2/_catalog`: the repositories that the caller may list.
pub(super) async fn catalog(call: &Call<'_>, page: &Page<Name>) -> Result<Response<Body>, Failure> {
    let visible = |name: &Name| {
        let list = Action::ListTags { name: name.clone(), page: Page::default() };
        call.could_see(list)
    };
    let listed = call.service.registry.catalog(page, visible).await?;
    let mut response = document("application/json", json!({ "repositories": listed.entries }).to_string());
    if let Some(last) = listed.entries.last().filter(|_| listed.more) {
        link(&mut response, "/v2/_catalog", page.n, last, "");
    }
    Ok(response)
}

/// `GET /v2/<name>/tags/list`.
pub(super) async fn tags(call: &Call<'_>, name: &Name, page: &Page<Tag>) -> Result<Response<Body>, Failure> {
    let listed = call.service.registry.tags(name, page).await?;
    let mut response = document("application/json", json!({ "name": name, "tags": listed.entries }).to_string());
    if let Some(last) = listed.entries.last().filter(|_| listed.more) {
        link(&mut response, &format!("/v2/{name}/tags/list"), page.n, last, "");
    }
    Ok(response)
}

/// `GET /v2/<name>/referrers/<digest>`: an index, empty where nothing refers to the digest.
pub(super) async fn referrers(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    artifact_type: Option<&str>,
    page: &Page<Digest>,
) -> Result<Response<Body>, Failure> {
    let artifact_type = artifact_type.filter(|wanted| !wanted.is_empty());
    let found = call.service.registry.referrers(name, digest, artifact_type, page).await?;
    let descriptors: Vec<_> = found.descriptors.iter().map(AsRef::as_ref).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": descriptors });
    let mut response = document(MediaType::OCI_INDEX, index.to_string());
    if artifact_type.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = &found.next {
        let filter = artifact_type
            .map(|wanted| format!("&artifactType={}", utf8_percent_encode(wanted, NON_ALPHANUMERIC)))
            .unwrap_or_default();
        link(&mut response, &format!("/v2/{name}/referrers/{digest}"), page.n, last, &filter);
    }
    Ok(response)
}
