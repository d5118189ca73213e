//! The images of a repository as retention rules see them.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::super::{
    Result,
    ages::Ages,
    repositories::{Group, Live, LiveTag, Pulls, live_tags, read_pulls},
};
use crate::{
    config::Config,
    oci::{Digest, Manifest, Name},
    policy::Image,
    registry::facts::{ManifestHeader, PullsSince, Stamp},
    storage::{Store, layout},
};

/// Storage operations that run at a time.
const AT_A_TIME: usize = 8;

/// The images of a repository, with what is removed where one goes.
pub(super) struct Inventory {
    pub(super) images: Vec<Image>,
    /// Of each image, what was seen of it.
    pub(super) judged: Vec<Judged>,
}

/// A tag that is judged.
pub(super) struct Judged {
    pub(super) tag: LiveTag,
    pub(super) digest: Digest,
}

/// What rules can ask about a manifest.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// The newest version that says it gone: tags of before that mean nothing.
    gone: Option<layout::Ordinal>,
    media_type: String,
    size: u64,
    annotations: BTreeMap<String, String>,
}

/// The images of a repository, by their tags in order.
///
/// # Errors
/// Those of the store.
pub async fn images(store: &Store, config: &Config, name: &Name) -> Result<Vec<Image>> {
    let live = live_tags(store, Ages::unknown(), name).await?;
    Ok(take(store, config, name, &live).await?.images)
}

/// The images that these tags are, but for what is a referrer by its name.
pub(super) async fn take(store: &Store, config: &Config, name: &Name, live: &Live) -> Result<Inventory> {
    let rule = config.immutable_tags(name);
    let manifests = manifests(store, name, live).await?;
    let pulls = read_pulls(store, name).await?;
    let since = pulls_since(store).await?;
    let subjects = subjects(store, name, live).await?;
    let tags = live.iter().flat_map(|(digest, tags)| tags.iter().map(move |tag| (*digest, tag)));
    let tags = tags.filter_map(|(digest, tag)| {
        let facts = manifests.get(&digest)?;
        let is_there = facts.gone.is_none_or(|gone| tag.of >= gone);
        let is_referrer = tag.tag.named_subject().is_some_and(|subject| subjects.contains(&subject));
        (is_there && !is_referrer).then_some((digest, tag, facts))
    });
    let mut tags: Vec<_> = tags.collect();
    tags.sort_by(|(_, one, _), (_, other, _)| one.tag.cmp(&other.tag));
    let pushed = tags.iter().map(|(_, tag, _)| pushed_at(store, name, tag));
    let pushed: Vec<Option<u64>> = stream::iter(pushed.collect::<Vec<_>>()).buffered(AT_A_TIME).try_collect().await?;
    let mut inventory = Inventory { images: Vec::with_capacity(tags.len()), judged: Vec::with_capacity(tags.len()) };
    for ((digest, tag, facts), pushed) in tags.into_iter().zip(pushed) {
        inventory.images.push(Image {
            tag: tag.tag.to_string(),
            digest: digest.to_string(),
            media_type: facts.media_type.clone(),
            size: facts.size,
            pushed_at: pushed.and_then(timestamp),
            last_pulled_at: pulls
                .as_ref()
                .and_then(|pulls| pulled_at(pulls, tag, digest, pushed, since))
                .and_then(timestamp),
            annotations: facts.annotations.clone(),
            immutable: rule.covers(&tag.tag),
        });
        inventory.judged.push(Judged { tag: tag.clone(), digest });
    }
    Ok(inventory)
}

fn timestamp(milliseconds: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(milliseconds).ok()?).ok()
}

/// When a tag got its meaning; nothing where that cannot be read.
async fn pushed_at(store: &Store, name: &Name, tag: &LiveTag) -> Result<Option<u64>> {
    let content = store.get(&layout::tag_version(name, &tag.tag, tag.version)).await?;
    Ok(content.and_then(|content| serde_json::from_slice::<Stamp>(&content).ok()).map(|stamp| stamp.at))
}

/// Since when pulls are recorded in the store.
async fn pulls_since(store: &Store) -> Result<Option<u64>> {
    let content = store.get(layout::PULLS_SINCE).await?;
    Ok(content.and_then(|content| serde_json::from_slice::<PullsSince>(&content).ok()).map(|since| since.at))
}

/// When an image was last pulled, by its tag or its digest. One that was not since it was pushed counts from its push, if
/// pulls were recorded then; else it is not known.
fn pulled_at(pulls: &Pulls, tag: &LiveTag, digest: Digest, pushed: Option<u64>, since: Option<u64>) -> Option<u64> {
    let by_tag = pulls.get(&(Some(tag.tag.clone()), digest));
    let by_digest = pulls.get(&(None, digest));
    let pulled = by_tag.max(by_digest).copied();
    let at_least = pushed.filter(|pushed| since.is_some_and(|since| since <= *pushed));
    pulled.max(at_least)
}

