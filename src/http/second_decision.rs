//! Decides about a pull of a manifest of a cache again, once its digest and its age are known.

use jiff::Timestamp;

use super::{authorize, call::Call, failure::Failure};
use crate::{action::Action, oci::Digest};

impl Call<'_> {
    /// Returns true if a rule about this pull waits for the age of the image, so that [`Call::authorize_image`] must be asked
    /// before any byte or digest reaches the client. Costs a load of a flag.
    pub(super) fn needs_second_decision(&self) -> bool {
        self.decisions.awaits_image()
    }

    /// Decides about `action`, the pull of a manifest that was allowed before, with the digest and with the time at which
    /// this registry first saw it: milliseconds since 1970 by the store's clock. An error is final: no other digest may be
    /// served in its place.
    pub(super) fn authorize_image(
        &self,
        action: &Action,
        digest: &Digest,
        first_seen_at_ms: u64,
    ) -> Result<(), Failure> {
        let first_seen_at = time(first_seen_at_ms);
        let (identity, in_scope) = self.caller.effective_identity(action);
        let policy = self.snapshot.policy();
        let decision = policy.authorize_image(identity, action, self.arrival(action), first_seen_at);
        self.service.metrics.record_decision(decision.effect.as_str());
        let beyond = (!in_scope).then_some(&self.caller.identity);
        self.decisions.image(digest, first_seen_at, &decision, beyond);
        if decision.allows() { Ok(()) } else { Err(authorize::refusal(self, identity, action, &decision)) }
    }

    /// Returns true if one of the repository's `cooldown_exceptions` holds for `action`, a pull of a manifest that was first
    /// seen at this time, as above.
    pub(super) fn is_exempt_from_cooldown(&self, action: &Action, first_seen_at_ms: u64) -> bool {
        let (identity, _) = self.caller.effective_identity(action);
        let (policy, first_seen_at) = (self.snapshot.policy(), time(first_seen_at_ms));
        policy.is_exempt_from_cooldown(identity, action, self.arrival(action), first_seen_at)
    }
}

/// Returns a time of the store's clock. `None`: the time is beyond all calendars, and a rule that asks for it fails.
fn time(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}
