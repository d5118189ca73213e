//! Writes a tag under a condition on what the tag means, decided by the claim on the next place in the tag's order.
//!
//! The claim is the commit, as for an immutable tag. A writer that finds the place taken finishes the claim of the other
//! writer, and looks again. So no write comes between the look that the condition holds for and the claim. A claim that is
//! older than a lease, and no commit, is of a writer that has given up. Its version stays below.

use std::time::Duration;

use super::Tags;
use crate::{
    oci::{Digest, Name, Reference, Tag},
    records::{Claim, key::TagVersion},
    registry::{
        Error, Result,
        claims::{TRIES, Target},
        core::Attempt,
    },
};

/// A set of meanings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meanings {
    /// Every meaning.
    Any,
    /// These digests.
    Of(Vec<Digest>),
}

/// A condition on what a tag means, or on whether a manifest exists (RFC 9110, section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The meaning has to be one of these: `If-Match`.
    pub is: Option<Meanings>,
    /// The meaning must be none of these: `If-None-Match`.
    pub is_not: Option<Meanings>,
}

/// A tag that is written under a condition.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Conditional {
    pub(in crate::registry) tag: Tag,
    pub(in crate::registry) condition: Condition,
    /// True if the tag is immutable.
    pub(in crate::registry) immutable: bool,
}

impl Meanings {
    fn have(&self, meant: Option<&Digest>) -> bool {
        match self {
            Self::Any => meant.is_some(),
            Self::Of(digests) => meant.is_some_and(|meant| digests.contains(meant)),
        }
    }
}

impl Condition {
    /// Returns true if there is no condition.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Returns true if the condition holds for a meaning, or for none.
    #[must_use]
    pub fn holds(&self, meant: Option<&Digest>) -> bool {
        self.is.as_ref().is_none_or(|is| is.have(meant)) && !self.is_not.as_ref().is_some_and(|not| not.have(meant))
    }

    /// Checks the condition.
    ///
    /// # Errors
    /// [`Error::Condition`] if it does not hold.
    pub(in crate::registry) fn check(&self, name: &Name, reference: &Reference, meant: Option<Digest>) -> Result<()> {
        if self.holds(meant.as_ref()) {
            return Ok(());
        }
        Err(Error::Condition { name: name.clone(), reference: reference.clone(), digest: meant.map(Box::new) })
    }
}

impl Tags {
    /// Writes a new version of a tag if its condition holds, for an attempt. From then on the tag
    /// means `target`, or is deleted. It is no error if the tag means that already, since the attempt may be the second.
    ///
    /// # Errors
    /// [`Error::Condition`], [`Error::TagImmutable`], and [`Error::TooSlow`] if the attempt took too long.
    pub(in crate::registry) async fn write_if(
        &self,
        name: &Name,
        conditional: &Conditional,
        target: Target,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let Conditional { tag, condition, immutable } = conditional;
        let wanted = target.map(|(digest, _)| digest);
        let age = |claim: &Claim| Duration::from_millis(self.core.clock.time_ms().saturating_sub(claim.at));
        // the writer of an older claim has given up, unless the claim is the commit
        let decides = |claim: &Claim| claim.once || age(claim) <= attempt.lease();
        for _ in 0..TRIES {
            let newest = self.newest_meaning(name, tag).await?;
            let meant = self.meant(name, newest).await?;
            if meant != wanted {
                condition.check(name, &Reference::Tag(tag.clone()), meant)?;
                if let Some(digest) = meant.filter(|_| *immutable && wanted.is_some()) {
                    return Err(Error::tag_immutable(name, tag, digest));
                }
            } else if wanted.is_none() {
                return Ok(());
            }
            let seen = newest.map(|newest| newest.ordinal);
            if let Some(ordinal) = self.claim_or_finish(name, tag, seen, target, attempt, decides).await? {
                return self.write_version(name, tag, TagVersion { ordinal, target }, attempt.provenance()).await;
            }
        }
        Err(Error::TooSlow)
    }
}
