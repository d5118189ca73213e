//! Holds manifests back that this registry first saw a short while ago.
//!
//! A manifest is as old as what leads to it. A child of an index is first asked for when the index is old enough to leave,
//! and a signature comes after its image.

use std::{collections::HashSet, sync::Arc};

use super::{
    ManifestPull, Mirror, Result,
    held::{Held, Lead, Waiting, time},
};
use crate::{
    oci::{Digest, Manifest, Reference, Tag},
    registry::StoredManifest,
};

/// The largest number of manifests that are looked at to find one that is old enough and leads to another.
const MOST: usize = 256;
/// The ends of the tags that signatures and referrers of a manifest have. The first is that of the tag schema of the
/// specification, the others are those of cosign.
const SCHEMA: [&str; 4] = ["", ".sig", ".att", ".sbom"];

impl Mirror {
    /// Returns the time by which a manifest is judged, in milliseconds since 1970 by the store's clock. For a digest that is
    /// the earliest time at which the manifest, or one that leads to it, was first seen. For a tag that is the time of its
    /// manifest, or an earlier one of the subject in the tag's name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn first_seen(&self, pull: &ManifestPull, reference: &Reference, digest: &Digest) -> Result<u64> {
        let (name, by) = (&pull.name, &pull.by);
        let own = self.registry.first_seen.note(name, digest, true, by).await?;
        let leader = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => schema_subject(tag),
        };
        let Some(leader) = leader else { return Ok(own) };
        if let Reference::Tag(tag) = reference {
            // the client asks for the digest next
            self.registry.first_seen.note_tag(name, digest, tag, by).await?;
        }
        let (earliest, _) = self.leads(pull, leader, &|_| false).await?;
        Ok(earliest.map_or(own, |earliest| earliest.min(own)))
    }

    /// Looks whether a manifest that is here may leave by its digest, without a look at more than itself.
    pub(super) async fn may_leave_at_once(&self, pull: &ManifestPull, digest: &Digest) -> Result<bool> {
        Ok(self.was_led(pull, digest) || self.young(pull, digest, true).await?.is_none())
    }

    /// Looks whether the decision about a tag may need a look at other manifests than its own.
    pub(super) fn is_about_another(&self, pull: &ManifestPull, tag: &Tag) -> bool {
        pull.cooldown_ms() > 0 && schema_subject(tag).is_some_and(|subject| !self.was_led(pull, &subject))
    }

    /// Looks whether the manifest that a tag means upstream is held back. A manifest that is young is recorded to have this
    /// tag: a client that gets the manifest by the tag asks for the digest next. `is_here` says that the manifest is here.
    pub(super) async fn held_upstream(
        &self,
        pull: &ManifestPull,
        tag: &Tag,
        digest: &Digest,
        is_here: bool,
    ) -> Result<Option<Arc<Waiting>>> {
        let Some(seen) = self.young(pull, digest, is_here).await? else { return Ok(None) };
        let is_new = self.registry.first_seen.note_tag(&pull.name, digest, tag, &pull.by).await?;
        let held = self.held_by_tag(pull, tag, digest, is_here).await?;
        if is_new && held.is_some() {
            let (since, until) = (time(seen, false), time(seen.saturating_add(pull.cooldown_ms()), true));
            tracing::info!(name = %pull.name, %tag, %digest, %since, %until, "a younger manifest waits for the cooldown");
        }
        Ok(held)
    }

    /// Looks whether the manifest that a tag means is held back under that tag.
    pub(super) async fn held_by_tag(
        &self,
        pull: &ManifestPull,
        tag: &Tag,
        digest: &Digest,
        is_here: bool,
    ) -> Result<Option<Arc<Waiting>>> {
        let Some(first_seen_at) = self.young(pull, digest, is_here).await? else { return Ok(None) };
        let mut leads = vec![(Reference::Tag(tag.clone()), first_seen_at)];
        if let Some(subject) = schema_subject(tag) {
            match self.unable_to_lead(pull, subject).await? {
                Some(more) => leads.extend(more),
                None => return Ok(None),
            }
        }
        Ok(Some(Arc::new(Waiting { digest: *digest, first_seen_at, leads })))
    }

    /// Looks whether a manifest that is here is held back under its digest.
    pub(super) async fn held_by_digest(&self, pull: &ManifestPull, digest: &Digest) -> Result<Option<Arc<Waiting>>> {
        let Some(first_seen_at) = self.young(pull, digest, true).await? else { return Ok(None) };
        let leads = self.unable_to_lead(pull, *digest).await?;
        Ok(leads.map(|leads| Arc::new(Waiting { digest: *digest, first_seen_at, leads })))
    }

    /// Returns the time at which a manifest was first seen, if that is less than the cooldown ago. A manifest that nobody saw
    /// is seen now, unless it is here.
    async fn young(&self, pull: &ManifestPull, digest: &Digest, is_here: bool) -> Result<Option<u64>> {
        if pull.cooldown_ms() == 0 {
            return Ok(None);
        }
        let seen = self.registry.first_seen.note(&pull.name, digest, is_here, &pull.by).await?;
        Ok((!self.is_old(pull, seen)).then_some(seen))
    }

    /// Looks whether a manifest may leave by its digest, and so lead to others: it is old enough, or an index that is here,
    /// its subject, or the subject in the name of a tag may leave. Returns `None` if so, and otherwise what was looked at.
    async fn unable_to_lead(&self, pull: &ManifestPull, digest: Digest) -> Result<Option<Vec<Lead>>> {
        if self.was_led(pull, &digest) {
            return Ok(None);
        }
        let (earliest, leads) = self.leads(pull, digest, &|seen| self.is_old(pull, seen)).await?;
        match earliest.filter(|seen| self.is_old(pull, *seen)) {
            Some(seen) => {
                self.led.insert((pull.name.clone(), digest), seen);
                Ok(None)
            }
            None => Ok(Some(leads)),
        }
    }

    /// Looks at a manifest and all that lead to it: the indexes that are here and list it, its subject, and the subjects in
    /// the names of tags, in turn with theirs. Ends early at one whose time is enough. Returns the earliest time at which one
    /// of them was first seen, and what was looked at.
    async fn leads(
        &self,
        pull: &ManifestPull,
        digest: Digest,
        is_enough: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Option<u64>, Vec<Lead>)> {
        let (name, first_seen) = (&pull.name, &self.registry.first_seen);
        let (mut known, mut open) = (HashSet::from([digest]), vec![digest]);
        let (mut earliest, mut leads) = (None, Vec::new());
        while let Some(digest) = open.pop() {
            // one that nobody saw is not old, and an index of it may be
            let seen = first_seen.of(name, &digest, &pull.by).await?;
            earliest = earliest.into_iter().chain(seen).min();
            if seen.is_some_and(is_enough) {
                break;
            }
            leads.extend(seen.map(|seen| (Reference::Digest(digest), seen)));
            let manifest = self.stored(name, &Reference::Digest(digest)).await?;
            let mut subjects: Vec<Digest> = manifest.and_then(|manifest| subject(&manifest)).into_iter().collect();
            for tag in first_seen.tags(name, &digest).await? {
                subjects.extend(schema_subject(&tag));
                leads.extend(seen.map(|seen| (Reference::Tag(tag), seen)));
            }
            for subject in subjects {
                if known.len() < MOST && known.insert(subject) {
                    open.push(subject);
                }
            }
            // indexes are looked at first, since most young manifests are children of one
            for index in self.registry.manifests.indexes_of(name, &digest).await? {
                if known.len() < MOST
                    && known.insert(index)
                    && self.stored(name, &Reference::Digest(index)).await?.is_some()
                {
                    open.push(index);
                }
            }
        }
        Ok((earliest, leads))
    }

    /// Returns whether a manifest that is old enough led to this one a moment ago.
    fn was_led(&self, pull: &ManifestPull, digest: &Digest) -> bool {
        self.led.get(&(pull.name.clone(), *digest)).is_some_and(|seen| self.is_old(pull, seen))
    }

    fn is_old(&self, pull: &ManifestPull, seen: u64) -> bool {
        self.registry.clock().time_ms().saturating_sub(seen) >= pull.cooldown_ms()
    }
}

