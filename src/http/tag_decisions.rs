//! Decides about the tags that a delete by digest takes along, and adds them to the request's line of the record.

use std::sync::{Mutex, PoisonError};

use super::{authorize, call::Call, failure::Failure};
use crate::{
    action::Action,
    identity::Identity,
    oci::{Digest, Name, Reference, Tag},
    policy::{Decision, worse},
};

/// The number of tags that are remembered for the record, which names fewer.
const MOST_NAMED: usize = 100;

/// The decisions about the tags of one delete by digest. Dropping this value writes them into the request's line.
pub(super) struct TagDecisions<'a> {
    call: &'a Call<'a>,
    identity: &'a Identity,
    action: Action,
    has_rules: bool,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    /// The tag of the last look.
    last: Option<Tag>,
    /// The number of tags in this pass.
    count: usize,
    /// The first of them.
    tags: Vec<String>,
    /// The decision that counts so far.
    decision: Option<Decision>,
}

impl<'a> TagDecisions<'a> {
    pub(super) fn new(call: &'a Call<'a>, name: &Name, digest: &Digest) -> Self {
        let action = Action::DeleteManifest { name: name.clone(), reference: Reference::Digest(*digest) };
        let (identity, _) = call.caller.effective_identity(&action);
        let has_rules = call.snapshot.policy().has_rules(name);
        Self { call, identity, action, has_rules, looked: Mutex::default() }
    }

    /// Returns true if the tags have to be read: rules decide about them, or the record names them.
    pub(super) fn are_needed(&self) -> bool {
        self.has_rules || self.call.decisions.are_recorded()
    }

    /// Decides about the removal of a tag. The registry asks in the order of the tags, and may go through them again.
    pub(super) fn may_go(&self, tag: &Tag) -> bool {
        let decision = authorize::of_tag(self.call, self.identity, &self.action, tag);
        let allows = decision.allows();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.last.as_ref().is_some_and(|last| last >= tag) {
            (looked.count, looked.tags) = (0, Vec::new());
        }
        looked.last = Some(tag.clone());
        looked.count += 1;
        if looked.tags.len() < MOST_NAMED {
            looked.tags.push(tag.as_str().to_owned());
        }
        looked.decision = Some(match looked.decision.take() {
            Some(before) => worse(before, decision),
            None => decision,
        });
        allows
    }

    /// Returns the answer for the client, if a tag may not be removed.
    pub(super) fn refusal(&self) -> Option<Failure> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = looked.decision.as_ref().filter(|decision| !decision.allows())?;
        Some(authorize::refusal(self.call, self.identity, &self.action, refused))
    }
}

impl Drop for TagDecisions<'_> {
    fn drop(&mut self) {
        let Looked { count, tags, decision, .. } =
            std::mem::take(&mut *self.looked.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(decision) = decision {
            self.call.decisions.note_tags(tags, count, decision);
        }
    }
}
