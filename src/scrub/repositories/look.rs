//! The view of a repository: the state of a manifest, its needs, its removal, and the removals that follow.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::{
    super::{Reason, Removal, Result, ScrubError, What, ages::AgeThresholds, run::Run},
    fate::{Fate, Newest, ReferenceState, Seen},
    tags::{Live, LiveTag},
};
use crate::{
    oci::{Digest, Name},
    policy::Origin,
    records::{
        ManifestHeader, ManifestRecords, ManifestState,
        key::{Prefix, RepositoryKey},
    },
    registry::{self, SeenManifest},
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// A repository, with its live tags.
pub(in crate::scrub) struct Repository<'a> {
    pub(in crate::scrub) run: &'a Run<'a>,
    pub(in crate::scrub) ages: AgeThresholds,
    pub(in crate::scrub) name: &'a Name,
    pub(in crate::scrub) live: Live,
    /// The targets of referrer tags, keyed by subject.
    named: HashMap<Digest, Vec<Digest>>,
    /// The manifests that this run has removed here, or would have.
    ended: HashSet<Digest>,
    /// The manifests that tags meant until less than a grace ago, once they were asked for.
    pub(super) lately: Option<Lately>,
}

/// The manifests that tags meant until less than a grace ago.
#[derive(Debug)]
pub(super) enum Lately {
    /// Exactly these.
    Meant(HashSet<Digest>),
    /// Any manifest, since a part of the history of tags cannot be read.
    Unknown,
}

/// A removed manifest, with the children that scrub may remove with it.
#[derive(Debug)]
pub(in crate::scrub) struct Ended {
    pub(in crate::scrub) digest: Digest,
    pub(in crate::scrub) children: Vec<Digest>,
}

/// Returns whether an index that exists needs a manifest.
pub(in crate::scrub) async fn is_in_an_index(run: &Run<'_>, name: &Name, digest: &Digest) -> Result<bool> {
    for (_, index) in ManifestRecords::read(&run.store, name, *digest).await?.index_references {
        if ManifestState::of(&run.store, name, &index).await? == ManifestState::Stands {
            return Ok(true);
        }
    }
    Ok(false)
}

impl<'a> Repository<'a> {
    pub(in crate::scrub) fn new(run: &'a Run<'a>, ages: AgeThresholds, name: &'a Name, live: Live) -> Self {
        let mut named: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for (target, tags) in &live {
            for subject in tags.iter().filter_map(|tag| tag.tag.named_subject()) {
                named.entry(subject).or_default().push(*target);
            }
        }
        Self { run, ages, name, live, named, ended: HashSet::new(), lately: None }
    }

    /// Returns the state of a manifest. A manifest that this run has removed, or would have, counts as gone. A lost one that
    /// something names counts as there: what it needs must be there when it comes back.
    pub(in crate::scrub) async fn stand(&self, digest: &Digest) -> Result<ManifestState> {
        if self.ended.contains(digest) {
            return Ok(ManifestState::Deleted);
        }
        let stand = ManifestState::of(&self.run.store, self.name, digest).await?;
        let is_lost = stand == ManifestState::Never
            && (self.live.contains_key(digest) || is_in_an_index(self.run, self.name, digest).await?);
        Ok(if is_lost { ManifestState::Stands } else { stand })
    }

    /// Lists the objects under a manifest's prefix.
    pub(in crate::scrub) async fn group(&self, digest: Digest) -> Result<ManifestRecords> {
        Ok(ManifestRecords::read(&self.run.store, self.name, digest).await?)
    }

