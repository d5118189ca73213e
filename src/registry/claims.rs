//! Claims: the versions of a tag form one order, and so do those of a manifest.
//!
//! A writer claims the place after the newest version that it saw before it writes the next version. The claim is
//! created exclusively under a key that names the version seen. Its content names the ordinal of the version to come.
//! If the place is taken, the writer claims the place after that ordinal. So no two writers have one ordinal, and a
//! version that lands late lands below every version whose writer came later. A claim that lands late finds its place
//! taken.
//!
//! | writer | behaviour if the place is taken |
//! | --- | --- |
//! | a push, a delete of a tag or manifest | claims the next one |
//! | a push or delete under a condition | finishes a younger claim of anybody, and looks again: see `tags/conditional.rs` |
//! | a push or delete of an immutable tag | finishes the claim, if it is of such a push or delete as well, and looks again: the claim is the commit |
//! | scrub | passes over claims that are older than a lease, and leaves the thing to the writer of a younger one |
//! | a delete of a manifest, for a tag that means it | deletes the tag at the ordinal of the claim, where the claim's own version wins |
//!
//! Scrub frees a claim below a version that is older than a lease. Before scrub frees the last tombstone of a tag, it
//! closes the order: it claims the place after the tombstone with a claim that has no ordinal. A writer that meets a
//! closed order begins a new one at the first place. Writers that saw no version at all meet there.

use super::{Error, Result, core::Core};
use crate::{
    oci::{Digest, Name, Tag},
    records::{
        Actor, Claim, json,
        key::{Ordinal, Prefix, RepositoryKey, Suffix, Version},
    },
    storage::{
        Entry, StorageError,
        mutation::{Mutation, mutated},
    },
};

/// The number of tries for a place. In each failed try, another writer has the place.
pub(super) const TRIES: usize = 200;

/// The number of claims that one listing asks for.
const MANY: usize = 1000;

/// The meaning of a tag: a version of a manifest, or nothing.
pub(super) type Target = Option<(Digest, Ordinal)>;

/// The versions of one tag or manifest, and the claims on them.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    Tag(&'a Name, &'a Tag),
    Manifest(&'a Name, &'a Digest),
}

impl<'a> Order<'a> {
    fn versions(self) -> Prefix<'a> {
        match self {
            Self::Tag(name, tag) => Prefix::Tag(name, tag),
            Self::Manifest(name, digest) => Prefix::Manifest(name, digest),
        }
    }

    fn claims(self) -> Prefix<'a> {
        match self {
            Self::Tag(name, tag) => Prefix::TagClaims(name, tag),
            Self::Manifest(name, digest) => Prefix::ManifestClaims(name, digest),
        }
    }

    /// Returns the key of the claim on the place after version `after`, or on the first place. Only one attempt can
    /// create the claim.
    pub(super) fn claim(self, after: Option<Ordinal>) -> String {
        let after = after.unwrap_or(Ordinal(0));
        match self {
            Self::Tag(name, tag) => RepositoryKey::TagClaim(tag.clone(), after).of(name),
            Self::Manifest(name, digest) => RepositoryKey::ManifestClaim(*digest, after).of(name),
        }
    }
}

/// The outcome of a try to take a place.
pub(super) enum Taken {
    /// The place was free.
    Ours,
    /// Another writer has the place.
    ByAnother(Claim),
    /// Another writer had the place, and scrub has freed the claim since.
    Freed,
}

impl Core {
    /// Claims the next place for a version. Returns its ordinal.
    ///
    /// Before the caller writes the version, it checks that the attempt is not slow ([`super::core::Attempt::was_slow`]),
    /// unless the version loses to all others of its ordinal. After half a lease the place may have been another
    /// writer's. Scrub may have freed that claim, below a version that this call did not see.
    ///
    /// # Errors
    /// [`Error::TooSlow`] after [`TRIES`] tries.
    pub(super) async fn claim_next(&self, order: Order<'_>, target: Target, by: &Actor) -> Result<Ordinal> {
        for _ in 0..TRIES {
            let newest = self.store.list(&order.versions().to_string(), None, 1).await?;
            let seen = newest.first().and_then(|entry| Version::at_end_of(&entry.key)).map(|version| version.ordinal);
            if let Some(ordinal) = self.claim_after(order, seen, target, by).await? {
                return Ok(ordinal);
            }
        }
        Err(Error::TooSlow)
    }

