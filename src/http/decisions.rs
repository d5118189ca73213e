//! Collects a request's decisions, each with its line in the record of decisions.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;

use super::{endpoint::Endpoint, from_cache::FromCache, purpose::Purpose};
use crate::{
    action::Action,
    audit::{Audit, Denial, Event, Gathered, Kept, Line, NotRecording, SeenImage},
    identity::{self, Identity},
    oci::Digest,
    policy::{self, Arrival, Decision, Now},
    telemetry::RequestId,
};

/// The longest message of a line, in bytes.
const LONGEST_MESSAGE: usize = 1000;

/// The decisions of one request, until its status is known. Clones share them.
#[derive(Clone)]
pub(super) struct Decisions {
    audit: Audit,
    request_id: RequestId,
    purpose: Purpose,
    /// `None` if nothing is recorded.
    lines: Option<Arc<Mutex<Vec<Decided>>>>,
    shared: Arc<Shared>,
}

/// The facts about a request that its clones share.
#[derive(Default)]
struct Shared {
    /// The time that rules see.
    now: Now,
    /// True if rules decide without the owner of the request's upload.
    owner_unknown: AtomicBool,
    /// True if a rule waits for the age of the image.
    awaits_image: AtomicBool,
}

/// An image of a cache, as a line names it.
struct Seen {
    digest: String,
    first_seen_at: Option<String>,
}

struct Decided {
    event: Event,
    identity: identity::Facts,
    request: policy::Request,
    tag_count: Option<usize>,
    owner_unknown: bool,
    decision: &'static str,
    by: Option<Decision>,
    message: Option<String>,
    image: Option<Seen>,
}

impl Decided {
    /// Returns how the decision is recorded. A stranger that changes nothing must not fill the record of those who do.
    fn kept(&self) -> Kept {
        let (identity, request) = (&self.identity, &self.request);
        let is_anonymous = identity.id.is_empty() && identity.certificate.fingerprint.is_empty();
        let is_denied = matches!(self.decision, "deny" | "not_covered");
        let is_read = !matches!(request.access.as_str(), "push" | "delete");
        match self.event {
            _ if !is_anonymous => Kept::ByAge,
            Event::Login => Kept::BySize,
            Event::Decision | Event::Challenge if is_denied => {
                let by = self.by.as_ref();
                let denial = Denial {
                    client_ip: identity.client_ip.clone(),
                    action: request.action.clone(),
                    namespace: request.namespace.clone(),
                    decision: self.decision,
                    policy: by.and_then(|decision| Some(decision.by.as_deref()?.policy.clone())),
                    rule: by.and_then(|decision| Some(decision.rule.as_deref()?.to_owned())),
                };
                let reference = if request.reference.is_empty() { &request.digest } else { &request.reference };
                Kept::Counted(denial, reference.clone())
            }
            Event::Decision | Event::Challenge if is_read => Kept::BySize,
            Event::Decision | Event::Challenge => Kept::ByAge,
        }
    }
}

/// Returns the message of a decision of policy.
fn message(decision: &Decision, beyond: Option<&Identity>) -> Option<String> {
    match beyond {
        Some(bearer) => Some(format!("beyond the scope of the token of {bearer}")),
        None => decision.message.as_deref().map(str::to_owned),
    }
}

impl Decisions {
    /// Creates an empty collection.
    pub(super) fn new(audit: &Audit, request_id: &RequestId, purpose: Purpose) -> Self {
        let lines = audit.is_on().then(Arc::default);
        Self { audit: audit.clone(), request_id: request_id.clone(), purpose, lines, shared: Arc::default() }
    }

    fn add(&self, decided: impl FnOnce() -> Decided) {
        if let Some(lines) = &self.lines {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(decided());
        }
    }

    /// Returns the time that rules see.
    pub(super) fn now(&self) -> &Now {
        &self.shared.now
    }

    /// Returns true if decisions are recorded at all.
    pub(super) const fn are_recorded(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds to the last line the first of the tags that the request would delete, and their number. Adds the decision
    /// about the tags, if that is the one that counts.
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

    /// Adds a decision of policy. `beyond` is the bearer of a token whose scope does not cover the action.
    pub(super) fn policy(
        &self,
        identity: &Identity,
        action: &Action,
        arrival: Arrival<'_>,
        decision: &Decision,
        beyond: Option<&Identity>,
    ) {
        self.add(|| {
            let mut request = policy::Request::of(action, arrival.listener, arrival.upstream);
            let tag_count = request.shorten_tags(decision.tag.as_deref());
            Decided {
                event: Event::Decision,
                identity: identity.facts(),
                request,
                tag_count,
                owner_unknown: action.target().upload.is_some() && self.shared.owner_unknown.load(Ordering::Relaxed),
                decision: decision.effect.as_str(),
                by: Some(decision.clone()),
                message: message(decision, beyond),
                image: None,
            }
        });
    }

    /// Notes that a rule waits for the age of the image.
    pub(super) fn await_image(&self) {
        self.shared.awaits_image.store(true, Ordering::Relaxed);
    }

    /// Returns true if a rule waits for the age of the image.
    pub(super) fn awaits_image(&self) -> bool {
        self.shared.awaits_image.load(Ordering::Relaxed)
    }

    /// Adds the image of a cache to the last line, which is about its pull. The decision that was made with its age takes
    /// the place of the one before.
    pub(super) fn image(
        &self,
        digest: &Digest,
        first_seen_at: Option<Timestamp>,
        decision: &Decision,
        beyond: Option<&Identity>,
    ) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.last_mut() else { return };
        let first_seen_at = first_seen_at.map(|time| time.to_string());
        line.image = Some(Seen { digest: digest.to_string(), first_seen_at });
        line.decision = decision.effect.as_str();
        line.message = message(decision, beyond);
        line.by = Some(decision.clone());
    }

