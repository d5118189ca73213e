//! Decides a request that changes several tags once for each of them, as if its path named that tag.
//!
//! So a rule that compares `request.reference` with a tag holds however the tag is reached. `?tag=` of a push reaches
//! tags, and so does a delete of the digest that they mean.

use super::{
    decision::{Decision, Effect},
    input::Request,
};

/// The number of tags of one request that the record names.
const MOST_NAMED: usize = 20;

impl Request {
    /// Returns whether the request changes tags that its path does not name.
    fn changes_more_tags(&self) -> bool {
        match self.tags.as_slice() {
            [] => false,
            [tag] => *tag != self.reference,
            _ => true,
        }
    }

    fn is_delete(&self) -> bool {
        self.action == "delete-manifest"
    }

    /// Returns the request as rules see it for one of the tags that it changes; `None`: for what its path names.
    ///
    /// A push keeps all its tags in `request.tags`. A delete has none there: a manifest may have a hundred thousand tags,
    /// and a rule that went over all of them for each of them would take minutes.
    pub(super) fn for_tag(&self, tag: Option<&str>) -> Self {
        let mut one = self.clone();
        if self.is_delete() {
            one.tags.clear();
        }
        if let Some(tag) = tag {
            tag.clone_into(&mut one.reference);
        }
        one
    }

    /// Keeps as many tags as the record names, `decisive` among them. Returns how many there were, where the request
    /// changes tags that its path does not name.
    pub fn shorten_tags(&mut self, decisive: Option<&str>) -> Option<usize> {
        let count = self.changes_more_tags().then_some(self.tags.len());
        let is_cut_off = |tag: &str| self.tags.iter().skip(MOST_NAMED).any(|cut| cut == tag);
        if let Some(tag) = decisive.filter(|tag| is_cut_off(tag)) {
            self.tags[MOST_NAMED - 1] = tag.to_owned();
        }
        self.tags.truncate(MOST_NAMED);
        count
    }
}

/// Decides a request by `decide`, once for each tag that it changes. A delete by digest is decided for the digest first.
/// The first refusal counts; else the first that would be one; else the first.
pub(super) fn decide(request: &Request, decide: impl Fn(&Request) -> Decision) -> Decision {
    if !request.changes_more_tags() {
        return decide(request);
    }
    let mut one = request.for_tag(None);
    let mut all = request.is_delete().then(|| decide(&one));
    for tag in &request.tags {
        if all.as_ref().is_some_and(|all| !all.allows()) {
            break;
        }
        one.reference.clone_from(tag);
        let decision = for_tag(decide(&one), tag);
        all = Some(match all {
            Some(before) => worse(before, decision),
            None => decision,
        });
    }
    all.unwrap_or_else(|| decide(request))
}

/// Notes the tag for which something was decided. A repository that does not exist has none.
pub(super) fn for_tag(decision: Decision, tag: &str) -> Decision {
    let tag = (decision.effect != Effect::NotCovered).then(|| tag.into());
    Decision { tag, ..decision }
}

/// Returns the decision that counts for a request, of one made before and one made later.
#[must_use]
pub fn worse(before: Decision, decision: Decision) -> Decision {
    let stays = !before.allows() || decision.effect == Effect::Allow;
    if stays || before.effect == Effect::WouldDeny && decision.allows() { before } else { decision }
}