    /// Claims the first free place after version `seen`, as [`Core::claim_next`] does. Returns `None` if scrub
    /// freed a claim meanwhile: then the caller looks again.
    pub(super) async fn claim_after(
        &self,
        order: Order<'_>,
        seen: Option<Ordinal>,
        target: Target,
        by: &Actor,
    ) -> Result<Option<Ordinal>> {
        self.claim_over(order, seen, &|_| true, target, by).await
    }

    /// Claims the place after version `seen`. If that is taken, and `passes` accepts every claim in the way, it claims
    /// the first free place after those. Returns `None` if `passes` refuses a claim, or if scrub freed a claim
    /// meanwhile.
    pub(super) async fn claim_over(
        &self,
        order: Order<'_>,
        seen: Option<Ordinal>,
        passes: &(dyn Fn(&Entry) -> bool + Sync),
        target: Target,
        by: &Actor,
    ) -> Result<Option<Ordinal>> {
        let mut after = seen;
        for _ in 0..TRIES {
            let ordinal = self.ordinal_after(after, seen);
            let key = order.claim(after);
            let claim = self.new_claim(Some(ordinal), false, target, by);
            if mutated(Mutation::ClaimsNotLookedAt) || self.store.create_new(&key, json(&claim)).await? {
                return Ok(Some(ordinal));
            }
            let from = after.and_then(|after| after.0.checked_sub(1)).map(|before| order.claim(Some(Ordinal(before))));
            let others = self.store.list(&order.claims().to_string(), from.as_deref(), MANY).await?;
            let there = others.first().is_some_and(|first| first.key == key);
            let Some(last) = others.last().filter(|_| there && others.iter().all(passes)) else { return Ok(None) };
            // continues after the last claim at once, however many claims there are: abandoned pushes leave theirs
            let mut other = self.read_claim(&last.key).await?;
            if last.key != key && other.as_ref().is_some_and(|other| other.ordinal.is_none()) {
                other = self.read_claim(&key).await?;
            }
            let Some(other) = other else { return Ok(None) };
            after = other.ordinal.map(Ordinal);
        }
        Err(Error::TooSlow)
    }

    /// Returns the ordinal of a version at the place after `after`. A new order begins above the closed one.
    pub(super) fn ordinal_after(&self, after: Option<Ordinal>, seen: Option<Ordinal>) -> Ordinal {
        match (after, seen) {
            (None, Some(closed)) => Ordinal(self.clock.now_ms().max(closed.0.saturating_add(2))),
            (after, _) => Ordinal::after(after, self.clock.now_ms()),
        }
    }

    pub(super) fn new_claim(&self, ordinal: Option<Ordinal>, once: bool, target: Target, by: &Actor) -> Claim {
        Claim {
            ordinal: ordinal.map(|ordinal| ordinal.0),
            once,
            digest: target.map(|(digest, _)| digest),
            version: target.map(|(_, version)| version.0),
            attempt: Suffix::random(),
            at: self.clock.time_ms(),
            by: by.clone(),
        }
    }

    pub(super) async fn take(&self, order: Order<'_>, after: Option<Ordinal>, claim: &Claim) -> Result<Taken> {
        let key = order.claim(after);
        if mutated(Mutation::ClaimsNotLookedAt) || self.store.create_new(&key, json(claim)).await? {
            return Ok(Taken::Ours);
        }
        Ok(self.read_claim(&key).await?.map_or(Taken::Freed, Taken::ByAnother))
    }

    async fn read_claim(&self, key: &str) -> Result<Option<Claim>> {
        let Some(content) = self.store.get(key).await? else { return Ok(None) };
        let damaged = |error: serde_json::Error| StorageError::damaged("get", key, error.to_string());
        Ok(Some(serde_json::from_slice(&content).map_err(damaged)?))
    }
}