impl ManifestPull {
    fn cooldown_ms(&self) -> u64 {
        u64::try_from(self.cached.namespace.cooldown.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the refusal of a manifest that is held back, or for two of which neither may leave. Upstream, the reference
    /// means the first.
    pub(super) fn held(&self, reference: &Reference, waiting: &Arc<Waiting>, other: Option<&Arc<Waiting>>) -> Held {
        let first = other.filter(|other| other.first_seen_at < waiting.first_seen_at).unwrap_or(waiting);
        Held {
            name: self.name.clone(),
            reference: reference.clone(),
            digest: first.digest,
            first_seen_at: first.first_seen_at,
            until: first.first_seen_at.saturating_add(self.cooldown_ms()),
            cooldown: self.cached.namespace.cooldown,
            waiting: Arc::clone(waiting),
            answered: None,
        }
    }
}

/// Returns the manifest that a tag of the tag schema or of cosign is about.
fn schema_subject(tag: &Tag) -> Option<Digest> {
    let subject = tag.named_subject()?;
    let name = format!("{}-{}", subject.algorithm().as_str(), subject.hex());
    SCHEMA.contains(&tag.as_str().strip_prefix(&name)?).then_some(subject)
}

fn subject(stored: &StoredManifest) -> Option<Digest> {
    Manifest::parse(Some(&stored.media_type), &stored.bytes).ok()?.subject
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn only_tags_of_the_tag_schema_and_of_cosign_are_about_a_manifest() {
        let digest = Digest::of(Algorithm::Sha256, b"image");
        let of = |end: &str| schema_subject(&format!("sha256-{}{end}", digest.hex()).parse().unwrap());
        for end in SCHEMA {
            assert_eq!(of(end), Some(digest), "{end}");
        }
        for end in [".img", "-sig", "_sig", ".sig.img", ".sigs", ".", "-latest"] {
            assert_eq!(of(end), None, "{end}");
        }
        assert_eq!(schema_subject(&"latest".parse().unwrap()), None);
    }
}
