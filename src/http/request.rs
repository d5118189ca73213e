//! One request, from its head to its answer.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::Instrument as _;

use super::{
    Service,
    body::{Body, RequestBody},
    clock::Clock,
    connection::Purpose,
    dispatch::{self, Call},
    failure::Failure,
    health,
    record::Record,
};
use crate::{
    action::Action,
    identity::Identity,
    oci::{ErrorCode, Name},
    telemetry::{RequestId, SPAN_TARGET, continue_trace},
};

const REQUEST_ID: HeaderName = HeaderName::from_static(RequestId::HEADER);
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request that came to an address of this purpose.
pub(super) async fn answer(
    service: Arc<Service>,
    purpose: Purpose,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(response) = health::answer(&service, purpose, request.method(), request.uri().path()).await {
        return Ok(response);
    }
    let clock = Clock::new(service.options.query_timeout);
    let received = Arc::new(AtomicU64::new(0));
    let (parts, body) = RequestBody::new(request, service.options.query_timeout, Arc::clone(&received));
    let request_id = RequestId::from_header(parts.headers.get(&REQUEST_ID));
    let head = parts.method == Method::HEAD;
    let action = Action::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query());
    let mut record = Box::new(Record {
        request_id: request_id.clone(),
        action: action.as_ref().map_or("unknown", Action::as_str),
        repository: action.as_ref().ok().and_then(|action| action.name().cloned()),
        reference: None,
        identity: "anonymous",
        client,
        status: 0,
        sent: 0,
        received,
        began: clock.began(),
        failure: None,
        metrics: service.metrics.clone(),
        logged: service.options.log_requests,
        in_flight: Some(service.metrics.request_started()),
    });
    let span = tracing::info_span!(
        target: SPAN_TARGET,
        "request",
        action = record.action,
        repository = record.repository.as_ref().map(Name::as_str),
        request_id = request_id.as_str(),
        status = tracing::field::Empty,
    );
    if !span.is_disabled() {
        continue_trace(&span, |name| parts.headers.get(name)?.to_str().ok().map(str::to_owned));
    }
    let left = body.clone();
    let call = Call {
        service: &service,
        parts,
        body,
        clock: clock.clone(),
        identity: Identity::anonymous(client),
        request_id: request_id.clone(),
    };
    let outcome = clock.limit(work(call, action, &mut record).instrument(span.clone())).await.unwrap_or_else(|| {
        let seconds = service.options.query_timeout.as_secs();
        let message = format!("the answer took longer than {seconds} seconds to begin; try again");
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message).retry_later())
    });
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            left.drain().await;
            record.failure = Some((failure.code(), failure.cause().to_owned()));
            failure.into_response(head)
        }
    };
    record.status = response.status().as_u16();
    span.record("status", record.status);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id.to_header());
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    Ok(response.map(|body| body.recorded(record)))
}

async fn work(
    call: Call<'_>,
    action: Result<Action, crate::action::ActionError>,
    record: &mut Record,
) -> Result<Response<Body>, Failure> {
    let action = action?;
    if record.logged {
        record.reference = dispatch::reference(&action);
    }
    let name = action.as_str();
    let verdict = call.service.policy.authorize(&call.identity, action, "main");
    let permit = verdict.outcome.map_err(|_| Failure::refused(&verdict.decision, name))?;
    let slot = call.service.limits.slot().await?;
    dispatch::dispatch(call, permit, slot).await
}
