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
//! | a push or delete under a condition | finishes a younger claim of anybody, and looks again: see `conditional.rs` |
//! | a push or delete of an immutable tag | finishes the claim, if it is of such a push or delete as well, and looks again: the claim is the commit |
//! | scrub | passes over claims that are older than a lease, and leaves the thing to the writer of a younger one |
//! | a delete of a manifest, for a tag that means it | deletes the tag at the ordinal of the claim, where the claim's own version wins |
//!
//! Scrub frees a claim below a version that is older than a lease. Before scrub frees the last tombstone of a tag, it
//! closes the order: it claims the place after the tombstone with a claim that has no ordinal. A writer that meets a
//! closed order begins a new one at the first place. Writers that saw no version at all meet there.

use super::{Error, Registry, Result, attempt::Attempt};
use crate::{
    oci::{Digest, Name, Tag},
    records::{
        Actor, Claim, Provenance, json,
        key::{Ordinal, Prefix, RepositoryKey, Suffix, TagVersion, Version},
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
    fn claim(self, after: Option<Ordinal>) -> String {
        let after = after.unwrap_or(Ordinal(0));
        match self {
            Self::Tag(name, tag) => RepositoryKey::TagClaim(tag.clone(), after).of(name),
            Self::Manifest(name, digest) => RepositoryKey::ManifestClaim(*digest, after).of(name),
        }
    }
}

/// The outcome of a try to take a place.
enum Taken {
    /// The place was free.
    Ours,
    /// Another writer has the place.
    ByAnother(Claim),
    /// Another writer had the place, and scrub has freed the claim since.
    Freed,
}

impl Registry {
    /// Claims the next place for a version. Returns its ordinal.
    ///
    /// Before the caller writes the version, it checks that the attempt is not slow ([`Registry::was_slow`]), unless
    /// the version loses to all others of its ordinal. After half a lease the place may have been another writer's.
    /// Scrub may have freed that claim, below a version that this call did not see.
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

    /// Claims the first free place after version `seen`, as [`Registry::claim_next`] does. Returns `None` if scrub
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

    /// Closes the order of a tag after its last tombstone, so that no writer writes above the tombstone any more.
    /// Returns whether this call closed it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn close_tag(&self, name: &Name, tag: &Tag, tombstone: Ordinal, by: &Actor) -> Result<bool> {
        let closed = self.new_claim(None, false, None, by);
        let key = Order::Tag(name, tag).claim(Some(tombstone));
        Ok(mutated(Mutation::OrderNotClosed) || self.store.create_new(&key, json(&closed)).await?)
    }

    /// Returns the ordinal of a version at the place after `after`. A new order begins above the closed one.
    fn ordinal_after(&self, after: Option<Ordinal>, seen: Option<Ordinal>) -> Ordinal {
        match (after, seen) {
            (None, Some(closed)) => Ordinal(self.clock.now_ms().max(closed.0.saturating_add(2))),
            (after, _) => Ordinal::after(after, self.clock.now_ms()),
        }
    }

    fn new_claim(&self, ordinal: Option<Ordinal>, once: bool, target: Target, by: &Actor) -> Claim {
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

    async fn take(&self, order: Order<'_>, after: Option<Ordinal>, claim: &Claim) -> Result<Taken> {
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

    /// Checks that an immutable tag means no other manifest than `digest`.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] if it does.
    pub(super) async fn refuse_other_meaning(&self, name: &Name, tag: &Tag, digest: &Digest) -> Result<()> {
        match self.meant_digest(name, tag).await?.filter(|meant| meant != digest) {
            Some(digest) => Err(Error::TagImmutable { name: name.clone(), tag: tag.clone(), digest }),
            None => Ok(()),
        }
    }

    /// Returns the digest that a tag means, never from memory.
    pub(super) async fn meant_digest(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let newest = self.newest_meaning(name, tag).await?;
        self.meant(name, newest).await
    }

    /// Returns the digest that a tag's newest version means, if the manifest was not deleted since. A damaged manifest
    /// counts.
    pub(super) async fn meant(&self, name: &Name, newest: Option<TagVersion>) -> Result<Option<Digest>> {
        let Some((digest, version)) = newest.and_then(|newest| newest.target) else { return Ok(None) };
        match self.standing_since(name, &digest, version).await {
            Ok(standing) => Ok(standing.map(|_| digest)),
            // the tag still means the damaged manifest: the same image can be pushed again, and no other
            Err(error) if error.is_damage() => Ok(Some(digest)),
            Err(error) => Err(error),
        }
    }

    /// Writes a new version of an immutable tag, for an attempt. From then on the tag means
    /// `target`, or is deleted.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] if the tag means another manifest. [`Error::TooSlow`] if the attempt took too long.
    pub(super) async fn write_tag_once(
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
                        return Err(Error::TagImmutable { name: name.clone(), tag: tag.clone(), digest });
                    }
                }
                // another request has deleted the tag
                None if newest.is_none_or(|newest| newest.target.is_none()) => return Ok(()),
                None => {}
            }
            let seen = newest.map(|newest| newest.ordinal);
            if let Some(ordinal) = self.claim_or_finish(name, tag, seen, target, attempt, |claim| claim.once).await? {
                return self
                    .write_tag_version(name, tag, TagVersion { ordinal, target }, self.provenance(attempt.by))
                    .await;
            }
        }
        Err(Error::TooSlow)
    }

    /// Claims the first place after version `seen` whose claim `decides` refuses, as a commit. Returns its ordinal.
    ///
    /// If a claim that `decides` accepts has the place, this finishes the version of that claim and returns `None`. It
    /// also returns `None` if scrub freed a claim. Then the caller looks again.
    pub(super) async fn claim_or_finish(
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
            let ordinal = self.ordinal_after(after, seen);
            let taken = self.take(order, after, &self.new_claim(Some(ordinal), true, target, attempt.by)).await?;
            // a late claim is a commit all the same, unless its place was freed before; the next attempt finds out
            self.claimed_in_time(attempt)?;
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
        self.write_tag_version(name, tag, version, fact).await
    }

    /// Deletes a tag whose version `seen` means a manifest that is being deleted. It does nothing if `means` refuses
    /// the tag's newest version by then. A push that has the place wins, however late its version comes.
    pub(super) async fn delete_tag_with_manifest(
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
            let claim = self.new_claim(Some(ordinal), false, None, by);
            let ordinal = match self.take(order, Some(seen.ordinal), &claim).await? {
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
                return self.write_tag_version(name, tag, gone, self.provenance(by)).await;
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
    pub async fn end_tag(
        &self,
        name: &Name,
        tag: &Tag,
        seen: Option<TagVersion>,
        old: &(dyn Fn(&Entry) -> bool + Sync),
        by: &Actor,
    ) -> Result<bool> {
        if mutated(Mutation::EndOfNoVersion) {
            return self.write_tag(name, tag, None, &self.begin(by).await?).await.map(|()| true);
        }
        let old = |entry: &Entry| old(entry) || mutated(Mutation::EndOverAYoungClaim);
        let seen = seen.map(|seen| seen.ordinal);
        let Some(ordinal) = self.claim_over(Order::Tag(name, tag), seen, &old, None, by).await? else {
            return Ok(false);
        };
        self.write_tag_version(name, tag, TagVersion { ordinal, target: None }, self.provenance(by)).await?;
        Ok(true)
    }
}
