//! The images of a repository as retention rules see them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::super::{
    Result,
    ages::AgeThresholds,
    repositories::{Live, LiveTag, Pulls, live_tags, read_pulls},
};
use crate::{
    config::Config,
    oci::{Digest, Manifest, Name},
    policy::{Image, Policy},
    records::{
        ManifestRecords, ManifestState, Provenance, PullsSince, ReadManifest,
        key::{Key, Ordinal, RepositoryKey},
    },
    registry::InForce,
    scrub::run::Run,
    storage::{Entry, Skew, Store},
};

/// Storage operations that run at a time.
const AT_A_TIME: usize = 8;

/// The number of bytes of annotations that are held of a repository at a time. Further annotations are read again when
/// they are asked for.
pub(super) const ANNOTATIONS: usize = 32 * 1024 * 1024;

/// The annotations of a manifest.
pub(super) type Annotations = Arc<BTreeMap<String, String>>;

/// The images of a repository, with the tags and manifests that a removal of each image removes.
pub(super) struct Inventory {
    pub(super) images: Vec<Image>,
    /// The tag and manifest of each image, in the order of `images`.
    pub(super) judged: Vec<Judged>,
    /// The tags that rules do not judge.
    others: Vec<Unjudged>,
}

/// The tags of a repository, as retention sees them.
#[derive(Debug)]
pub struct Tags {
    /// The tags that rules judge, in the order of their names.
    pub images: Vec<Image>,
    /// The time from which on a run may remove each image, in the order of `images`, if that is later than now.
    pub settles: Vec<Option<Timestamp>>,
    /// The tags that rules do not judge.
    pub others: Vec<Unjudged>,
    /// The lease in force. A push counts as ended when it is older.
    pub lease: Duration,
    /// The time that rules judge by: the store's, or the host's if the store does not tell its time.
    pub now: Timestamp,
    /// Set if this host's clock is far from the store's.
    pub skew: Option<Skew>,
}

/// A tag that rules do not judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// The tag.
    pub tag: String,
    /// The digest of the manifest that it means.
    pub digest: String,
    /// True if the tag stays for now.
    pub keep: bool,
    /// The reason why rules do not judge it.
    pub why: String,
}

/// A tag that rules judge.
pub(super) struct Judged {
    pub(super) tag: LiveTag,
    pub(super) digest: Digest,
    /// True if the tag and the last push of its manifest are both older than a lease. Until then, scrub could not
    /// remove the manifest with its last tag, and the manifest would stay without a tag.
    pub(super) settled: bool,
    /// The time from which on `settled` is true, by the store's clock.
    pub(super) settles: Option<Timestamp>,
    /// True if memory had no room for its annotations.
    pub(super) without_annotations: bool,
}

/// The facts about a manifest that rules can ask for.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// The newest tombstone. Tags that name an older version are dead.
    gone: Option<Ordinal>,
    media_type: String,
    size: u64,
    /// The annotations, or nothing if memory has no room for them.
    annotations: Option<Annotations>,
    /// True if its newest version is older than a lease.
    old: bool,
    /// The time from which on `old` is true, in milliseconds since 1970, if it is known.
    old_from: Option<u64>,
}

/// The reason why a manifest cannot be judged.
#[derive(Debug)]
enum Lost {
    Missing,
    Deleted,
    Damaged(String),
}

/// The facts about a manifest, or the reason why there are none.
type Found = std::result::Result<Facts, Lost>;

/// Returns all tags of a repository, with annotations if rules of `policy` name annotations. Writes nothing.
///
/// # Errors
/// Those of the store.
pub async fn tags(store: &Store, config: &Config, policy: &Policy, name: &Name) -> Result<Tags> {
    // a directory that cannot be written tells no time: then the wall clock counts
    if let Err(error) = store.hear_time().await {
        tracing::debug!(%error, "the store does not tell its time");
    }
    let now = store.clock().time_ms();
    let lease = InForce::read(store, now).await?.map_or(0, |it| it.lease_ms);
    let ages = AgeThresholds::as_known(now, lease, &config.scrub);
    let live = live_tags(store, ages, name).await?;
    let room = if policy.retention_reads_annotations(name) { usize::MAX } else { 0 };
    let Inventory { images, judged, others } = take_with(store, config, ages, name, &live, room).await?;
    let settles = judged.into_iter().map(|judged| judged.settles.filter(|_| !judged.settled)).collect();
    let now = timestamp(now).unwrap_or(Timestamp::MAX);
    Ok(Tags { images, settles, others, lease: Duration::from_millis(ages.lease()), now, skew: store.clock().skew() })
}

