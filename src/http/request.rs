//! One request, from its head to its answer.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicU64},
};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use tracing::Instrument as _;

use super::{
    Service, auth,
    body::{Body, RequestBody},
    clock::Clock,
    connection::Purpose,
    decision::{self, Decisions},
    dispatch::{self, Call},
    failure::Failure,
    health,
    peer::Peer,
    record::Record,
    token, uploads,
};
use crate::{
    action::{Action, ActionError},
    oci::{ErrorCode, Name},
    snapshot::Snapshot,
    telemetry::{RequestId, SPAN_TARGET, continue_trace},
};

const REQUEST_ID: HeaderName = HeaderName::from_static(RequestId::HEADER);
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What a request asks for.
pub(super) enum Asked {
    /// An action, which policy decides about.
    Action(Action),
    /// A token, which anybody may ask for.
    Token,
}

impl Asked {
    fn parse(service: &Service, snapshot: &Snapshot, purpose: Purpose, parts: &Parts) -> Result<Self, ActionError> {
        match parts.uri.path() {
            "/metrics" if !health::has_metrics(service, purpose) => Err(ActionError::NotFound),
            "/token" if snapshot.signer().is_some() => Ok(Self::Token),
            path => Action::parse(parts.method.as_str(), path, parts.uri.query()).map(Self::Action),
        }
    }

    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Action(action) => action.as_str(),
            Self::Token => token::ACTION,
        }
    }

    const fn name(&self) -> Option<&Name> {
        match self {
            Self::Action(action) => action.name(),
            Self::Token => None,
        }
    }
}

/// Answers a request of this peer.
pub(super) async fn answer(
    service: Arc<Service>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(response) = health::answer(&service, peer.purpose, request.method(), request.uri().path()).await {
        return Ok(response);
    }
    // one for the whole request, whatever is edited meanwhile
    let snapshot = service.live.current();
    let limit = snapshot.config().server.query_timeout;
    let clock = Clock::new(limit);
    let received = Arc::new(AtomicU64::new(0));
    let (parts, body) = RequestBody::new(request, limit, Arc::clone(&received));
    let request_id = RequestId::from_header(parts.headers.get(&REQUEST_ID));
    let head = parts.method == Method::HEAD;
    let asked = Asked::parse(&service, &snapshot, peer.purpose, &parts);
    let decisions = Decisions::new(&service.audit, &request_id, peer.purpose);
    let mut record = Box::new(Record {
        request_id: request_id.clone(),
        action: asked.as_ref().map_or("unknown", Asked::as_str),
        repository: asked.as_ref().ok().and_then(|asked| asked.name().cloned()),
        reference: None,
        identity: None,
        client: auth::client_ip(snapshot.config(), peer.address, &parts.headers),
        status: 0,
        sent: 0,
        received,
        began: clock.began(),
        failure: None,
        metrics: service.metrics.clone(),
        logged: service.options.log_requests,
        in_flight: Some(service.metrics.request_started()),
        decisions: decisions.clone(),
        progress: peer.progress(),
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
    let came =
        Came { service: &service, snapshot: &snapshot, peer: &peer, parts, body, clock: clock.clone(), request_id };
    let id = came.request_id.to_header();
    let outcome = clock.limit(work(came, asked, &mut record).instrument(span.clone())).await.unwrap_or_else(|| {
        let seconds = limit.as_secs();
        let message = format!("the answer took longer than {seconds} seconds to begin; try again");
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message).retry_later())
    });
    let outcome = recorded(outcome, &decisions);
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
    if let Some(progress) = &record.progress {
        progress.moved();
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    Ok(response.map(|body| body.recorded(record)))
}

/// Returns the tag or digest that an action is about, for the log.
fn reference(action: &Action) -> Option<String> {
    let target = action.target();
    let reference = target.reference.map(ToString::to_string);
    reference.or_else(|| target.tag.map(ToString::to_string)).or_else(|| target.digest.map(ToString::to_string))
}

/// What came of a request, once its decisions are recorded: where they cannot be, and must be, it is refused.
fn recorded(outcome: Result<Response<Body>, Failure>, decisions: &Decisions) -> Result<Response<Body>, Failure> {
    let status = outcome.as_ref().map_or_else(Failure::status, Response::status);
    match decisions.write(status.as_u16()) {
        Ok(()) => outcome,
        Err(error) => Err(decision::not_recording(&error)),
    }
}

/// A request as it came: of nobody in particular yet.
struct Came<'a> {
    service: &'a Service,
    snapshot: &'a Snapshot,
    peer: &'a Peer,
    parts: Parts,
    body: RequestBody,
    clock: Clock,
    request_id: RequestId,
}

async fn work(
    came: Came<'_>,
    asked: Result<Asked, ActionError>,
    record: &mut Record,
) -> Result<Response<Body>, Failure> {
    let asked = asked?;
    let Came { service, snapshot, peer, parts, body, clock, request_id } = came;
    if record.logged
        && let Asked::Action(action) = &asked
    {
        record.reference = reference(action);
    }
    service.audit.ready().map_err(|error| decision::not_recording(&error))?;
    let decisions = record.decisions.clone();
    let caller = decision::caller(service, snapshot, peer, record.client, &parts, &decisions, &asked).await?;
    if record.logged && !caller.identity.is_anonymous() {
        record.identity = Some(caller.identity.to_string());
    }
    let call = Call { service, snapshot, peer, parts, body, clock, caller, decisions, request_id };
    match asked {
        Asked::Token => Box::pin(token::answer(call)).await,
        Asked::Action(action) if action.target().upload.is_some() => Box::pin(upload(call, action)).await,
        Asked::Action(action) => {
            let permit = decision::authorize(&call, action)?;
            let slot = match permit.action() {
                Action::GetMetrics => service.limits.no_slot(),
                _ => service.limits.slot().await?,
            };
            dispatch::dispatch(call, permit, slot).await
        }
    }
}

/// Answers an action on an upload, for whoever began it.
async fn upload(call: Call<'_>, mut action: Action) -> Result<Response<Body>, Failure> {
    let has_owner = uploads::find_owner(&call, &mut action).await?;
    let permit = decision::authorize(&call, action)?;
    let slot = call.service.limits.slot().await?;
    uploads::check_owner(&call, permit.action(), has_owner).await?;
    dispatch::dispatch(call, permit, slot).await
}
