//! Restores what scrub removed together with an image: signatures, SBOMs, and their own referrers.

use std::{collections::HashSet, pin::pin};

use futures::TryStreamExt as _;

use super::{DEEPEST, Lost, Restoration};
use crate::{
    oci::{Digest, Manifest, Name, Reference, Tag},
    records::{
        Actor, Provenance,
        key::{ManifestKey, Prefix, RepositoryKey, Version},
    },
    registry::{Registry, Result},
    storage::{
        StorageError,
        mutation::{Mutation, mutated},
    },
};

/// The end of the last life of a manifest or tag.
struct End {
    /// The time by the store's clock, in milliseconds since 1970.
    at: u64,
    /// The authors of the tombstones. Several writers may have written one at once.
    by: Vec<Actor>,
    /// Set if it exists again since.
    again: bool,
}

impl End {
    const UNKNOWN: Self = Self { at: 0, by: Vec::new(), again: true };

    /// Returns whether only scrub ended it, no earlier than `other` ended, and it does not exist again. An end by a run
    /// that also ended `other` is never too early: a store's times may be too coarse to tell.
    fn is_with(&self, other: &Self) -> bool {
        let with = |by: &Actor| by.is_scrub() && (self.at >= other.at || other.by.contains(by));
        !self.again && self.by.iter().all(with)
    }
}

/// The referrers and children of a manifest.
#[derive(Default)]
struct With {
    /// The manifests that were removed with it. A tag is set if the tag's name makes its manifest a referrer.
    gone: Vec<(Digest, Option<Tag>)>,
    /// The manifests that may exist. Their own referrers are looked at next.
    standing: Vec<Digest>,
}

impl Registry {
    /// Restores as much as possible of what was removed together with an existing manifest, with its children, and with
    /// anything restored here. Adds the outcomes to `came`.
    pub(in crate::registry) async fn restore_with(
        &self,
        name: &Name,
        digest: Digest,
        by: &Actor,
        came: &mut Restoration,
    ) {
        let mut left = vec![digest];
        let mut seen = HashSet::new();
        while let Some(subject) = left.pop() {
            if !seen.insert(subject) {
                continue;
            }
            let with = match self.with(name, &subject, &mut came.lost).await {
                Ok(with) => with,
                Err(error) => {
                    let why = format!("what went with it cannot be found: {error}");
                    came.lost.push(Lost { what: Reference::Digest(subject), why });
                    continue;
                }
            };
            left.extend(with.standing);
            for (digest, tag) in with.gone {
                let outcome = match &tag {
                    Some(tag) => self.restore_tag_to(name, tag, digest, by, &mut came.restored).await,
                    None => self.restore_manifest(name, digest, None, DEEPEST, by, &mut came.restored).await,
                };
                match outcome {
                    Ok(()) => left.push(digest),
                    Err(error) => {
                        let what = tag.map_or(Reference::Digest(digest), Reference::Tag);
                        came.lost.push(Lost::new(what, error));
                    }
                }
            }
        }
    }

