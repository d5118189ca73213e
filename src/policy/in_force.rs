//! The policies in force: they decide about requests and images.

use jiff::Timestamp;

use super::{
    build,
    cooldown::{self, Exceptions},
    decide::{allowed_otherwise, decide},
    decision::Decision,
    each_tag,
    explain::Explanation,
    expression::Values,
    image::Image,
    input::{self, Input, Request},
    pool::PolicyIndex,
    retention::{Retention, RetentionDecision},
    retention_explain::RetentionExplanation,
    times::{Arrival, FirstSeen, Now, Times},
};
use crate::{
    action::Action,
    config::Config,
    diagnostics::{Problems, Source},
    identity::{Facts, Identity},
    oci::{Name, Tag},
};

/// The rules in force: immutable, to be shared behind an `Arc`.
#[derive(Debug)]
pub struct Policy {
    index: PolicyIndex,
    retention: Retention,
    exceptions: Exceptions,
    warnings: Vec<String>,
    open: Vec<String>,
}

/// An action that policy allowed.
#[derive(Debug)]
pub struct Permit {
    action: Action,
}

/// A decision about an action.
#[derive(Debug)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// The permit to do it, or the action that may not be done.
    pub outcome: Result<Permit, Action>,
}

impl Permit {
    /// Returns the allowed action.
    #[must_use]
    pub const fn action(&self) -> &Action {
        &self.action
    }

    /// Returns the allowed action, to do it.
    #[must_use]
    pub fn into_action(self) -> Action {
        self.action
    }
}

impl Policy {
    /// Checks all policies, and builds what decides about requests.
    ///
    /// # Errors
    /// All problems of all sources at once: shape, syntax, names, kinds of values, rules without effect,
    /// expressions beyond the limits, tests that fail.
    pub fn build(config: &Config, files: &[Source]) -> Result<Self, Problems> {
        let built = build::build(config, files);
        if !built.problems.is_empty() {
            return Err(Problems::new(built.problems));
        }
        let index = PolicyIndex::new(&built.policies, config.repository.keys());
        let open = open_to_everyone(&index);
        Ok(Self {
            index,
            retention: Retention::new(built.retention),
            exceptions: built.exceptions,
            warnings: [built.warnings, built.together].concat(),
            open,
        })
    }

    pub(super) const fn index(&self) -> &PolicyIndex {
        &self.index
    }

    /// Returns warnings for the operator.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Decides about an action. Takes well under a microsecond where there are only defaults, and about one for each rule
    /// otherwise. A pull of a manifest of a cache is decided without its age: see [`Decision::provisional`].
    #[must_use]
    pub fn authorize(&self, identity: &Identity, action: Action, arrival: Arrival<'_>) -> Verdict {
        let decision = self.decide_action(identity, &action, arrival, None);
        let outcome = if decision.allows() { Ok(Permit { action }) } else { Err(action) };
        Verdict { decision, outcome }
    }

    /// Decides about a pull of a manifest of a cache again: `first_seen_at` is the time at which this registry first saw it.
    /// `None`: that time cannot be known.
    #[must_use]
    pub fn authorize_image(
        &self,
        identity: &Identity,
        action: &Action,
        arrival: Arrival<'_>,
        first_seen_at: Option<Timestamp>,
    ) -> Decision {
        let first_seen = first_seen_at.map_or(FirstSeen::Unknown, FirstSeen::At);
        self.decide_action(identity, action, arrival, Some(first_seen))
    }

    /// Returns true if one of the repository's `cooldown_exceptions` holds for `action`, a pull of a manifest of a cache. A
    /// condition that fails gives no exception. `first_seen_at` is as in [`Policy::authorize_image`].
    #[must_use]
    pub fn is_exempt_from_cooldown(
        &self,
        identity: &Identity,
        action: &Action,
        arrival: Arrival<'_>,
        first_seen_at: Option<Timestamp>,
    ) -> bool {
        let exceptions = self.exceptions.of(action.name().map_or("", |name| name.as_str()));
        if exceptions.is_empty() {
            return false;
        }
        let request = Request::of(action, arrival.listener, arrival.upstream);
        let client_ip = identity.client_ip.to_string();
        let times = request.times(arrival.now, Some(first_seen_at.map_or(FirstSeen::Unknown, FirstSeen::At)));
        cooldown::one_holds(exceptions, &Values::new(&Input::of(identity, &client_ip, &request, times)))
    }

    fn decide_action(
        &self,
        identity: &Identity,
        action: &Action,
        Arrival { listener, upstream, now }: Arrival<'_>,
        first_seen: Option<FirstSeen>,
    ) -> Decision {
        let name = action.name().map_or("", |name| name.as_str());
        let otherwise = allowed_otherwise(action.as_str(), listener);
        let Some(pools) = self.index.of(name) else { return Decision::not_covered() };
        pools.constant(otherwise).unwrap_or_else(|| {
            let request = Request::of(action, listener, upstream);
            let client_ip = identity.client_ip.to_string();
            let times = request.times(now, first_seen);
            each_tag::decide(&request, |request| {
                pools.decide(&Values::new(&Input::of(identity, &client_ip, request, times)), otherwise)
            })
        })
    }