/// The subjects that tags name as what they are about, and that the repository has or had.
async fn subjects(store: &Store, name: &Name, live: &Live) -> Result<HashSet<Digest>> {
    let named: HashSet<Digest> = live.values().flatten().filter_map(|tag| tag.tag.named_subject()).collect();
    let known = named.into_iter().map(async |subject| {
        let newest = store.list(&layout::manifest(name, &subject), None, 1).await?;
        let known = newest.first().is_some_and(|entry| layout::version(&entry.key).is_some());
        Result::Ok(known.then_some(subject))
    });
    let known: Vec<Option<Digest>> = stream::iter(known.collect::<Vec<_>>()).buffered(AT_A_TIME).try_collect().await?;
    Ok(known.into_iter().flatten().collect())
}

/// What is known of the manifests that stand, of those that tags mean.
async fn manifests(store: &Store, name: &Name, live: &Live) -> Result<HashMap<Digest, Facts>> {
    let looks = live
        .iter()
        .filter(|(_, tags)| !tags.is_empty())
        .map(async |(digest, _)| Result::Ok((*digest, facts(store, name, *digest).await?)));
    let facts: Vec<(Digest, Option<Facts>)> =
        stream::iter(looks.collect::<Vec<_>>()).buffered(AT_A_TIME).try_collect().await?;
    Ok(facts.into_iter().filter_map(|(digest, facts)| Some((digest, facts?))).collect())
}

/// What is known of a manifest; nothing where it does not stand, or cannot be read: then no rule can judge it.
async fn facts(store: &Store, name: &Name, digest: Digest) -> Result<Option<Facts>> {
    let Some((manifest, gone)) = standing(store, name, digest).await? else { return Ok(None) };
    let mut blobs: HashMap<Digest, u64> = manifest.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    let mut seen = HashSet::from([digest]);
    let mut left: Vec<Digest> = manifest.children.iter().map(|child| child.digest).collect();
    while let Some(child) = left.pop() {
        if seen.insert(child)
            && let Some((child, _)) = standing(store, name, child).await?
        {
            blobs.extend(child.blobs.iter().map(|blob| (blob.digest, blob.size)));
            left.extend(child.children.iter().map(|child| child.digest));
        }
    }
    let size = blobs.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let media_type = manifest.media_type.to_string();
    Ok(Some(Facts { gone, media_type, size, annotations: manifest.annotations.unwrap_or_default() }))
}

async fn standing(store: &Store, name: &Name, digest: Digest) -> Result<Option<(Manifest, Option<layout::Ordinal>)>> {
    let group = Group::new(digest, store.list_all(&layout::manifest(name, &digest)).await?);
    let Some((entry, _)) = group.versions.first().filter(|(_, version)| version.there) else { return Ok(None) };
    let Some(content) = store.get(&entry.key).await? else { return Ok(None) };
    let manifest = ManifestHeader::split(&content).ok().and_then(|(header, bytes)| {
        let is_whole = Digest::of(digest.algorithm(), &bytes) == digest;
        Manifest::parse(Some(&header.media_type), &bytes).ok().filter(|_| is_whole)
    });
    if manifest.is_none() {
        tracing::warn!(repository = %name, %digest, "a manifest cannot be read; its tags are not judged, and stay");
    }
    Ok(manifest.map(|manifest| (manifest, group.last_gone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::Algorithm,
        storage::layout::{Ordinal, TagVersion},
    };

    #[test]
    fn when_an_image_was_last_pulled() {
        let digest = Digest::of(Algorithm::Sha256, b"image");
        let other = Digest::of(Algorithm::Sha256, b"another");
        let version = TagVersion { ordinal: Ordinal(1), target: Some((digest, Ordinal(1))) };
        let tag = LiveTag { tag: "latest".parse().unwrap(), version, of: Ordinal(1), old: true };
        let by = |tag: Option<&str>| tag.map(|tag| tag.parse().unwrap());
        for (pulls, pushed, since, expected) in [
            // never: known where it was recorded
            (&[][..], Some(10), Some(5), Some(10)),
            (&[], Some(10), Some(10), Some(10)),
            (&[], Some(10), Some(11), None),
            (&[], Some(10), None, None),
            (&[], None, Some(5), None),
            // by the tag and by the digest, whichever is newer
            (&[(Some("latest"), digest, 20), (None, digest, 15)], Some(10), Some(5), Some(20)),
            (&[(Some("latest"), digest, 20), (None, digest, 25)], Some(10), Some(5), Some(25)),
            // it is known even where recording began later
            (&[(None, digest, 20)], Some(10), Some(15), Some(20)),
            (&[(None, digest, 20)], None, Some(15), Some(20)),
            // pushed again since
            (&[(None, digest, 20)], Some(30), Some(5), Some(30)),
            // not what another tag, or this one with another meaning, was pulled for
            (&[(Some("v1"), digest, 20), (Some("latest"), other, 21), (None, other, 22)], Some(10), Some(5), Some(10)),
        ] {
            let pulls: Pulls = pulls.iter().map(|(tag, digest, at)| ((by(*tag), *digest), *at)).collect();
            assert_eq!(pulled_at(&pulls, &tag, digest, pushed, since), expected, "{pulls:?} {pushed:?} {since:?}");
        }
    }
}