    async fn with(&self, name: &Name, subject: &Digest, lost: &mut Vec<Lost>) -> Result<With> {
        let mut with = With::default();
        let Some(stored) = self.versions.standing_afresh(name, subject).await? else { return Ok(with) };
        // if its tombstones are freed, it ended long ago: scrub removed no referrer of it while it existed
        let end = self.end_of(&Prefix::Manifest(name, subject).to_string()).await?.unwrap_or(End::UNKNOWN);
        let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)?;
        with.standing.extend(manifest.children.iter().map(|child| child.digest));
        let entries = self.core.store.list_all(&Prefix::Referrers(name, subject).to_string()).await?;
        let mut referrers: Vec<Digest> =
            entries.iter().filter_map(|entry| Some(RepositoryKey::referrer(name, &entry.key)?.0.manifest)).collect();
        referrers.dedup();
        for referrer in referrers {
            // this look first: the next look sees what ends after it
            let ending = self.is_ending(name, &referrer).await?;
            match self.end_of(&Prefix::Manifest(name, &referrer).to_string()).await {
                Ok(Some(of)) if of.is_with(&end) => with.gone.push((referrer, None)),
                Ok(of) if ending && of.as_ref().is_none_or(|of| of.again) => with.gone.push((referrer, None)),
                Ok(_) => with.standing.push(referrer),
                Err(error) => lost.push(Lost::new(Reference::Digest(referrer), error)),
            }
        }
        let entries = self.core.store.list_all(&Prefix::TagsNamedAfter(name, subject).to_string()).await?;
        let mut tags: Vec<Tag> =
            entries.iter().filter_map(|entry| Some(RepositoryKey::tag_version(name, &entry.key)?.0)).collect();
        tags.dedup();
        for tag in tags.into_iter().filter(|tag| tag.named_subject() == Some(*subject)) {
            match self.went_with(name, &tag, &end).await {
                Ok(digest) => with.gone.extend(digest.map(|digest| (digest, Some(tag)))),
                Err(error) => lost.push(Lost::new(Reference::Tag(tag), error)),
            }
        }
        Ok(with)
    }

    /// Returns the digest that a tag meant, if the tag was removed with its subject.
    async fn went_with(&self, name: &Name, tag: &Tag, end: &End) -> Result<Option<Digest>> {
        // this look first: the next look sees what ends after it
        let ending = match self.tags.meant_digest(name, tag).await? {
            Some(digest) if self.is_ending(name, &digest).await? => Some(digest),
            _ => None,
        };
        match self.end_of(&Prefix::Tag(name, tag).to_string()).await? {
            Some(of) if of.is_with(end) => {}
            of => return Ok(ending.filter(|_| of.is_none_or(|of| of.again))),
        }
        let Some(digest) = self.last_meaning(name, tag).await? else { return Ok(None) };
        // scrub also deletes a tag that is left of a manifest that a user deleted: that manifest stays deleted
        let of = self.end_of(&Prefix::Manifest(name, &digest).to_string()).await?;
        Ok(of.is_none_or(|of| of.again || of.is_with(end)).then_some(digest))
    }

    /// Returns whether an existing manifest has a pending delete by scrub, and none by a user. If it is pushed again,
    /// the new version stays.
    async fn is_ending(&self, name: &Name, digest: &Digest) -> Result<bool> {
        let Some((_, newest)) = self.versions.newest(name, digest).await?.filter(|(_, newest)| newest.there) else {
            return Ok(false);
        };
        let mut ending = false;
        for entry in self.core.store.list_all(&Prefix::PendingDeletes(name, digest).to_string()).await? {
            if ManifestKey::pending_delete(&entry.key).is_none_or(|ordinal| ordinal <= newest.ordinal) {
                continue;
            }
            let Some(content) = self.core.store.get(&entry.key).await? else { continue };
            let stamp: Provenance = serde_json::from_slice(&content)
                .map_err(|error| StorageError::damaged("get", &entry.key, error.to_string()))?;
            if !stamp.by.is_scrub() {
                return Ok(false);
            }
            ending = !mutated(Mutation::EndingReferrersNotRenewed);
        }
        Ok(ending)
    }

    /// Returns the end of the last life of the thing whose versions are under `prefix`. `None` if it never ended, or no
    /// record of that is left.
    async fn end_of(&self, prefix: &str) -> Result<Option<End>> {
        let mut versions = pin!(self.core.store.scan(prefix));
        let mut again = false;
        let mut end: Option<End> = None;
        while let Some(entry) = versions.try_next().await? {
            let Some(version) = Version::at_end_of(&entry.key) else { break };
            if version.there && end.is_some() {
                break;
            }
            if version.there {
                again = true;
                continue;
            }
            let Some(content) = self.core.store.get(&entry.key).await? else { continue };
            let stamp: Provenance = serde_json::from_slice(&content)
                .map_err(|error| StorageError::damaged("get", &entry.key, error.to_string()))?;
            let end = end.get_or_insert(End { at: entry.modified, by: Vec::new(), again });
            end.at = end.at.min(entry.modified);
            end.by.push(stamp.by);
        }
        Ok(end)
    }
}