    /// Returns the tags that mean a manifest, without those that name a version below its newest tombstone.
    pub(in crate::scrub) fn tags_of<'l>(
        &'l self,
        group: &ManifestRecords,
    ) -> impl Iterator<Item = &'l LiveTag> + use<'l, 'a> {
        let gone = group.last_tombstone().map(|(_, ordinal)| ordinal);
        let tags = self.live.get(&group.digest).into_iter().flatten();
        tags.filter(move |tag| gone.is_none_or(|gone| tag.of >= gone))
    }

    /// Returns the combined state of the indexes that need a manifest, and the state of each. A young index reference
    /// keeps the manifest, since a push may be about to write its index.
    pub(in crate::scrub) async fn parents(
        &self,
        group: &ManifestRecords,
    ) -> Result<(ReferenceState, HashMap<Digest, ManifestState>)> {
        let mut stands = HashMap::new();
        let mut upheld = ReferenceState::Never;
        for (entry, parent) in &group.index_references {
            let stand = match stands.get(parent) {
                Some(stand) => *stand,
                None => self.stand(parent).await?,
            };
            stands.insert(*parent, stand);
            if stand == ManifestState::Stands || !self.ages.is_old(entry) {
                upheld = ReferenceState::Stands;
            } else if stand == ManifestState::Deleted && upheld == ReferenceState::Never {
                upheld = ReferenceState::Gone;
            }
        }
        Ok((upheld, stands))
    }

    /// Returns the header of the newest version that is no tombstone. Returns nothing if there is none, or it cannot be
    /// read.
    pub(in crate::scrub) async fn header(&self, group: &ManifestRecords) -> Result<Option<ManifestHeader>> {
        let Some((entry, _)) = group.versions.iter().find(|(_, version)| version.there) else { return Ok(None) };
        let Some(content) = self.run.store.get(&entry.key).await? else { return Ok(None) };
        Ok(ManifestHeader::split(&content).ok().map(|(header, _)| header))
    }

    pub(in crate::scrub) async fn subject(&self, header: Option<&ManifestHeader>) -> Result<ReferenceState> {
        let Some(subject) = header.and_then(|header| header.subject) else { return Ok(ReferenceState::Never) };
        Ok(match self.stand(&subject).await? {
            ManifestState::Stands => ReferenceState::Stands,
            ManifestState::Deleted => ReferenceState::Gone,
            ManifestState::Never | ManifestState::Unknown => ReferenceState::Never,
        })
    }

    /// Returns the state of a manifest, except for its subject.
    pub(super) fn seen(&self, group: &ManifestRecords, parents: ReferenceState) -> Seen {
        let newest = match group.versions.first() {
            None => Newest::Nothing,
            Some((entry, version)) if version.there => {
                Newest::There { old: self.ages.is_old(entry), past_untagged: self.ages.is_past_untagged(entry) }
            }
            Some((entry, _)) => {
                Newest::Gone { past_trash: self.ages.is_past_trash(entry) || mutated(Mutation::GoneFreedAtOnce) }
            }
        };
        Seen { newest, tagged: self.tags_of(group).next().is_some(), parents, subject: ReferenceState::Never }
    }

    /// Reports manifests and removes them, each at the version that was seen, so that a concurrent push wins. Lists the
    /// repository's tags once, however many manifests. Returns the manifests that it removed.
    pub(in crate::scrub) async fn end_all(
        &mut self,
        groups: &[ManifestRecords],
        reason: Reason,
        policy: Option<&Origin>,
    ) -> Result<Vec<Digest>> {
        self.end_all_without(groups, reason, policy, &[]).await
    }

    /// Removes manifests as [`Self::end_all`], unless one of `subjects` exists again by then.
    async fn end_all_without(
        &mut self,
        groups: &[ManifestRecords],
        reason: Reason,
        policy: Option<&Origin>,
        subjects: &[Digest],
    ) -> Result<Vec<Digest>> {
        self.run.trusts_ages().await?;
        let mut seen = Vec::new();
        for group in groups {
            let Some((entry, version)) = group.versions.first().filter(|(_, version)| version.there) else { continue };
            if self.ended.insert(group.digest) {
                let removal = self.removal(What::Manifest, reason, group.digest, policy);
                self.run.tell(Removal { size: entry.size, ..removal })?;
                seen.push(SeenManifest { digest: group.digest, key: entry.key.clone(), ordinal: version.ordinal });
            }
        }
        let digests: Vec<Digest> = seen.iter().map(|one| one.digest).collect();
        if self.run.options.dry_run || seen.is_empty() {
            return Ok(digests);
        }
        let (registry, by) = (&self.run.registry, &self.run.by);
        let old = |claim: &Entry| self.ages.is_old(claim);
        let gone = match registry.manifests.end(self.name, &seen, &old, subjects, by).await {
            Ok(gone) => gone,
            Err(registry::Error::TooSlow) => {
                tracing::warn!(repository = %self.name, manifests = digests.len(), "the store was too slow; manifests that go stay until the next run");
                Vec::new()
            }
            Err(error) => return Err(ScrubError::Registry(error)),
        };
        self.ended.retain(|digest| !digests.contains(digest) || gone.contains(digest));
        Ok(gone)
    }

    /// Reports a tag and removes it at the version that was seen. Returns whether the tag is gone; it is not if a push
    /// has the place.
    pub(in crate::scrub) async fn end_tag(
        &mut self,
        tag: &LiveTag,
        reason: Reason,
        policy: Option<&Origin>,
    ) -> Result<bool> {
        let Some((digest, _)) = tag.version.target else { return Ok(false) };
        self.run.trusts_ages().await?;
        let reference = Some(tag.tag.to_string());
        self.run.tell(Removal { reference, ..self.removal(What::Tag, reason, digest, policy) })?;
        self.say_gone(tag).await
    }

    /// Reports that a later run removes a tag, and the time from which on. From here on, this run counts the tag as
    /// gone. For a dry run.
    pub(in crate::scrub) async fn foresee_tag(
        &mut self,
        tag: &LiveTag,
        from: Option<Timestamp>,
        policy: Option<&Origin>,
    ) -> Result<()> {
        let Some((digest, _)) = tag.version.target else { return Ok(()) };
        let reference = Some(tag.tag.to_string());
        let removal = self.removal(What::Tag, Reason::Retention, digest, policy);
        self.run.foresee(Removal { reference, ..removal }, from)?;
        self.say_gone(tag).await.map(drop)
    }

    /// Reports that a later run removes a manifest, and the time from which on.
    pub(in crate::scrub) fn foresee_manifest(
        &self,
        group: &ManifestRecords,
        from: Option<Timestamp>,
        policy: Option<&Origin>,
    ) -> Result<()> {
        let size = group.versions.first().map_or(0, |(entry, _)| entry.size);
        let removal = self.removal(What::Manifest, Reason::Retention, group.digest, policy);
        self.run.foresee(Removal { size, ..removal }, from)
    }

    /// Writes the tombstone of a tag that is dead already, or whose removal is reported. Returns whether the tag is
    /// gone.
    pub(super) async fn say_gone(&mut self, tag: &LiveTag) -> Result<bool> {
        let old = |claim: &Entry| self.ages.is_old(claim);
        if !self.run.options.dry_run
            && !self.run.registry.tags.end(self.name, &tag.tag, Some(tag.version), &old, &self.run.by).await?
        {
            return Ok(false);
        }
        self.forget_tag(tag);
        Ok(true)
    }

    fn forget_tag(&mut self, tag: &LiveTag) {
        if let Some((digest, _)) = tag.version.target
            && let Some(tags) = self.live.get_mut(&digest)
        {
            tags.retain(|other| other.tag != tag.tag);
        }
    }

    pub(super) fn removal(&self, what: What, reason: Reason, digest: Digest, policy: Option<&Origin>) -> Removal {
        Removal {
            repository: Some(self.name.clone()),
            digest: Some(digest),
            policy: policy.map(|origin| origin.policy.clone()),
            policy_sha256: policy.map(|origin| origin.sha256.clone()),
            ..Removal::new(what, reason)
        }
    }

    /// Returns the subjects that referrer tags name.
    pub(super) fn named_subjects(&self) -> Vec<Digest> {
        self.named.keys().copied().collect()
    }

    /// Removes the manifests that nothing needs after these removals: children of indexes, referrers of subjects, and
    /// so on from those.
    pub(in crate::scrub) async fn cascade(&mut self, ended: Vec<Ended>) -> Result<()> {
        let mut left = ended;
        while let Some(Ended { digest, children }) = left.pop() {
            for child in children {
                left.extend(self.examine(child, None).await?);
            }
            for referrer in self.referrers(&digest).await? {
                left.extend(self.examine(referrer, None).await?);
            }
            let named: Vec<LiveTag> = self.named_after(&digest);
            for tag in named {
                left.extend(self.end_named(&tag).await?);
            }
        }
        Ok(())
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let listed: Vec<Entry> = self.run.store.list_all(&Prefix::Referrers(self.name, subject).to_string()).await?;
        let mut manifests: Vec<Digest> = listed
            .iter()
            .filter_map(|entry| Some(RepositoryKey::referrer(self.name, &entry.key)?.0.manifest))
            .collect();
        manifests.dedup();
        Ok(manifests)
    }

    /// Returns the referrer tags that name this manifest as their subject.
    pub(super) fn named_after(&self, subject: &Digest) -> Vec<LiveTag> {
        let meant = self.named.get(subject).into_iter().flatten();
        let tags = meant.filter_map(|target| self.live.get(target)).flatten();
        tags.filter(|tag| tag.tag.named_subject().as_ref() == Some(subject)).cloned().collect()
    }

    /// Removes an old referrer tag whose subject was removed, and then its manifest if nothing needs that.
    pub(super) async fn end_named(&mut self, tag: &LiveTag) -> Result<Option<Ended>> {
        let Some((digest, _)) = tag.version.target.filter(|_| tag.old) else { return Ok(None) };
        let Some(subject) = tag.tag.named_subject() else { return Ok(None) };
        self.run.trusts_ages().await?;
        let reference = Some(tag.tag.to_string());
        self.run.tell(Removal { reference, ..self.removal(What::Tag, Reason::WithSubject, digest, None) })?;
        if !self.run.options.dry_run {
            let registry = &self.run.registry;
            let old = |claim: &Entry| self.ages.is_old(claim);
            match registry
                .manifests
                .end_tag_without(self.name, &tag.tag, tag.version, &subject, &old, &self.run.by)
                .await
            {
                Ok(true) => {}
                Ok(false) | Err(registry::Error::TooSlow) => return Ok(None),
                Err(error) => return Err(ScrubError::Registry(error)),
            }
        }
        self.forget_tag(tag);
        self.examine(digest, Some(subject)).await
    }

    /// Looks at one manifest, and removes it if nothing needs it. `named` is the subject that a removed referrer tag of
    /// the manifest named.
    pub(super) async fn examine(&mut self, digest: Digest, named: Option<Digest>) -> Result<Option<Ended>> {
        let group = self.group(digest).await?;
        let (parents, _) = self.parents(&group).await?;
        let seen = self.seen(&group, parents);
        if seen.stands_by_itself() {
            return Ok(None);
        }
        let header = self.header(&group).await?;
        let mut subject = self.subject(header.as_ref()).await?;
        if subject == ReferenceState::Never && named.is_some() {
            subject = ReferenceState::Gone;
        }
        let seen = self.with_grace(&digest, Seen { subject, ..seen }).await?;
        self.settle(&group, seen, header, named).await
    }

    /// Removes a manifest if its state decides so.
    pub(super) async fn settle(
        &mut self,
        group: &ManifestRecords,
        seen: Seen,
        header: Option<ManifestHeader>,
        named: Option<Digest>,
    ) -> Result<Option<Ended>> {
        let Fate::Goes(reason) = seen.fate(self.run.config.scrub.untagged) else { return Ok(None) };
        let of_header = header.as_ref().and_then(|header| header.subject);
        let subjects: Vec<Digest> = of_header.into_iter().chain(named).collect();
        if self.end_all_without(std::slice::from_ref(group), reason, None, &subjects).await?.is_empty() {
            return Ok(None);
        }
        let children = header.map(|header| header.children).unwrap_or_default();
        Ok(Some(Ended { digest: group.digest, children }))
    }
}
