//! A request's decisions: by the token's scope and by policy, each with its line in the record of decisions.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::{StatusCode, request::Parts};

use super::{
    Service,
    auth::{self, Caller},
    connection::Purpose,
    dispatch::Call,
    failure::Failure,
    peer::Peer,
    request::Asked,
};
use crate::{
    action::{Action, Page},
    audit::{Audit, Event, Line, NotRecording},
    credentials,
    identity::{self, Identity},
    oci::{ErrorCode, Name, Tag},
    policy::{self, Decision, Effect, Permit, Verdict},
    snapshot::Snapshot,
    telemetry::RequestId,
};

/// The decisions of one request, until the status is known that they led to. Clones are the same.
#[derive(Clone)]
pub(super) struct Decisions {
    audit: Audit,
    request_id: RequestId,
    purpose: Purpose,
    /// Nothing where nothing is recorded.
    lines: Option<Arc<Mutex<Vec<Decided>>>>,
}

struct Decided {
    event: Event,
    identity: identity::Facts,
    request: policy::Request,
    tag_count: Option<usize>,
    decision: &'static str,
    by: Option<Decision>,
    message: Option<String>,
}

impl Decisions {
    pub(super) fn new(audit: &Audit, request_id: &RequestId, purpose: Purpose) -> Self {
        let lines = audit.is_on().then(Arc::default);
        Self { audit: audit.clone(), request_id: request_id.clone(), purpose, lines }
    }

    fn add(&self, decided: impl FnOnce() -> Decided) {
        if let Some(lines) = &self.lines {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(decided());
        }
    }

    /// Returns whether decisions are recorded at all.
    pub(super) const fn are_recorded(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds to the last line the first of the tags that the request would delete, how many there are, and the decision
    /// about them, where that one counts.
    pub(super) fn note_tags(&self, tags: Vec<String>, count: usize, decision: Decision) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.last_mut() else { return };
        line.request.tags = tags;
        if let Some(tag) = decision.tag.as_deref()
            && !line.request.tags.iter().any(|named| named == tag)
        {
            line.request.tags.push(tag.to_owned());
        }
        line.request.shorten_tags(decision.tag.as_deref());
        line.tag_count = Some(count);
        if let Some(before) = line.by.take() {
            let counts = policy::worse(before, decision);
            if counts.tag.is_some() {
                line.decision = counts.effect.as_str();
                line.message = counts.message.as_deref().map(str::to_owned);
            }
            line.by = Some(counts);
        }
    }

    /// What policy said; `beyond` is whose token came along and was not for this.
    fn policy(&self, identity: &Identity, action: &Action, decision: &Decision, beyond: Option<&Identity>) {
        self.add(|| {
            let mut request = policy::Request::of(action, listener(self.purpose));
            let tag_count = request.shorten_tags(decision.tag.as_deref());
            Decided {
                event: Event::Decision,
                identity: identity.facts(),
                request,
                tag_count,
                decision: decision.effect.as_str(),
                by: Some(decision.clone()),
                message: match beyond {
                    Some(bearer) => Some(format!("beyond the scope of the token of {bearer}")),
                    None => decision.message.as_deref().map(str::to_owned),
                },
            }
        });
    }

    /// Adds to what policy decided last who began the upload, which was looked up since.
    pub(super) fn tell_upload_owner(&self, owner: &str) {
        if let Some(lines) = &self.lines
            && let Some(line) = lines.lock().unwrap_or_else(PoisonError::into_inner).last_mut()
        {
            owner.clone_into(&mut line.request.upload_owner);
        }
    }

    /// Notes that a client was asked to log in, before policy was asked.
    fn challenged(&self, identity: &Identity, action: &Action, why: &str) {
        self.add(|| Decided {
            event: Event::Challenge,
            identity: identity.facts(),
            request: policy::Request::of(action, listener(self.purpose)),
            tag_count: None,
            decision: "deny",
            by: None,
            message: Some(why.to_owned()),
        });
    }

    /// A login: one that succeeded, at `/token`, or that failed, anywhere.
    pub(super) fn login(&self, identity: &Identity, asked: &Asked, failed: Option<String>) {
        self.add(|| Decided {
            event: Event::Login,
            identity: identity.facts(),
            request: match asked {
                Asked::Action(action) => policy::Request::of(action, listener(self.purpose)),
                Asked::Token => policy::Request { action: asked.as_str().to_owned(), ..policy::Request::default() },
            },
            tag_count: None,
            decision: if failed.is_some() { "deny" } else { "allow" },
            by: None,
            message: failed,
        });
    }

    /// A connection whose client certificate was refused.
    pub(super) fn handshake(&self, client: IpAddr, why: String) {
        self.add(|| Decided {
            event: Event::Login,
            identity: Identity::anonymous(client).facts(),
            request: policy::Request { action: "handshake".to_owned(), ..policy::Request::default() },
            tag_count: None,
            decision: "deny",
            by: None,
            message: Some(why),
        });
    }

    /// Writes them, with the status that is about to be sent. The error is for where nothing may go unrecorded.
    pub(super) fn write(&self, status: u16) -> Result<(), NotRecording> {
        let Some(lines) = &self.lines else { return Ok(()) };
        let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcome = Ok(());
        for line in lines {
            let by = line.by.as_ref();
            let origin = by.and_then(|decision| decision.by.as_deref());
            let written = self.audit.record(&Line {
                event: line.event,
                request_id: self.request_id.as_str(),
                identity: &line.identity,
                request: &line.request,
                tag_count: line.tag_count,
                decision: line.decision,
                policy: origin.map(|origin| origin.policy.as_str()),
                rule: by.and_then(|decision| decision.rule.as_deref()),
                policy_sha256: origin.map(|origin| origin.sha256.as_str()),
                message: line.message.as_deref(),
                status,
            });
            outcome = outcome.and(written);
        }
        outcome
    }
}

