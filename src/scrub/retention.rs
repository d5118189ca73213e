//! Retention: tags that no rule keeps go, and their manifests with them where nothing else needs these.
//!
//! A removal names the version that its decision saw, so that what is pushed beside it stays. A push may give a manifest
//! several tags, one after the other, and only some of them were seen: so what was pushed less than a lease ago is left to
//! a later run, the tag with its manifest.

mod inventory;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use self::inventory::{Inventory, Judged};
pub use self::inventory::{Tags, Unjudged, tags};
use super::{
    Pass, Reason, Result,
    ages::Ages,
    repositories::{Ended, Group, Names, Repository, Upheld, live_tags},
    run::Run,
};
use crate::{
    oci::{Digest, Name},
    policy::Origin,
    storage::mutation::mutated,
};

/// Manifests that are let go with one look at the repository's tags.
const AT_ONCE: usize = 100;

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let (mut names, total) = (Names::default(), run.repositories().await?);
    let mut done = 0;
    while let Some(name) = names.next(&run.store).await? {
        if run.covers(&name) {
            one(run, &name).await?;
            done += 1;
            run.progress(Pass::Retention, done, total);
        }
    }
    Ok(())
}

/// The time that rules are judged by: that of the clock that is written down with pushes and pulls.
fn time(run: &Run<'_>) -> Timestamp {
    let milliseconds = i64::try_from(run.options.clock.now_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

async fn one(run: &Run<'_>, name: &Name) -> Result<()> {
    let now = time(run);
    // whether any rule covers it: most repositories have none, and cost nothing more
    if run.policy.retain(name, &[], now).is_none() {
        return Ok(());
    }
    let ages = Ages::now(run).await?;
    let live = live_tags(&run.store, ages, name).await?;
    let Inventory { images, judged, .. } = inventory::take(&run.store, run.config, name, &live).await?;
    let Some(decision) = run.policy.retain(name, &images, now) else { return Ok(()) };
    drop(images);
    let kept = decision.images.iter().map(|retained| retained.keep);
    let going = judged.into_iter().zip(kept).filter(|(judged, keep)| !keep && is_settled(judged));
    let going: Vec<Judged> = going.map(|(judged, _)| judged).collect();
    if going.is_empty() {
        return Ok(());
    }
    if !decision.enforced {
        tracing::info!(repository = %name, tags = going.len(), "no rule keeps these tags, and they stay: no retention policy that is enforced covers the repository");
        return Ok(());
    }
    let mut repository = Repository::new(run, ages, name, live);
    remove(&mut repository, going, asked(&decision.policies).as_ref()).await
}

/// The policies whose rules were asked, and the digests of their texts in the same order, as one.
fn asked(policies: &[Arc<Origin>]) -> Option<Origin> {
    let all = |of: fn(&Origin) -> &str| policies.iter().map(|origin| of(origin)).collect::<Vec<_>>().join(", ");
    let origin = Origin { policy: all(|origin| &origin.policy), sha256: all(|origin| &origin.sha256) };
    (!policies.is_empty()).then_some(origin)
}

/// Whether the push that gave a tag its meaning has ended: the manifest that goes with it has all its tags.
fn is_settled(judged: &Judged) -> bool {
    judged.tag.old || mutated("retention of what is pushed")
}

async fn remove(repository: &mut Repository<'_>, going: Vec<Judged>, policy: Option<&Origin>) -> Result<()> {
    let mut manifests: BTreeSet<Digest> = BTreeSet::new();
    for judged in &going {
        repository.end_tag(&judged.tag, Reason::Retention, policy).await?;
        manifests.insert(judged.digest);
    }
    // somebody may have given one of them another tag while these were judged
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

/// A manifest whose tags went, with what it lists, unless something else needs it, or somebody has pushed it since they were
/// looked at.
async fn unneeded(repository: &Repository<'_>, digest: Digest) -> Result<Option<(Group, Vec<Digest>)>> {
    let group = repository.group(digest).await?;
    let Some((newest, version)) = group.versions.first() else { return Ok(None) };
    // one that no tag names yet may be about to get one, or its index is
    let may_be_under_way = !repository.ages.is_old(newest) && !mutated("retention of what is pushed");
    if !version.there || may_be_under_way || repository.tags_of(&group).next().is_some() {
        return Ok(None);
    }
    if repository.parents(&group).await?.0 == Upheld::Stands {
        return Ok(None);
    }
    let header = repository.header(&group).await?;
    if repository.subject(header.as_ref()).await? == Upheld::Stands {
        return Ok(None);
    }
    let children = header.map(|header| header.children).unwrap_or_default();
    Ok(Some((group, children)))
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