/// Collects the images that these tags mean. Leaves out tags that lead to no manifest, and tags that are referrers by
/// their name. Holds annotations only if rules name annotations, and only as far as memory has room for them.
pub(super) async fn take(run: &Run<'_>, ages: AgeThresholds, name: &Name, live: &Live) -> Result<Inventory> {
    let room = if run.policy.retention_reads_annotations(name) { ANNOTATIONS } else { 0 };
    take_with(&run.store, run.config, ages, name, live, room).await
}

async fn take_with(
    store: &Store,
    config: &Config,
    ages: AgeThresholds,
    name: &Name,
    live: &Live,
    room: usize,
) -> Result<Inventory> {
    let rule = config.immutable_tags(name);
    let manifests = manifests(store, ages, name, live, room).await?;
    let pulls = read_pulls(store, name).await?;
    let since = pulls_since(store).await?;
    let subjects = subjects(store, name, live).await?;
    let (mut tags, mut others) = (Vec::new(), Vec::new());
    for (digest, tag) in live.iter().flat_map(|(digest, tags)| tags.iter().map(move |tag| (*digest, tag))) {
        let subject = tag.tag.named_subject().and_then(|subject| Some((subject, *subjects.get(&subject)?)));
        match judge(tag, subject, manifests.get(&digest)) {
            Ok(facts) => tags.push((digest, tag, facts)),
            Err((keep, why)) => {
                others.push(Unjudged { tag: tag.tag.to_string(), digest: digest.to_string(), keep, why });
            }
        }
    }
    tags.sort_by(|(_, one, _), (_, other, _)| one.tag.cmp(&other.tag));
    let pushed = tags.iter().map(|(_, tag, _)| pushed_at(store, name, tag));
    let pushed: Vec<Option<u64>> = stream::iter(pushed.collect::<Vec<_>>()).buffered(AT_A_TIME).try_collect().await?;
    let (images, judged) = (Vec::with_capacity(tags.len()), Vec::with_capacity(tags.len()));
    let mut inventory = Inventory { images, judged, others };
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
            annotations: facts.annotations.clone().unwrap_or_default(),
            immutable: rule.covers(&tag.tag),
        });
        let settles = tag.old_from.zip(facts.old_from).and_then(|(tag, manifest)| timestamp(tag.max(manifest)));
        inventory.judged.push(Judged {
            tag: tag.clone(),
            digest,
            settled: tag.old && facts.old,
            settles,
            without_annotations: facts.annotations.is_none(),
        });
    }
    Ok(inventory)
}

/// Returns the facts that rules judge a tag by. If rules do not judge it, returns whether it stays, and why.
fn judge<'f>(
    tag: &LiveTag,
    subject: Option<(Digest, bool)>,
    manifest: Option<&'f Found>,
) -> std::result::Result<&'f Facts, (bool, String)> {
    let deleted = "its manifest was deleted";
    match (manifest, subject) {
        (Some(Err(Lost::Deleted)), _) => Err((false, deleted.to_owned())),
        (Some(Ok(facts)), _) if facts.gone.is_some_and(|gone| tag.of < gone) => Err((false, deleted.to_owned())),
        (_, Some((subject, true))) => Err((true, format!("goes with {subject}, which exists"))),
        (_, Some((subject, false))) => Err((false, format!("goes with {subject}, which was deleted"))),
        (Some(Ok(facts)), None) => Ok(facts),
        (Some(Err(Lost::Damaged(what))), None) => Err((true, format!("its manifest is damaged: {what}; it stays"))),
        (Some(Err(Lost::Missing)) | None, None) => Err((true, "its manifest is missing; it stays".to_owned())),
    }
}