    /// Returns whether a rule about this repository asks for `request.upload_owner`. If this process does not remember
    /// the upload, that costs a read of the store.
    #[must_use]
    pub fn asks_for_upload_owner(&self, name: &Name) -> bool {
        self.index.of(name.as_str()).is_some_and(|pools| pools.ask_for(input::UPLOAD_OWNER))
    }

    /// Decides about a request as records and tests write it, as [`Policy::authorize`] does.
    #[must_use]
    pub fn decide(&self, identity: &Facts, request: &Request, times: Times<'_>) -> Decision {
        decide(&self.index, identity, request, times)
    }

    /// Decides whether `action`, a delete by digest that policy allowed for the digest, may take a tag along.
    #[must_use]
    pub fn decide_tag(&self, identity: &Identity, action: &Action, tag: &Tag, arrival: Arrival<'_>) -> Decision {
        let mut request = Request::of(action, arrival.listener, arrival.upstream);
        let times = Times { now: arrival.now, first_seen: FirstSeen::NoImage };
        tag.as_str().clone_into(&mut request.reference);
        let decision = self.index.of(&request.namespace).map_or_else(Decision::not_covered, |pools| {
            let client_ip = identity.client_ip.to_string();
            pools
                .constant(false)
                .unwrap_or_else(|| pools.decide(&Values::new(&Input::of(identity, &client_ip, &request, times)), false))
        });
        each_tag::for_tag(decision, tag.as_str())
    }

    /// Returns whether rules, and not a default alone, decide about requests of a repository.
    #[must_use]
    pub fn has_rules(&self, name: &Name) -> bool {
        self.index.of(name.as_str()).is_some_and(|pools| pools.constant(false).is_none())
    }

    /// Returns whether a rule about a repository asks for `request.tags`, so that a request whose tags are not all known
    /// cannot be decided again.
    #[must_use]
    pub fn uses_tags(&self, namespace: &str) -> bool {
        self.index.of(namespace).is_some_and(|pools| pools.ask_for("request.tags"))
    }

    /// Explains the decision about a request.
    #[must_use]
    pub fn explain(&self, identity: &Facts, request: &Request, times: Times<'_>) -> Explanation {
        let decision = decide(&self.index, identity, request, times);
        let shown = request.for_tag(decision.tag.as_deref());
        let values = Values::new(&Input::written(identity, &shown, times));
        let tags = request.tags.len();
        Explanation { tags, ..Explanation::new(&decision, self.index.of(&request.namespace), &values) }
    }

    /// Returns the prefixes of names below which anyone may push, `*` for the names that no other prefix covers. A line of the
    /// log names them at the start.
    pub fn open_to_everyone(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(String::as_str)
    }

    /// Returns whether a retention rule that covers the repository names annotations. Scrub does not hold annotations for
    /// other rules, since annotations may be large.
    #[must_use]
    pub fn retention_reads_annotations(&self, repository: &Name) -> bool {
        self.retention.reads_annotations(repository)
    }

    /// Decides which images of a repository stay at the time `now`; `images` are all of its tags. None: no retention rule
    /// covers the repository, and everything stays. The time it takes grows with the images times the rules.
    #[must_use]
    pub fn retain(&self, repository: &Name, images: &[Image], now: Timestamp) -> Option<RetentionDecision> {
        self.retention.retain(repository, images, 0..images.len(), now)
    }

    /// Decides as `retain` does, but only about the images at the places `asked`, in that order. Rules do not read the
    /// annotations of the other images.
    #[must_use]
    pub fn retain_some(
        &self,
        repository: &Name,
        images: &[Image],
        asked: impl IntoIterator<Item = usize>,
        now: Timestamp,
    ) -> Option<RetentionDecision> {
        self.retention.retain(repository, images, asked, now)
    }

    /// Returns every rule that covers a repository with its outcome for every image; `images` are all of its tags. None: no
    /// retention rule covers the repository, and everything stays.
    #[must_use]
    pub fn explain_retention(
        &self,
        repository: &Name,
        images: &[Image],
        now: Timestamp,
    ) -> Option<RetentionExplanation> {
        RetentionExplanation::new(&self.retention, repository, images, now)
    }
}

/// Returns the prefixes below which a client without any known fact may push.
fn open_to_everyone(index: &PolicyIndex) -> Vec<String> {
    let facts = Facts { client_ip: "203.0.113.1".to_owned(), ..Facts::default() };
    let now = Now::default();
    let open = index.prefixes().into_iter().filter(|prefix| {
        let namespace = if *prefix == "*" { "anything" } else { prefix };
        let request = Request {
            action: "put-manifest".to_owned(),
            namespace: namespace.to_owned(),
            reference: "latest".to_owned(),
            ..Request::default()
        };
        let request = request.completed();
        let values = Values::new(&Input::written(&facts, &request, request.times(&now, None)));
        let pools = index.of(prefix);
        pools.is_some_and(|pools| pools.constant(false).unwrap_or_else(|| pools.decide(&values, false)).allows())
    });
    open.map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
