//! Deletes manifests: it claims the place of the tombstone first, then deletes the tags, then the manifest.

use std::collections::BTreeSet;

use super::Manifests;
use crate::{
    oci::{Digest, Manifest, Name, Reference, Tag},
    records::{
        Actor, ManifestHeader,
        key::{ManifestKey, Ordinal, Prefix, Referrer, TagVersion, Version},
    },
    registry::{
        Error, Result,
        claims::Order,
        core::Attempt,
        several,
        tags::{Ending, LookAtTag},
    },
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// The number of tries of a delete. A try fails if scrub freed a claim in its way, or if the attempt took too long.
const TRIES: usize = 10;

/// A manifest that scrub decided to delete, as it was at the decision.
#[derive(Clone, Debug)]
pub struct SeenManifest {
    /// The manifest.
    pub digest: Digest,
    /// The key of its newest version.
    pub key: String,
    /// The ordinal of that version.
    pub ordinal: Ordinal,
}

/// A manifest that is being deleted, and the place that was claimed for its tombstone.
struct End {
    digest: Digest,
    /// The key of a version before the tombstone.
    key: String,
    ordinal: Ordinal,
}

impl Manifests {
    /// Deletes a manifest and the tags that mean it.
    ///
    /// # Errors
    /// As [`Manifests::delete_under`].
    pub async fn delete(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<()> {
        self.delete_under(name, digest, None, by).await
    }

    /// Deletes a manifest and the tags that mean it, unless `look` refuses one of these tags.
    ///
    /// `look` is asked about each such tag before anything is written, and again when the delete has begun. So it is
    /// also asked about a tag that was pushed between the two.
    ///
    /// # Errors
    /// [`Error::Needed`] if an existing index needs the manifest. [`Error::ManifestUnknown`], [`Error::TagKept`],
    /// [`Error::TagDenied`], and [`Error::TooSlow`].
    pub async fn delete_under(
        &self,
        name: &Name,
        digest: &Digest,
        look: Option<&LookAtTag<'_>>,
        by: &Actor,
    ) -> Result<()> {
        let unknown = || Error::manifest_unknown(name, Reference::Digest(*digest));
        for _ in 0..TRIES {
            let attempt = self.core.begin(by).await?;
            let (key, newest) = self.versions.newest(name, digest).await?.ok_or_else(unknown)?;
            if !newest.there {
                return Err(unknown());
            }
            self.refuse_needed(name, digest).await?;
            self.tags.look_at(name, &Ending::from([(*digest, newest.ordinal)]), look).await?;
            let order = Order::Manifest(name, digest);
            let claimed = self.core.claim_after(order, Some(newest.ordinal), None, by).await?;
            let Some(ordinal) = claimed else { continue };
            // a push of the manifest came between, perhaps for an index that did not exist at the first look. Every
            // later push has a place above this delete
            if ordinal > Ordinal::after(Some(newest.ordinal), 0) && !mutated(Mutation::DeleteOverAPushDoesNotLookAgain)
            {
                self.refuse_needed(name, digest).await?;
            }
            let end = End { digest: *digest, key, ordinal };
            // a server that slept before the attempt learns so from its first write: then the next attempt is quick
            match self.end_at_places(name, &[end], look, &[], &attempt).await {
                Err(Error::TooSlow) => {}
                result => return result.map(|_| ()),
            }
        }
        Err(Error::TooSlow)
    }

    /// Checks that no existing index needs a manifest.
    ///
    /// # Errors
    /// [`Error::Needed`] with the indexes that do.
    async fn refuse_needed(&self, name: &Name, digest: &Digest) -> Result<()> {
        let mut parents = BTreeSet::new();
        for entry in self.core.store.list_all(&Prefix::IndexReferences(name, digest).to_string()).await? {
            parents.extend(ManifestKey::index(&entry.key));
        }
        let mut needed_by = Vec::new();
        for parent in parents {
            if self.versions.stands(name, &parent).await? {
                needed_by.push(parent);
            }
        }
        if needed_by.is_empty() { Ok(()) } else { Err(Error::Needed { digest: *digest, needed_by }) }
    }

    /// Deletes manifests after the versions in `seen`, and the tags that mean versions up to those. It is for scrub: it
    /// passes over claims that are `old`. It looks at the repository's tags once, however many manifests there are.
    ///
    /// Returns the deleted manifests. A manifest is left out if a push has the place, or may have it. None is deleted
    /// if one of `subjects`, which the manifests are about, exists by then. A restore of a subject has either written
    /// the subject before this look, or sees the pending deletes.
    ///
    /// # Errors
    /// [`Error::TooSlow`]: then the manifests still exist.
    pub async fn end(
        &self,
        name: &Name,
        seen: &[SeenManifest],
        old: &(dyn Fn(&Entry) -> bool + Sync),
        subjects: &[Digest],
        by: &Actor,
    ) -> Result<Vec<Digest>> {
        let attempt = self.core.begin(by).await?;
        let old = |entry: &Entry| old(entry) || mutated(Mutation::EndOverAYoungClaim);
        let claims = seen.iter().map(async |one| {
            let order = Order::Manifest(name, &one.digest);
            let ordinal = self.core.claim_over(order, Some(one.ordinal), &old, None, by).await?;
            Ok(ordinal.map(|ordinal| End { digest: one.digest, key: one.key.clone(), ordinal }))
        });
        let ends: Vec<End> = several(claims.collect()).await?.into_iter().flatten().collect();
        let went = self.end_at_places(name, &ends, None, subjects, &attempt).await?;
        Ok(ends.into_iter().filter(|_| went).map(|end| end.digest).collect())
    }

    /// Deletes manifests at the places that were claimed for that. Returns whether it deleted them: not if one of
    /// `subjects` exists by then.
    async fn end_at_places(
        &self,
        name: &Name,
        ends: &[End],
        look: Option<&LookAtTag<'_>>,
        subjects: &[Digest],
        attempt: &Attempt<'_>,
    ) -> Result<bool> {
        if ends.is_empty() {
            return Ok(true);
        }
        let facts = ends.iter().map(|end| self.write_pending_delete(name, &end.digest, end.ordinal, attempt));
        several(facts.collect()).await?;
        // a refusal from here on leaves a pending delete for good: readers of these tags then look again each time
        let ending: Ending = ends.iter().map(|end| (end.digest, Ordinal(end.ordinal.0 - 1))).collect();
        self.tags.look_at(name, &ending, look).await?;
        if self.any_stands(name, subjects).await? {
            return Ok(false);
        }
        // the tags before the manifests: a crash between the two leaves no tag that is listed and does not answer
        self.tags.delete_with_manifests(name, &ending, look, attempt.by).await?;
        several(ends.iter().map(|end| self.unlist_referrer(name, end, attempt)).collect()).await?;
        // scrub may have freed the pending delete by now
        if attempt.was_slow() {
            return Err(Error::TooSlow);
        }
        several(ends.iter().map(|end| self.write_tombstone(name, end, attempt)).collect()).await?;
        // scrub may also have freed the pending delete while the manifests were deleted, so the tags are deleted once
        // more
        if attempt.was_slow() {
            self.tags.delete_with_manifests(name, &ending, None, attempt.by).await?;
        }
        Ok(true)
    }

    /// Writes the pending delete of a manifest. Version `ordinal` will be the tombstone.
    async fn write_pending_delete(
        &self,
        name: &Name,
        digest: &Digest,
        ordinal: Ordinal,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        // before the look at the tags: a reader that finds a tag and no pending delete knows that the look will find
        // the tag
        let key = ManifestKey::PendingDelete(ordinal, attempt.suffix).of(name, digest);
        Ok(self.core.store.put(&key, attempt.provenance()).await?)
    }

    /// Returns the subject of a manifest that is being deleted. Of a damaged manifest, the readable header counts.
    async fn subject_of(&self, seen: &End) -> Result<Option<Digest>> {
        match self.versions.read(&seen.digest, &seen.key).await {
            Ok(stored) => Ok(stored
                .and_then(|stored| Manifest::parse(Some(&stored.media_type), &stored.bytes).ok())
                .and_then(|manifest| manifest.subject)),
            Err(error) if error.is_damage() => {
                let content = self.core.store.get(&seen.key).await?;
                Ok(content
                    .and_then(|content| ManifestHeader::split(&content).ok())
                    .and_then(|(header, _)| header.subject))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a manifest that is being deleted from the referrers of its subject.
    async fn unlist_referrer(&self, name: &Name, end: &End, attempt: &Attempt<'_>) -> Result<()> {
        let Some(subject) = self.subject_of(end).await? else { return Ok(()) };
        self.referrers.remove(name, Referrer { subject, manifest: end.digest }, end.ordinal, attempt).await
    }

    async fn write_tombstone(&self, name: &Name, end: &End, attempt: &Attempt<'_>) -> Result<()> {
        let version = Version { ordinal: end.ordinal, there: false };
        self.versions.write(name, &end.digest, version, attempt.suffix, attempt.provenance()).await.map(drop)
    }

    /// Deletes a tag that is about `subject` by its name, after the version `seen`. Returns whether the tag is deleted.
    /// It is not if the subject exists again, or if a push has the place; see [`Manifests::end`].
    ///
    /// # Errors
    /// [`Error::TooSlow`]: then the tag still exists.
    pub async fn end_tag_without(
        &self,
        name: &Name,
        tag: &Tag,
        seen: TagVersion,
        subject: &Digest,
        old: &(dyn Fn(&Entry) -> bool + Sync),
        by: &Actor,
    ) -> Result<bool> {
        let Some((digest, _)) = seen.target else { return Ok(false) };
        let attempt = self.core.begin(by).await?;
        if let Some((_, newest)) = self.versions.newest(name, &digest).await? {
            let ordinal = Ordinal::after(Some(newest.ordinal), 0);
            self.write_pending_delete(name, &digest, ordinal, &attempt).await?;
        }
        if self.any_stands(name, std::slice::from_ref(subject)).await? {
            return Ok(false);
        }
        if attempt.was_slow() {
            return Err(Error::TooSlow);
        }
        self.tags.end(name, tag, Some(seen), old, by).await
    }

    async fn any_stands(&self, name: &Name, manifests: &[Digest]) -> Result<bool> {
        for manifest in manifests {
            if self.versions.stands(name, manifest).await? && !mutated(Mutation::SubjectNotLookedFor) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