/// How policies know the address that a request came to.
const fn listener(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Main => "main",
        Purpose::Side { .. } => "side",
    }
}

/// Decides about the action that a request asks for.
pub(super) fn authorize(call: &Call<'_>, action: Action) -> Result<Permit, Failure> {
    let listener = listener(call.peer.purpose);
    let may_log_in = !call.snapshot.accounts().is_empty();
    if matches!(action, Action::GetApiVersion) && may_log_in && call.caller.brings_nothing() {
        // clients learn here, and only here, that there is something to log in to
        let message = "log in: this registry asks for a password or a token";
        call.decisions.challenged(&call.caller.identity, &action, "nobody has logged in");
        return Err(auth::unauthorized(message, call.challenge(None, None)));
    }
    let (identity, in_scope) = call.caller.facing(&action);
    let Verdict { decision, outcome } = call.snapshot.policy().authorize(identity, action, listener);
    let action = match &outcome {
        Ok(permit) => permit.action(),
        Err(action) => action,
    };
    call.decisions.policy(identity, action, &decision, (!in_scope).then_some(&call.caller.identity));
    match outcome {
        Ok(permit) => Ok(permit),
        Err(action) => Err(refusal(call, identity, &action, &decision)),
    }
}

/// Decides whether `identity` may let a tag go by `action`, a delete by digest.
pub(super) fn of_tag(call: &Call<'_>, identity: &Identity, action: &Action, tag: &Tag) -> Decision {
    call.snapshot.policy().decide_tag(identity, action, tag, listener(call.peer.purpose))
}

/// Returns what the client is told of a refusal.
pub(super) fn refusal(call: &Call<'_>, identity: &Identity, action: &Action, decision: &Decision) -> Failure {
    let may_log_in = !call.snapshot.accounts().is_empty();
    let (_, in_scope) = call.caller.facing(action);
    let reason = decision.reason(action.as_str());
    let scope = credentials::scope_needed(action);
    match decision.effect {
        Effect::NotCovered => {
            let name = action.name().map(Name::to_string).unwrap_or_default();
            let message = format!(
                "there is no repository {name}: no [repository.\"...\"] of the configuration and no policy covers it"
            );
            Failure::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message)
        }
        _ if !in_scope => {
            let message = format!(
                "the token was not given for this: it needs the scope {}",
                scope.as_deref().unwrap_or_default()
            );
            auth::unauthorized(message, call.challenge(scope.as_deref(), Some("insufficient_scope")))
        }
        _ if may_log_in && identity.is_anonymous() => auth::unauthorized(
            format!("{reason}; log in, perhaps that is enough"),
            call.challenge(scope.as_deref(), None),
        ),
        _ => Failure::new(StatusCode::FORBIDDEN, ErrorCode::Denied, reason),
    }
}

impl Call<'_> {
    /// Whether the one who asks may do something else, on whose answer depends what this request does. Recorded.
    pub(super) fn authorize_other(&self, action: Action) -> bool {
        let listener = listener(self.peer.purpose);
        let (identity, _) = self.caller.facing(&action);
        let Verdict { decision, outcome } = self.snapshot.policy().authorize(identity, action, listener);
        let action = match &outcome {
            Ok(permit) => permit.action(),
            Err(action) => action,
        };
        self.decisions.policy(identity, action, &decision, None);
        outcome.is_ok()
    }

    /// Whether the one who asks could do something. Nothing is done by it, and nothing is recorded.
    pub(super) fn could(&self, action: Action) -> bool {
        let (identity, _) = self.caller.facing(&action);
        self.policy_allows(identity, action)
    }

    /// Likewise, for entries of the catalog: the scope that counts is the catalog's.
    pub(super) fn could_see(&self, action: Action) -> bool {
        let (identity, _) = self.caller.facing(&Action::ListCatalog { page: Page::default() });
        self.policy_allows(identity, action)
    }

    fn policy_allows(&self, identity: &Identity, action: Action) -> bool {
        self.snapshot.policy().authorize(identity, action, listener(self.peer.purpose)).outcome.is_ok()
    }

    fn challenge(&self, scope: Option<&str>, error: Option<&'static str>) -> http::HeaderValue {
        auth::challenge(self.snapshot, self.peer, &self.parts, scope, error)
    }
}

/// Nothing may go unrecorded, and the record cannot be written.
pub(super) fn not_recording(error: &NotRecording) -> Failure {
    let message = "the registry cannot record its decisions, and makes none unrecorded; try again when the operator has mended that";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
        .caused_by(error.to_string())
        .retry_later()
}

/// Who asks, or the failure to prove it, with its line in the record.
pub(super) async fn caller(
    service: &Service,
    snapshot: &Snapshot,
    peer: &Peer,
    client: IpAddr,
    parts: &Parts,
    decisions: &Decisions,
    asked: &Asked,
) -> Result<Caller, Failure> {
    match Caller::of(service, snapshot, peer, client, parts).await {
        Ok(caller) => Ok(caller),
        Err((rejected, proved)) => {
            service.metrics.record_login(false);
            decisions.login(&proved, asked, Some(rejected.reason()));
            Err(rejected.failure(snapshot, peer, parts))
        }
    }
}
