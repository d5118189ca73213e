//! Removes the tags that no rule keeps, and their manifests if nothing else needs these.
//!
//! A removal names the version that its decision saw, so that a version that is pushed meanwhile stays. A push may give
//! a manifest several tags, one after the other, and a run may see only some of them. So a run leaves each tag that was
//! pushed less than a lease ago to a later run, with its manifest. A dry run reports these removals, and the time from
//! which on they happen.

mod inventory;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use self::inventory::{Annotations, Inventory, Judged};
pub use self::inventory::{Tags, Unjudged, tags};
use super::{
    Pass, Reason, Result,
    names::Names,
    repositories::{Ended, ReferenceState, Repository, live_tags},
    run::Run,
};
use crate::{
    oci::{Digest, Name},
    policy::{Image, Origin, RetentionDecision},
    records::ManifestRecords,
    storage::mutation::{Mutation, mutated},
};

/// The number of manifests that are removed with one look at the repository's tags.
const AT_ONCE: usize = 100;

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let (mut names, total) = (Names::default(), run.repositories().await?);
    let mut done = 0;
    while let Some(name) = names.next(&run.store).await? {
        run.go_on()?;
        if run.covers(&name) {
            one(run, &name).await?;
            done += 1;
            run.progress(Pass::Retention, done, total);
        }
    }
    Ok(())
}