fn timestamp(milliseconds: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(milliseconds).ok()?).ok()
}

/// Returns the time at which a tag got its meaning, in milliseconds since 1970. Returns nothing if its record cannot be
/// read.
async fn pushed_at(store: &Store, name: &Name, tag: &LiveTag) -> Result<Option<u64>> {
    let content = store.get(&RepositoryKey::Tag(tag.tag.clone(), tag.version).of(name)).await?;
    Ok(content.and_then(|content| serde_json::from_slice::<Provenance>(&content).ok()).map(|stamp| stamp.at))
}

/// Returns the time since which servers record pulls, in milliseconds since 1970.
async fn pulls_since(store: &Store) -> Result<Option<u64>> {
    let content = store.get(&Key::PullsSince.to_string()).await?;
    Ok(content.and_then(|content| serde_json::from_slice::<PullsSince>(&content).ok()).map(|since| since.at))
}

/// Returns the time of the last pull of an image, by its tag or its digest. An image that was not pulled since its push
/// counts from the push, if servers recorded pulls then. Otherwise returns nothing.
fn pulled_at(pulls: &Pulls, tag: &LiveTag, digest: Digest, pushed: Option<u64>, since: Option<u64>) -> Option<u64> {
    let by_tag = pulls.get(&(Some(tag.tag.clone()), digest));
    let by_digest = pulls.get(&(None, digest));
    let pulled = by_tag.max(by_digest).copied();
    let at_least = pushed.filter(|pushed| since.is_some_and(|since| since <= *pushed));
    pulled.max(at_least)
}

/// Returns the subjects that names of tags contain and that the repository has or had, each with whether it exists.
async fn subjects(store: &Store, name: &Name, live: &Live) -> Result<HashMap<Digest, bool>> {
    let named: HashSet<Digest> = live.values().flatten().filter_map(|tag| tag.tag.named_subject()).collect();
    let known = named.into_iter().map(async |subject| {
        Result::Ok(match ManifestState::of(store, name, &subject).await? {
            ManifestState::Stands => Some((subject, true)),
            ManifestState::Deleted => Some((subject, false)),
            ManifestState::Never | ManifestState::Unknown => None,
        })
    });
    let known: Vec<Option<(Digest, bool)>> =
        stream::iter(known.collect::<Vec<_>>()).buffered(AT_A_TIME).try_collect().await?;
    Ok(known.into_iter().flatten().collect())
}

/// Reads the annotations of a manifest once more. Returns none if the manifest is gone.
pub(super) async fn annotations(store: &Store, name: &Name, digest: Digest) -> Result<Annotations> {
    let standing = standing(store, name, digest).await?;
    Ok(standing.ok().and_then(|standing| standing.manifest.annotations).unwrap_or_default().into())
}

