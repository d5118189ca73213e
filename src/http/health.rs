//! Answers `/healthz`, `/readyz` and `/metrics`. Health needs neither a slot nor a login, so a server under load still says
//! that it lives.

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{body::Body, call::Call, lists::document, purpose::Purpose, service::Service, troubles};
use crate::{telemetry, tls::Tls};

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers `/healthz` and `/readyz` if this address has them, and every unknown path of a side address.
pub(super) async fn answer(service: &Service, purpose: Purpose, method: &Method, path: &str) -> Option<Response<Body>> {
    let health = service.has_health(purpose);
    let (status, text) = match path {
        "/healthz" if health => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if health => ready(service).await,
        "/metrics" if service.has_metrics(purpose) => return None,
        _ if purpose == Purpose::Main => return None,
        _ => (StatusCode::NOT_FOUND, "this address answers no such path\n".to_owned()),
    };
    Some(plain(method, status, text))
}

/// Returns the answer to `/readyz`: not ready only while pulls would be refused. Any other trouble is a warning.
async fn ready(service: &Service) -> (StatusCode, String) {
    let not_ready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}; the log has the cause\n"));
    if !service.readiness.store(&service.registry).await {
        return not_ready("the store does not answer");
    }
    if service.audit.ready().is_err() {
        return not_ready("the record of decisions cannot be written, and requests are refused");
    }
    let warnings: Vec<String> =
        troubles::lasting(service).into_iter().map(|trouble| format!("warning: {trouble}\n")).collect();
    (StatusCode::OK, format!("ready\n{}", warnings.concat()))
}

/// Answers `/metrics`.
pub(super) fn metrics(call: &Call<'_>) -> Response<Body> {
    troubles::lasting(call.service);
    call.service.metrics.set_audit_failures(call.service.audit.lost());
    for (host, (remaining, is_resting)) in call.snapshot.caches().states() {
        call.service.metrics.set_upstream(host, remaining, is_resting);
    }
    let expires = call.snapshot.tls().and_then(Tls::expires);
    call.service.metrics.set_certificate_expiry(expires.unwrap_or_default());
    document(telemetry::CONTENT_TYPE, call.service.metrics.render())
}

/// Returns a text, or 405 for a method that no path here has.
fn plain(method: &Method, status: StatusCode, text: String) -> Response<Body> {
    let allowed = matches!(*method, Method::GET | Method::HEAD);
    let mut response = document(TEXT, if allowed { text } else { String::new() });
    *response.status_mut() = if allowed { status } else { StatusCode::METHOD_NOT_ALLOWED };
    if !allowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response.map(|body| if *method == Method::HEAD { Body::empty() } else { body })
}
