//! Whether the server is alive and ready, and its metrics. Not counted among the requests being answered, so that a
//! server under load still says that it lives.

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{Service, body::Body, connection::Purpose};
use crate::telemetry;

/// The answer to `/healthz`, `/readyz` and `/metrics` where this address gives one.
pub(super) async fn answer(service: &Service, purpose: Purpose, method: &Method, path: &str) -> Option<Response<Body>> {
    let (health, metrics) = match purpose {
        Purpose::Main => (service.options.health_on_main, service.options.metrics_on_main),
        Purpose::Side { health, metrics } => (health, metrics),
    };
    let (status, content_type, text) = match path {
        "/healthz" if health => (StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        "/readyz" if health => match service.registry.ready().await {
            Ok(()) => (StatusCode::OK, "text/plain; charset=utf-8", "ready\n".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "not ready: the store does not answer");
                let text = "not ready: the store does not answer; the log has the cause\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text)
            }
        },
        "/metrics" if metrics => (StatusCode::OK, telemetry::CONTENT_TYPE, service.metrics.render()),
        _ if purpose == Purpose::Main => return None,
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "this address answers no such path\n".to_owned()),
    };
    let allowed = matches!(*method, Method::GET | Method::HEAD);
    let mut response = Response::new(if *method == Method::GET { Body::whole(text) } else { Body::empty() });
    *response.status_mut() = if allowed { status } else { StatusCode::METHOD_NOT_ALLOWED };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Some(response)
}
