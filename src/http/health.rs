//! Whether the server is alive and ready, and its metrics. Health is not counted among the requests being answered, so
//! that a server under load still says that it lives; and nobody is asked who he is.

use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::Mutex;

use super::{Service, body::Body, connection::Purpose, dispatch::Call};
use crate::{registry::Registry, telemetry};

const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to `/healthz` and `/readyz` where this address gives one; and to everything that a side address has not.
pub(super) async fn answer(service: &Service, purpose: Purpose, method: &Method, path: &str) -> Option<Response<Body>> {
    let health = match purpose {
        Purpose::Main => service.options.health_on_main,
        Purpose::Side { health, .. } => health,
    };
    let (status, text) = match path {
        "/healthz" if health => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if health => ready(service).await,
        "/metrics" if has_metrics(service, purpose) => return None,
        _ if purpose == Purpose::Main => return None,
        _ => (StatusCode::NOT_FOUND, "this address answers no such path\n".to_owned()),
    };
    Some(document(method, status, TEXT, text))
}

/// Whether the store answers, as it was asked under a second ago: anybody may ask us, as often as he likes, and each
/// look at a bucket costs a request.
#[derive(Default)]
pub(super) struct Ready(Mutex<Option<(Instant, bool)>>);

const FRESH: Duration = Duration::from_secs(1);

impl Ready {
    /// One look at a time; whoever asks meanwhile gets its outcome.
    async fn store(&self, registry: &Registry) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < FRESH
        {
            return ready;
        }
        let outcome = registry.ready().await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "not ready: the store does not answer");
        }
        *last = Some((Instant::now(), outcome.is_ok()));
        outcome.is_ok()
    }
}

/// Ready is who can store; what else is wrong is a warning, since what was in force still is.
async fn ready(service: &Service) -> (StatusCode, String) {
    if !service.ready.store(&service.registry).await {
        let text = "not ready: the store does not answer; the log has the cause\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let mut text = "ready\n".to_owned();
    if service.live.refused().is_some() {
        text += "warning: the last edit was refused, and what was in force before still is; the log has the cause\n";
    }
    if service.audit.failing().is_some() {
        text += "warning: the record of decisions cannot be written; the log has the cause\n";
    }
    (StatusCode::OK, text)
}

/// Whether an address answers `/metrics`.
pub(super) const fn has_metrics(service: &Service, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Main => service.options.metrics_on_main,
        Purpose::Side { metrics, .. } => metrics,
    }
}

/// `/metrics`.
pub(super) fn metrics(call: &Call<'_>) -> Response<Body> {
    document(&call.parts.method, StatusCode::OK, telemetry::CONTENT_TYPE, call.service.metrics.render())
}

fn document(method: &Method, status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let allowed = matches!(*method, Method::GET | Method::HEAD);
    let mut response = Response::new(if *method == Method::GET { Body::whole(text) } else { Body::empty() });
    *response.status_mut() = if allowed { status } else { StatusCode::METHOD_NOT_ALLOWED };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if !allowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
