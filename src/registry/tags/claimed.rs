//! Writes versions of tags whose claim is the commit, and those of deletes that leave a tag to the push in their way.

use super::Tags;
use crate::{
    oci::{Name, Tag},
    records::{
        Actor, Claim, Provenance, json,
        key::{Ordinal, TagVersion},
    },
    registry::{
        Error, Result,
        claims::{Order, TRIES, Taken, Target},
        core::Attempt,
    },
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

impl Tags {
    /// Closes the order of a tag after its last tombstone, so that no writer writes above the tombstone any more.
    /// Returns whether this call closed it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn close(&self, name: &Name, tag: &Tag, tombstone: Ordinal, by: &Actor) -> Result<bool> {
        let closed = self.core.new_claim(None, false, None, by);
        let key = Order::Tag(name, tag).claim(Some(tombstone));
        Ok(mutated(Mutation::OrderNotClosed) || self.core.store.create_new(&key, json(&closed)).await?)
    }

    /// Writes a new version of an immutable tag, for an attempt. From then on the tag means
    /// `target`, or is deleted.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] if the tag means another manifest. [`Error::TooSlow`] if the attempt took too long.
    pub(in crate::registry) async fn write_once(
        &self,
        name: &Name,
        tag: &Tag,
        target: Target,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let newest = self.newest_meaning(name, tag).await?;
            match target {
                Some((wanted, _)) => {
                    if let Some(digest) = self.meant(name, newest).await?.filter(|digest| *digest != wanted) {
                        return Err(Error::tag_immutable(name, tag, digest));
                    }
                }
                // another request has deleted the tag
                None if newest.is_none_or(|newest| newest.target.is_none()) => return Ok(()),
                None => {}
            }
            let seen = newest.map(|newest| newest.ordinal);
            if let Some(ordinal) = self.claim_or_finish(name, tag, seen, target, attempt, |claim| claim.once).await? {
                return self.write_version(name, tag, TagVersion { ordinal, target }, attempt.provenance()).await;
            }
        }
        Err(Error::TooSlow)
    }

    /// Claims the first place after version `seen` whose claim `decides` refuses, as a commit. Returns its ordinal.
    ///
    /// If a claim that `decides` accepts has the place, this finishes the version of that claim and returns `None`. It
    /// also returns `None` if scrub freed a claim. Then the caller looks again.
    pub(in crate::registry) async fn claim_or_finish(
        &self,
        name: &Name,
        tag: &Tag,
        seen: Option<Ordinal>,
        target: Target,
        attempt: &Attempt<'_>,
        decides: impl Fn(&Claim) -> bool,
    ) -> Result<Option<Ordinal>> {
        let order = Order::Tag(name, tag);
        let mut after = seen;
        for _ in 0..TRIES {
            let ordinal = self.core.ordinal_after(after, seen);
            let taken =
                self.core.take(order, after, &self.core.new_claim(Some(ordinal), true, target, attempt.by)).await?;
            // a late claim is a commit all the same, unless its place was freed before; the next attempt finds out
            attempt.claimed_in_time()?;
            match taken {
                Taken::Ours => return Ok(Some(ordinal)),
                Taken::Freed => return Ok(None),
                Taken::ByAnother(claim) => match claim.version().filter(|_| decides(&claim)) {
                    Some(version) => {
                        self.finish(name, tag, &claim, version).await?;
                        return Ok(None);
                    }
                    None => after = claim.ordinal.map(Ordinal),
                },
            }
        }
        Err(Error::TooSlow)
    }

    /// Writes the version that another writer's claim commits, exactly as that writer would.
    async fn finish(&self, name: &Name, tag: &Tag, claim: &Claim, version: TagVersion) -> Result<()> {
        let fact = json(&Provenance { at: claim.at, by: claim.by.clone() });
        self.write_version(name, tag, version, fact).await
    }

    /// Deletes a tag whose version `seen` means a manifest that is being deleted. It does nothing if `means` refuses
    /// the tag's newest version by then. A push that has the place wins, however late its version comes.
    pub(in crate::registry) async fn delete_with_manifest(
        &self,
        name: &Name,
        tag: &Tag,
        seen: TagVersion,
        means: impl Fn(TagVersion) -> bool,
        by: &Actor,
    ) -> Result<()> {
        let order = Order::Tag(name, tag);
        let mut seen = seen;
        for _ in 0..TRIES {
            let ordinal = Ordinal::after(Some(seen.ordinal), 0);
            let claim = self.core.new_claim(Some(ordinal), false, None, by);
            let ordinal = match self.core.take(order, Some(seen.ordinal), &claim).await? {
                Taken::Ours => Some(ordinal),
                Taken::ByAnother(other) => match other.committed() {
                    Some(version) => {
                        self.finish(name, tag, &other, version).await?;
                        None
                    }
                    None => other.ordinal.map(Ordinal),
                },
                Taken::Freed => None,
            };
            if let Some(ordinal) = ordinal {
                let gone = TagVersion { ordinal, target: None };
                return self.write_version(name, tag, gone, self.core.provenance(by)).await;
            }
            match self.newest_meaning(name, tag).await?.filter(|newest| means(*newest)) {
                Some(newest) => seen = newest,
                None => return Ok(()),
            }
        }
        Err(Error::TooSlow)
    }

    /// Deletes a tag after the version `seen`, or after none, for scrub: it passes over claims that are `old`. Returns
    /// whether the tag is deleted. It is not if a push has the place, or may have it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end(
        &self,
        name: &Name,
        tag: &Tag,
        seen: Option<TagVersion>,
        old: &(dyn Fn(&Entry) -> bool + Sync),
        by: &Actor,
    ) -> Result<bool> {
        if mutated(Mutation::EndOfNoVersion) {
            return self.write(name, tag, None, &self.core.begin(by).await?).await.map(|()| true);
        }
        let old = |entry: &Entry| old(entry) || mutated(Mutation::EndOverAYoungClaim);
        let seen = seen.map(|seen| seen.ordinal);
        let Some(ordinal) = self.core.claim_over(Order::Tag(name, tag), seen, &old, None, by).await? else {
            return Ok(false);
        };
        self.write_version(name, tag, TagVersion { ordinal, target: None }, self.core.provenance(by)).await?;
        Ok(true)
    }
}