/// Returns the bytes that annotations take.
pub(super) fn bytes_of(annotations: &BTreeMap<String, String>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Reads the manifests that tags mean, and holds annotations as far as memory has room.
async fn manifests(
    store: &Store,
    ages: AgeThresholds,
    name: &Name,
    live: &Live,
    mut room: usize,
) -> Result<HashMap<Digest, Found>> {
    let looks = live
        .iter()
        .filter(|(_, tags)| !tags.is_empty())
        .map(async |(digest, _)| Result::Ok((*digest, facts(store, ages, name, *digest).await?)));
    let mut looks = std::pin::pin!(stream::iter(looks.collect::<Vec<_>>()).buffered(AT_A_TIME));
    let mut manifests = HashMap::new();
    while let Some((digest, mut found)) = looks.try_next().await? {
        if let Ok(facts) = &mut found {
            let bytes = facts.annotations.as_deref().map_or(0, bytes_of);
            match room.checked_sub(bytes) {
                Some(left) => room = left,
                None => facts.annotations = None,
            }
        }
        manifests.insert(digest, found);
    }
    Ok(manifests)
}

async fn facts(store: &Store, ages: AgeThresholds, name: &Name, digest: Digest) -> Result<Found> {
    let Standing { manifest, newest, gone } = match standing(store, name, digest).await? {
        Ok(standing) => standing,
        Err(lost) => return Ok(Err(lost)),
    };
    // foreign layers are stored elsewhere
    let stored = |manifest: &Manifest| {
        let blobs = manifest.listed_blobs().filter(|blob| !manifest.foreign.contains(blob));
        blobs.map(|blob| (blob.digest, blob.size)).collect::<Vec<_>>()
    };
    let mut blobs: HashMap<Digest, u64> = stored(&manifest).into_iter().collect();
    let mut seen = HashSet::from([digest]);
    let mut left: Vec<Digest> = manifest.children.iter().map(|child| child.digest).collect();
    while let Some(child) = left.pop() {
        if seen.insert(child)
            && let Ok(Standing { manifest: child, .. }) = standing(store, name, child).await?
        {
            blobs.extend(stored(&child));
            left.extend(child.children.iter().map(|child| child.digest));
        }
    }
    let size = blobs.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let media_type = manifest.media_type.to_string();
    let annotations = Some(manifest.annotations.unwrap_or_default().into());
    let (old, old_from) = (ages.is_old(&newest), ages.old_from(newest.modified));
    Ok(Ok(Facts { gone, media_type, size, annotations, old, old_from }))
}

/// An existing manifest.
struct Standing {
    manifest: Manifest,
    /// Its newest version.
    newest: Entry,
    /// Its newest tombstone.
    gone: Option<Ordinal>,
}

async fn standing(store: &Store, name: &Name, digest: Digest) -> Result<std::result::Result<Standing, Lost>> {
    let records = ManifestRecords::read(store, name, digest).await?;
    let Some((newest, _)) = records.standing() else {
        return Ok(Err(if records.versions.is_empty() { Lost::Missing } else { Lost::Deleted }));
    };
    let Some(content) = store.get(&newest.key).await? else { return Ok(Err(Lost::Missing)) };
    let read = ReadManifest::of(&digest, &content).map_err(|what| {
        tracing::warn!(repository = %name, %digest, what, "a manifest cannot be read; its tags are not judged, and stay");
        Lost::Damaged(what)
    });
    let gone = records.last_tombstone().map(|(_, ordinal)| ordinal);
    Ok(read.map(|read| Standing { manifest: read.manifest, newest: newest.clone(), gone }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::Algorithm,
        records::key::{Ordinal, TagVersion},
    };

    #[test]
    fn when_an_image_was_last_pulled() {
        let digest = Digest::of(Algorithm::Sha256, b"image");
        let other = Digest::of(Algorithm::Sha256, b"another");
        let version = TagVersion { ordinal: Ordinal(1), target: Some((digest, Ordinal(1))) };
        let tag = LiveTag { tag: "latest".parse().unwrap(), version, of: Ordinal(1), old: true, old_from: Some(1) };
        let by = |tag: Option<&str>| tag.map(|tag| tag.parse().unwrap());
        for (pulls, pushed, since, expected) in [
            // never pulled: known if pulls were recorded at the push
            (&[][..], Some(10), Some(5), Some(10)),
            (&[], Some(10), Some(10), Some(10)),
            (&[], Some(10), Some(11), None),
            (&[], Some(10), None, None),
            (&[], None, Some(5), None),
            // by the tag and by the digest: the newer one counts
            (&[(Some("latest"), digest, 20), (None, digest, 15)], Some(10), Some(5), Some(20)),
            (&[(Some("latest"), digest, 20), (None, digest, 25)], Some(10), Some(5), Some(25)),
            // known even if recording began later
            (&[(None, digest, 20)], Some(10), Some(15), Some(20)),
            (&[(None, digest, 20)], None, Some(15), Some(20)),
            // pushed again since
            (&[(None, digest, 20)], Some(30), Some(5), Some(30)),
            // pulls of another tag, or of this tag with another meaning, do not count
            (&[(Some("v1"), digest, 20), (Some("latest"), other, 21), (None, other, 22)], Some(10), Some(5), Some(10)),
        ] {
            let pulls: Pulls = pulls.iter().map(|(tag, digest, at)| ((by(*tag), *digest), *at)).collect();
            assert_eq!(pulled_at(&pulls, &tag, digest, pushed, since), expected, "{pulls:?} {pushed:?} {since:?}");
        }
    }
}
