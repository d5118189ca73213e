//! Answers one request, from its head to its answer.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicU64},
};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use tracing::Instrument as _;

use super::{
    authorize,
    body::Body,
    browser,
    call::Call,
    clock::Clock,
    decisions::Decisions,
    dispatch,
    endpoint::Endpoint,
    failure::Failure,
    forwarded, framing,
    from_cache::FromCache,
    health,
    mirrored::Asked,
    peer::Peer,
    read_only,
    record::Record,
    request_body::RequestBody,
    service::Service,
    shares::{Cut, Holder},
    token, told, uploads,
};
use crate::{
    action::{Action, ActionError},
    oci::{ErrorCode, Name},
    snapshot::Snapshot,
    telemetry::{RequestId, SPAN_TARGET, continue_trace, counted},
};

const REQUEST_ID: HeaderName = HeaderName::from_static(RequestId::HEADER);
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request of this peer.
pub(super) async fn answer(
    service: Arc<Service>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let pace = peer.pace();
    let (head, body) = request.into_parts();
    let framed = framing::check(&head);
    if framed.is_ok()
        && let Some(response) = health::answer(&service, peer.purpose, &head.method, head.uri.path()).await
    {
        peer.answered();
        return Ok(response);
    }
    let request = Request::from_parts(head, body);
    // one snapshot decides the whole request, whatever is edited meanwhile
    let snapshot = service.live.current();
    let limit = snapshot.config().server.query_timeout;
    let clock = Clock::new(limit);
    let received = Arc::new(AtomicU64::new(0));
    let (parts, body) = RequestBody::new(request, limit, Arc::clone(&received), Arc::clone(&pace));
    let cut = Cut::current();
    let request_id = RequestId::from_header(parts.headers.get(&REQUEST_ID));
    let (head, version) = (parts.method == Method::HEAD, parts.version);
    let mut endpoint = Endpoint::parse(&parts, service.has_metrics(peer.purpose), snapshot.signer().is_some());
    let asked = Asked::find(&snapshot, &parts, &mut endpoint);
    let decisions = Decisions::new(&service.audit, &request_id, peer.purpose);
    let mut record = Box::new(Record {
        request_id: request_id.clone(),
        action: endpoint.as_ref().map_or("unknown", Endpoint::as_str),
        repository: endpoint.as_ref().ok().and_then(|endpoint| endpoint.name().cloned()),
        reference: None,
        identity: None,
        client: forwarded::client_ip(snapshot.config(), peer.address, &parts.headers),
        status: 0,
        sent: 0,
        received,
        began: clock.began(),
        from_cache: None,
        failure: None,
        metrics: service.metrics.clone(),
        logged: service.options.log_requests,
        in_flight: Some(service.metrics.request_started()),
        decisions: decisions.clone(),
        pace,
        cut,
        peer: Arc::clone(&peer),
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
    let rest = body.clone();
    let id = request_id.to_header();
    let told = asked.as_ref().ok().cloned().flatten();
    let incoming = IncomingRequest {
        service: &service,
        snapshot: &snapshot,
        peer: &peer,
        parts,
        body,
        clock: clock.clone(),
        request_id,
        framed,
        asked,
    };
    let outcome =
        clock.limit(work(incoming, endpoint, &mut record).instrument(span.clone())).await.unwrap_or_else(|| {
            let seconds = counted(limit.as_secs(), "second");
            let message = format!("the answer took longer than {seconds} to begin; try again");
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message).retry_later())
        });
    let outcome = recorded(outcome, &decisions).await;
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            rest.drain().await;
            record.failure = Some((failure.code(), failure.cause().to_owned()));
            let message = failure.to_string();
            let mut response = failure.into_response();
            if head {
                told::in_head(&mut response, &message, version);
            }
            response
        }
    };
    record.from_cache = response.extensions_mut().remove();
    if let Some(from) = &record.from_cache {
        service.metrics.record_cache_answer(from.served.as_str());
    }
    record.status = response.status().as_u16();
    span.record("status", record.status);
    record.pace.waits();
    add_headers(&mut response, id, told.as_ref());
    // HTTP/2 would send the body of an answer to HEAD
    Ok(response.map(|body| if head { Body::empty() } else { body }.recorded(record)))
}