/// Returns the time that rules are judged by: the store's, which servers write into pushes and pulls.
fn time(run: &Run<'_>) -> Timestamp {
    let milliseconds = i64::try_from(run.store.clock().time_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

async fn one(run: &Run<'_>, name: &Name) -> Result<()> {
    // most repositories have no rule, and cost nothing more
    if run.policy.retain(name, &[], time(run)).is_none() {
        return Ok(());
    }
    let ages = run.ages().await?;
    let now = time(run);
    let live = live_tags(&run.store, ages, name).await?;
    let Inventory { images, judged, .. } = inventory::take(run, ages, name, &live).await?;
    let Some(decision) = decide(run, name, images, &judged, now).await? else { return Ok(()) };
    let kept = decision.images.iter().map(|retained| retained.keep);
    let going = judged.into_iter().zip(kept).filter(|(_, keep)| !keep).map(|(judged, _)| judged);
    let (going, later): (Vec<Judged>, Vec<Judged>) = going.partition(is_settled);
    if going.is_empty() && (later.is_empty() || !run.options.dry_run) {
        return Ok(());
    }
    if !decision.enforced {
        tracing::info!(repository = %name, tags = going.len(), "no rule keeps these tags, and they stay: no retention policy that is enforced covers the repository");
        return Ok(());
    }
    let mut repository = Repository::new(run, ages, name, live);
    let policy = asked(&decision.policies);
    remove(&mut repository, going, policy.as_ref()).await?;
    if run.options.dry_run { foresee(&mut repository, later, policy.as_ref()).await } else { Ok(()) }
}

/// Decides about all images. If their annotations need more memory than allowed, decides about some images after
/// others.
async fn decide(
    run: &Run<'_>,
    name: &Name,
    mut images: Vec<Image>,
    judged: &[Judged],
    now: Timestamp,
) -> Result<Option<RetentionDecision>> {
    let Some(mut decision) = run.policy.retain(name, &images, now) else { return Ok(None) };
    if !run.policy.retention_reads_annotations(name) {
        return Ok(Some(decision));
    }
    // the tags of one manifest follow each other, so each manifest is read once
    let mut left_out: Vec<usize> = (0..judged.len()).filter(|at| judged[*at].without_annotations).collect();
    left_out.sort_by_key(|at| judged[*at].digest);
    let (mut pending, mut held) = (Vec::new(), 0);
    let mut last: Option<(Digest, Annotations)> = None;
    for (nth, at) in left_out.iter().copied().enumerate() {
        let digest = judged[at].digest;
        if last.as_ref().is_none_or(|(of, _)| *of != digest) {
            let annotations = inventory::annotations(&run.store, name, digest).await?;
            held += inventory::bytes_of(&annotations);
            last = Some((digest, annotations));
        }
        images[at].annotations = last.as_ref().map(|(_, annotations)| Arc::clone(annotations)).unwrap_or_default();
        pending.push(at);
        if held >= inventory::ANNOTATIONS || nth + 1 == left_out.len() {
            let some = run.policy.retain_some(name, &images, pending.iter().copied(), now);
            for (at, retained) in pending.drain(..).zip(some.into_iter().flat_map(|some| some.images)) {
                decision.images[at] = retained;
                images[at].annotations = Annotations::default();
            }
            (held, last) = (0, None);
        }
    }
    Ok(Some(decision))
}

/// Joins the policies whose rules were asked, and the digests of their texts in the same order, into one origin.
fn asked(policies: &[Arc<Origin>]) -> Option<Origin> {
    let all = |of: fn(&Origin) -> &str| policies.iter().map(|origin| of(origin)).collect::<Vec<_>>().join(", ");
    let origin = Origin { policy: all(|origin| &origin.policy), sha256: all(|origin| &origin.sha256) };
    (!policies.is_empty()).then_some(origin)
}

/// Returns whether the push that gave a tag its meaning has ended, so that the manifest has all its tags.
fn is_settled(judged: &Judged) -> bool {
    judged.settled || mutated(Mutation::RetentionOfWhatIsPushed)
}

/// Reports the tags and manifests that a later run will remove because no rule keeps them, and the time from which on.
/// The tags were pushed less than a lease ago. For a dry run.
async fn foresee(repository: &mut Repository<'_>, later: Vec<Judged>, policy: Option<&Origin>) -> Result<()> {
    let mut manifests: BTreeMap<Digest, Option<Timestamp>> = BTreeMap::new();
    for judged in &later {
        repository.foresee_tag(&judged.tag, judged.settles, policy).await?;
        let from = manifests.entry(judged.digest).or_default();
        *from = (*from).max(judged.settles);
    }
    for (digest, from) in manifests {
        let group = repository.group(digest).await?;
        if is_unneeded(repository, &group).await?.is_some() {
            repository.foresee_manifest(&group, from, policy)?;
        }
    }
    Ok(())
}

async fn remove(repository: &mut Repository<'_>, going: Vec<Judged>, policy: Option<&Origin>) -> Result<()> {
    let mut manifests: BTreeSet<Digest> = BTreeSet::new();
    for judged in &going {
        if repository.end_tag(&judged.tag, Reason::Retention, policy).await? {
            manifests.insert(judged.digest);
        }
    }
    // a push may have given one of the manifests another tag meanwhile
    if !repository.run.options.dry_run {
        repository.live = live_tags(&repository.run.store, repository.ages, repository.name).await?;
    }
    let mut ended = Vec::new();
    let manifests: Vec<Digest> = manifests.into_iter().collect();
    for some in manifests.chunks(AT_ONCE) {
        let (mut groups, mut children) = (Vec::new(), HashMap::new());
        for digest in some {
            if let Some((group, of)) = unneeded(repository, *digest).await? {
                children.insert(*digest, of);
                groups.push(group);
            }
        }
        let gone = repository.end_all(&groups, Reason::Retention, policy).await?;
        ended.extend(
            gone.into_iter().map(|digest| Ended { digest, children: children.remove(&digest).unwrap_or_default() }),
        );
    }
    repository.cascade(ended).await
}

/// Returns a manifest whose tags were removed, with the manifests that it lists. Returns nothing if something else
/// needs it, or if it was pushed less than a lease ago.
async fn unneeded(repository: &Repository<'_>, digest: Digest) -> Result<Option<(ManifestRecords, Vec<Digest>)>> {
    let group = repository.group(digest).await?;
    // a push may be about to give a manifest without a tag a tag or an index
    let is_old = group.versions.first().is_some_and(|(newest, _)| repository.ages.is_old(newest));
    if !is_old && !mutated(Mutation::RetentionOfWhatIsPushed) {
        return Ok(None);
    }
    Ok(is_unneeded(repository, &group).await?.map(|children| (group, children)))
}

/// Returns the children of an existing manifest that no tag, index or subject needs. Returns nothing for any other
/// manifest.
async fn is_unneeded(repository: &Repository<'_>, group: &ManifestRecords) -> Result<Option<Vec<Digest>>> {
    let stands = group.versions.first().is_some_and(|(_, version)| version.there);
    if !stands
        || repository.tags_of(group).next().is_some()
        || repository.parents(group).await?.0 == ReferenceState::Stands
    {
        return Ok(None);
    }
    let header = repository.header(group).await?;
    if repository.subject(header.as_ref()).await? == ReferenceState::Stands {
        return Ok(None);
    }
    Ok(Some(header.map(|header| header.children).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_names_all_policies_that_were_asked() {
        let origin =
            |policy: &str, sha256: &str| Arc::new(Origin { policy: policy.to_owned(), sha256: sha256.to_owned() });
        assert_eq!(asked(&[]), None);
        let one = asked(&[origin("table", "ab")]).unwrap();
        assert_eq!((one.policy.as_str(), one.sha256.as_str()), ("table", "ab"));
        let both = asked(&[origin("table", "ab"), origin("file", "cd")]).unwrap();
        assert_eq!((both.policy.as_str(), both.sha256.as_str()), ("table, file", "ab, cd"));
    }
}