    /// Says that the decisions that follow are made without the owner of the request's upload: no rule asks for the owner.
    pub(super) fn without_upload_owner(&self) {
        self.shared.owner_unknown.store(true, Ordering::Relaxed);
    }

    /// Adds the owner of the upload to the last line. The owner was read after the decision.
    pub(super) fn add_upload_owner(&self, owner: &str) {
        if let Some(lines) = &self.lines
            && let Some(line) = lines.lock().unwrap_or_else(PoisonError::into_inner).last_mut()
        {
            owner.clone_into(&mut line.request.upload_owner);
            line.owner_unknown = false;
        }
    }

    /// Adds that a client was asked to log in, before any decision of policy.
    pub(super) fn challenged(&self, identity: &Identity, action: &Action, why: &str) {
        self.add(|| Decided {
            event: Event::Challenge,
            identity: identity.facts(),
            request: policy::Request::of(action, self.purpose.listener(), ""),
            tag_count: None,
            owner_unknown: false,
            decision: "deny",
            by: None,
            message: Some(why.to_owned()),
            image: None,
        });
    }

    /// Adds a login: one that succeeded at `/token`, or one that failed at any endpoint.
    pub(super) fn login(&self, identity: &Identity, endpoint: &Endpoint, failed: Option<String>) {
        self.add(|| Decided {
            event: Event::Login,
            identity: identity.facts(),
            request: match endpoint {
                Endpoint::Action(action) => policy::Request::of(action, self.purpose.listener(), ""),
                Endpoint::Token => {
                    policy::Request { action: endpoint.as_str().to_owned(), ..policy::Request::default() }
                }
            },
            tag_count: None,
            owner_unknown: false,
            decision: if failed.is_some() { "deny" } else { "allow" },
            by: None,
            message: failed,
            image: None,
        });
    }

    /// Adds a connection whose client certificate was refused.
    pub(super) fn handshake(&self, client: IpAddr, why: String) {
        self.add(|| Decided {
            event: Event::Login,
            identity: Identity::anonymous(client).facts(),
            request: policy::Request { action: "handshake".to_owned(), ..policy::Request::default() },
            tag_count: None,
            owner_unknown: false,
            decision: "deny",
            by: None,
            message: Some(why),
            image: None,
        });
    }

    /// Writes the decisions, with the status of the answer. An error means that the record cannot be written, and that the
    /// configuration lets nothing go unrecorded.
    pub(super) fn write(&self, status: u16) -> Result<(), NotRecording> {
        self.gather(status, None)?.into_iter().try_for_each(Gathered::write)
    }

    /// Writes the decisions as [`Decisions::write`] does, with those of all requests that can go on now. `from` is how a cache
    /// answered.
    pub(super) async fn write_together(&self, status: u16, from: Option<&FromCache>) -> Result<(), NotRecording> {
        if self.lines.is_none() {
            return Ok(());
        }
        let gathered = self.gather(status, from)?;
        // the other requests of this thread add their lines meanwhile
        tokio::task::yield_now().await;
        gathered.into_iter().try_for_each(Gathered::write)
    }

    fn gather(&self, status: u16, from: Option<&FromCache>) -> Result<Vec<Gathered>, NotRecording> {
        let Some(lines) = &self.lines else { return Ok(Vec::new()) };
        let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        let mut gathered = Vec::with_capacity(lines.len());
        let decided_at = self.shared.now.asked().map(|now| now.to_string());
        for line in lines {
            let by = line.by.as_ref();
            let origin = by.and_then(|decision| decision.by.as_deref());
            let message = line.message.as_deref();
            let from = from.filter(|_| line.event == Event::Decision && !line.request.upstream.is_empty());
            let written = Line {
                event: line.event,
                request_id: self.request_id.as_str(),
                identity: &line.identity,
                request: &line.request,
                tag_count: line.tag_count,
                upload_owner_unknown: line.owner_unknown,
                image: line
                    .image
                    .as_ref()
                    .map(|image| SeenImage { digest: &image.digest, first_seen_at: image.first_seen_at.as_deref() }),
                provisional: by.is_some_and(|decision| decision.provisional),
                cache: from.map(|from| from.served.as_str()),
                upstream: from.and_then(|from| from.upstream.as_deref()),
                decided_at: decided_at.as_deref().filter(|_| line.event == Event::Decision),
                decision: line.decision,
                policy: origin.map(|origin| origin.policy.as_str()),
                rule: by.and_then(|decision| decision.rule.as_deref()),
                policy_sha256: origin.map(|origin| origin.sha256.as_str()),
                message: message.map(|message| &message[..message.floor_char_boundary(LONGEST_MESSAGE)]),
                status,
            };
            gathered.extend(self.audit.gather(&written, line.kept())?);
        }
        Ok(gathered)
    }
}
