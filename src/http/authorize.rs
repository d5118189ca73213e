//! Decides a request: by the token's scope and by policy. Each decision is added to the request's decisions.

use std::net::IpAddr;

use http::{HeaderValue, StatusCode, request::Parts};

use super::{
    auth::{self, Caller},
    call::Call,
    decisions::Decisions,
    endpoint::Endpoint,
    failure::Failure,
    peer::Peer,
    service::Service,
};
use crate::{
    action::{Action, Page},
    audit::NotRecording,
    credentials,
    identity::Identity,
    oci::{Algorithm, ErrorCode, Name, Reference, Tag},
    policy::{Arrival, Decision, Effect, Permit, Sight, Verdict},
    snapshot::Snapshot,
};

/// Decides about the action of a request.
pub(super) fn authorize(call: &Call<'_>, action: Action) -> Result<Permit, Failure> {
    let may_log_in = !call.snapshot.accounts().is_empty();
    if matches!(action, Action::GetApiVersion) && may_log_in && call.caller.has_no_credentials() {
        // clients learn here, and only here, that there is something to log in to
        let message = "log in: this registry asks for a password or a token";
        call.decisions.challenged(&call.caller.identity, &action, "nobody has logged in");
        return Err(auth::unauthorized(message, call.challenge(None, None)));
    }
    let (identity, in_scope) = call.caller.effective_identity(&action);
    let arrival = call.arrival(&action);
    let Verdict { decision, outcome } = call.snapshot.policy().authorize(identity, action, arrival);
    let action = match &outcome {
        Ok(permit) => permit.action(),
        Err(action) => action,
    };
    call.service.metrics.record_decision(decision.effect.as_str());
    call.decisions.policy(identity, action, arrival, &decision, (!in_scope).then_some(&call.caller.identity));
    if decision.provisional {
        call.decisions.await_image();
    }
    match outcome {
        Ok(permit) => Ok(permit),
        Err(action) => Err(refusal(call, identity, &action, &decision)),
    }
}

/// Decides about the action of a request. A mount is a shortcut: a client that may not take it may still upload.
pub(super) fn authorize_or_without_shortcut(call: &Call<'_>, action: Action) -> Result<Permit, Failure> {
    let Action::MountBlob { name, digest, .. } = &action else { return authorize(call, action) };
    let upload = Action::StartUpload { name: name.clone(), digest: None, algorithm: digest.algorithm() };
    authorize(call, action).or_else(|refused| authorize(call, upload).map_err(|_| refused))
}

/// Decides whether `identity` may let a tag go by `action`, a delete by digest.
pub(super) fn of_tag(call: &Call<'_>, identity: &Identity, action: &Action, tag: &Tag) -> Decision {
    call.snapshot.policy().decide_tag(identity, action, tag, call.arrival(action))
}

/// Returns the failure that tells the client of a refusal.
pub(super) fn refusal(call: &Call<'_>, identity: &Identity, action: &Action, decision: &Decision) -> Failure {
    let may_log_in = !call.snapshot.accounts().is_empty();
    let (_, in_scope) = call.caller.effective_identity(action);
    let mut reason = decision.reason(action.as_str());
    if let Some(tls) = call.snapshot.tls().filter(|_| call.peer.is_secure && identity.is_anonymous())
        && let Some(hint) = tls.hint_without_certificate()
    {
        reason = format!("{reason}; {hint}");
    }
    let scope = credentials::scope_needed(action, action.name().map(|name| call.shown(name)));
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
        _ if is_look_of_a_push(call, action) => {
            Failure::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, "nothing that you may see").caused_by(reason)
        }
        _ => Failure::new(StatusCode::FORBIDDEN, ErrorCode::Denied, reason),
    }
}

/// Returns true for a look by `HEAD` whether a digest is there already, with a token for a push. An answer to `HEAD` has no body
/// for the message, and clients end with their own words. If nothing is there they go on, and the first request that writes
/// is refused with the message.
fn is_look_of_a_push(call: &Call<'_>, action: &Action) -> bool {
    let (Action::GetBlob { name, head: true, .. }
    | Action::GetManifest { name, reference: Reference::Digest(_), head: true }) = action
    else {
        return false;
    };
    let push = Action::StartUpload { name: name.clone(), digest: None, algorithm: Algorithm::Sha256 };
    call.caller.has_token_for(&push)
}

impl Call<'_> {
    /// Returns what rules see of an action beside itself.
    pub(super) fn arrival(&self, action: &Action) -> Arrival<'_> {
        let upstream = action.name().map_or("", |name| self.snapshot.caches().first_host(name));
        Arrival { listener: self.peer.purpose.listener(), upstream, now: self.decisions.now() }
    }

    /// Decides about a second action that this request depends on, and records the decision.
    pub(super) fn authorize_other(&self, action: Action) -> bool {
        let (identity, _) = self.caller.effective_identity(&action);
        let arrival = self.arrival(&action);
        let Verdict { decision, outcome } = self.snapshot.policy().authorize(identity, action, arrival);
        let action = match &outcome {
            Ok(permit) => permit.action(),
            Err(action) => action,
        };
        self.service.metrics.record_decision(decision.effect.as_str());
        self.decisions.policy(identity, action, arrival, &decision, None);
        outcome.is_ok()
    }

    /// Returns true if policy would allow an action. Records nothing.
    pub(super) fn could(&self, action: Action) -> bool {
        let (identity, _) = self.caller.effective_identity(&action);
        let arrival = self.arrival(&action);
        self.snapshot.policy().authorize(identity, action, arrival).outcome.is_ok()
    }

    /// Returns what the caller sees of the catalog, within the token's scope for the catalog.
    pub(super) fn sight(&self) -> Sight<'_> {
        let (identity, _) = self.caller.effective_identity(&Action::ListCatalog { page: Page::default() });
        let (caches, now) = (self.snapshot.caches(), self.decisions.now());
        Sight::new(
            self.snapshot.policy(),
            identity,
            self.peer.purpose.listener(),
            now,
            Box::new(|name| caches.first_host(name)),
        )
    }

    /// Returns the challenge for this request.
    fn challenge(&self, scope: Option<&str>, error: Option<&'static str>) -> HeaderValue {
        auth::challenge(self.snapshot, self.peer, &self.parts, scope, error)
    }
}

/// Returns the failure for a record of decisions that cannot be written.
pub(super) fn not_recording(error: &NotRecording) -> Failure {
    let message = "the registry cannot record its decisions, and makes none unrecorded; try again when the operator has mended that";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
        .caused_by(error.to_string())
        .retry_later()
}

/// Finds the caller of a request. A failure to prove an identity is added to the decisions.
pub(super) async fn caller(
    service: &Service,
    snapshot: &Snapshot,
    peer: &Peer,
    client: IpAddr,
    parts: &Parts,
    decisions: &Decisions,
    endpoint: &Endpoint,
) -> Result<Caller, Failure> {
    match Caller::of(service, snapshot, peer, client, parts).await {
        Ok(caller) => Ok(caller),
        Err((rejected, proved)) => {
            service.metrics.record_login(false);
            decisions.login(&proved, endpoint, Some(rejected.reason()));
            Err(rejected.failure(snapshot, peer, parts))
        }
    }
}