/// Adds the headers that each answer has.
fn add_headers(response: &mut Response<Body>, id: HeaderValue, asked: Option<&Asked>) {
    if let Some(asked) = asked {
        asked.tell(response);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Returns the tag or digest that an action is about, for the log.
fn reference(action: &Action) -> Option<String> {
    let target = action.target();
    let reference = target.reference.map(ToString::to_string);
    reference.or_else(|| target.tag.map(ToString::to_string)).or_else(|| target.digest.map(ToString::to_string))
}

/// Records the decisions of a request, and returns its outcome. A request whose decisions cannot be recorded, and must be,
/// fails.
async fn recorded(outcome: Result<Response<Body>, Failure>, decisions: &Decisions) -> Result<Response<Body>, Failure> {
    let status = outcome.as_ref().map_or_else(Failure::status, Response::status);
    let from = outcome.as_ref().ok().and_then(|response| response.extensions().get::<FromCache>()).cloned();
    match decisions.write_together(status.as_u16(), from.as_ref()).await {
        Ok(()) => outcome,
        Err(error) => Err(authorize::not_recording(&error)),
    }
}

/// A request before its caller is known.
struct IncomingRequest<'a> {
    service: &'a Service,
    snapshot: &'a Snapshot,
    peer: &'a Peer,
    parts: Parts,
    body: RequestBody,
    clock: Clock,
    request_id: RequestId,
    /// The outcome of the check of the head.
    framed: Result<(), Failure>,
    /// The client's words for the repository.
    asked: Result<Option<Asked>, Failure>,
}

/// Finds the caller, asks policy, and calls the handler.
async fn work(
    incoming: IncomingRequest<'_>,
    endpoint: Result<Endpoint, ActionError>,
    record: &mut Record,
) -> Result<Response<Body>, Failure> {
    let IncomingRequest { service, snapshot, peer, parts, body, clock, request_id, framed, asked } = incoming;
    framed?;
    browser::check(snapshot, peer, &parts)?;
    let endpoint = endpoint?;
    let asked = asked?;
    if record.logged
        && let Endpoint::Action(action) = &endpoint
    {
        record.reference = reference(action);
    }
    service.audit.ready().map_err(|error| authorize::not_recording(&error))?;
    let decisions = record.decisions.clone();
    let mut caller = authorize::caller(service, snapshot, peer, record.client, &parts, &decisions, &endpoint).await?;
    caller.asked = asked;
    if record.logged && !caller.identity.is_anonymous() {
        record.identity = Some(caller.identity.to_string());
    }
    let ends = Some((Arc::clone(&record.pace), Arc::clone(&record.cut)));
    let holder = Arc::new(Holder { client: (&caller.identity).into(), ends });
    let head = parts.method == Method::HEAD;
    // metrics are answered under any load, so they wait for no memory either
    let waits = !matches!(&endpoint, Endpoint::Action(Action::GetMetrics));
    let call = Call {
        service,
        snapshot,
        peer,
        parts,
        body,
        clock,
        holder: Arc::clone(&holder),
        caller,
        decisions,
        request_id,
    };
    let response = match endpoint {
        Endpoint::Token => Box::pin(token::answer(call)).await,
        Endpoint::Action(action) if action.target().upload.is_some() => Box::pin(upload(call, action)).await,
        Endpoint::Action(action) => {
            let permit = authorize::authorize_or_without_shortcut(&call, action)?;
            read_only::check(&call, permit.action())?;
            let slot = match permit.action() {
                Action::GetMetrics => service.limits.no_slot(&holder),
                action => service.limits.slot(&holder, action.is_list()).await?,
            };
            dispatch::dispatch(call, permit, slot).await
        }
    }?;
    match response.body().long().filter(|_| waits && !head) {
        Some(length) => {
            let memory = service.limits.document(&holder, length).await?;
            Ok(response.map(|body| body.with_memory(memory)))
        }
        None => Ok(response),
    }
}

/// Answers an action on an upload, for the upload's owner.
async fn upload(call: Call<'_>, mut action: Action) -> Result<Response<Body>, Failure> {
    let has_owner = uploads::find_owner(&call, &mut action).await?;
    let permit = authorize::authorize(&call, action)?;
    read_only::check(&call, permit.action())?;
    let slot = call.service.limits.slot(&call.holder, false).await?;
    uploads::check_owner(&call, permit.action(), has_owner).await?;
    dispatch::dispatch(call, permit, slot).await
}
