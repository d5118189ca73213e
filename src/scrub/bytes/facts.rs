//! The walk over all records about digests. It finds the needs of repositories, and the digests that need a closer
//! look.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{
    super::{Pass, Result, ages::AgeThresholds, notes::Notes, run::Run},
    AT_A_TIME,
    groups::{Group, Item, groups},
    listed::Listed,
    lost::Lost,
    rights::{self, Manifests},
    table::{Table, print},
};
use crate::{
    action::UploadId,
    oci::{Digest, Name},
    records::{
        CopyRecord, Provenance,
        key::{BlobLink, Key, Prefix},
    },
};

/// A digest that needs a closer look.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) digest: Digest,
    pub(super) need: Need,
    /// The author and time of the delete, if an unlink is the newest record about the digest.
    pub(super) deleted: Option<Box<Provenance>>,
}

/// The strongest need for a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Nothing needs it.
    None,
    /// Only blob links, unlinks or unknown keys keep it: a client may still push a manifest that names it, or restore
    /// it.
    Told,
    /// A manifest needs it.
    Manifest,
}

/// The result of the walk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) suspects: Vec<Suspect>,
    /// Digests that manifests need and that have no blob copy.
    pub(super) homeless: Vec<Digest>,
    /// The digests of each upload that several digests name.
    pub(super) shared: HashMap<UploadId, Vec<Digest>>,
}

/// The number of suspects that one run remembers. The next run finds the rest.
const MOST: usize = 1_000_000;

/// The result for one digest.
struct Verdict {
    digest: Digest,
    need: Need,
    places: Vec<Named>,
    /// True if the digest needs a closer look whatever its bytes look like.
    suspect: bool,
    deleted: Option<Box<Provenance>>,
}

/// The result for one part of the listing: keys that are none of the layout's, and a verdict if it was the last part of
/// a digest.
type Judged = (Vec<String>, Option<Verdict>);

/// A blob copy, which names bytes.
struct Named {
    id: UploadId,
    /// The number of bytes, the number of segments and the print of their names. Nothing if the record cannot be read.
    says: Option<(u64, usize, u16)>,
}

/// Walks over all records about digests. Frees records that protect nothing any more, and enters the named uploads in
/// the table.
pub(super) async fn walk(run: &Run<'_>, ages: AgeThresholds, table: &mut Table, notes: &Notes) -> Result<Found> {
    let known = (Manifests::new(), Listed::new(), Lost::default());
    let (mut found, mut seen) = (Found::default(), 0_u64);
    let asked_for = [Pass::Garbage, Pass::Uploads, Pass::Links];
    let pass = asked_for.into_iter().find(|pass| run.options.passes.contains(pass)).unwrap_or(Pass::Garbage);
    // the pass may have gone over repositories before
    let before = run.done(pass);
    let items = groups(run.store.scan(&Prefix::Blobs.to_string()));
    let verdicts = items.map_ok(|item| judge(run, ages, &known, item).boxed()).try_buffer_unordered(AT_A_TIME);
    let mut verdicts = std::pin::pin!(verdicts);
    while let Some((strange, verdict)) = verdicts.try_next().await? {
        run.go_on()?;
        for key in strange {
            // scrub does not free bytes that an unknown key may name
            if let Some(id) = Key::copy(&key).map(|(_, id)| id) {
                table.name(&id, true);
            }
            notes.unknown(run, &key).await?;
        }
        let Some(verdict) = verdict else { continue };
        seen += 1;
        run.progress(pass, before + seen, before + seen.max(table.len() as u64));
        take(verdict, table, &mut found);
    }
    run.saw("blobs", seen);
    if table.any_shared() {
        found.shared = shared(run, table).await?;
    }
    Ok(found)
}

fn take(verdict: Verdict, table: &mut Table, found: &mut Found) {
    let Verdict { digest, need, places, mut suspect, deleted } = verdict;
    for place in &places {
        table.name(&place.id, need > Need::None);
        suspect |= match (place.says, table.get(&place.id)) {
            (Some((bytes, segments, names)), Some(row)) => !row.is_plain(bytes, segments, names),
            // an empty blob has no bytes in the store
            (Some((bytes, ..)), None) => bytes > 0,
            (None, _) => true,
        };
    }
    if suspect && found.suspects.len() < MOST {
        found.suspects.push(Suspect { digest, need, deleted });
    }
    if need == Need::Manifest && places.is_empty() && found.homeless.len() < MOST {
        found.homeless.push(digest);
    }
}

async fn judge(
    run: &Run<'_>,
    ages: AgeThresholds,
    (manifests, listed, lost): &(Manifests, Listed, Lost),
    item: Item,
) -> Result<Judged> {
    let group = match item {
        Item::Strange(entry) => return Ok((vec![entry.key], None)),
        Item::Digest(group) => group,
    };
    let Group { digest, places, rights: entries, later, last } = group;
    let (facts, strange) = rights::read(run, ages, manifests, entries).await?;
    let frees = run.options.passes.contains(&Pass::Garbage);
    let mut fates = if frees { rights::judge(&facts, ages) } else { vec![None; facts.len()] };
    listed.spare(run, &digest, &facts, &mut fates).await?;
    lost.spare(run, ages, &facts, &mut fates).await?;
    let kept = facts.iter().zip(&fates).filter(|(_, fate)| fate.is_none());
    let mut need = if strange.is_empty() { Need::None } else { Need::Told };
    for (fact, _) in kept {
        let of = if matches!(fact.right, BlobLink::Pin(_)) { Need::Manifest } else { Need::Told };
        need = need.max(of);
    }
    let deleted = match rights::last_word(&facts).filter(|_| need == Need::None && last) {
        Some(entry) => stamp(run, &entry.key).await?,
        None => None,
    };
    for (fact, reason) in facts.iter().zip(fates).filter_map(|(fact, fate)| Some((fact, fate?))) {
        run.housekeeping(reason);
        run.free(&fact.entry.key, fact.entry.size).await?;
    }
    if later && need == Need::None && !run.store.list(&Prefix::AllLinks(&digest).to_string(), None, 1).await?.is_empty()
    {
        need = Need::Told;
    }
    let suspect =
        last && (places.len() > 1 || (need == Need::None && places.iter().any(|place| ages.is_past_grace(place))));
    let mut told = Vec::with_capacity(places.len());
    for place in places.iter().filter(|_| last) {
        let Some(id) = Key::copy(&place.key).map(|(_, id)| id) else { continue };
        let Some(content) = run.store.get(&place.key).await? else { continue };
        let fact = serde_json::from_slice::<CopyRecord>(&content).ok();
        let says = fact.map(|fact| {
            let names = fact.segments.iter().map(|segment| print(&segment.key(&id)));
            (fact.size, fact.segments.len(), names.fold(0, |all, name| all ^ name))
        });
        told.push(Named { id, says });
    }
    let strange = strange.into_iter().map(|entry| entry.key).collect();
    Ok((strange, last.then_some(Verdict { digest, need, places: told, suspect, deleted })))
}

async fn stamp(run: &Run<'_>, key: &str) -> Result<Option<Box<Provenance>>> {
    let content = run.store.get(key).await?;
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()).map(Box::new))
}

/// Returns the digests of each upload that several digests name.
async fn shared(run: &Run<'_>, table: &Table) -> Result<HashMap<UploadId, Vec<Digest>>> {
    let mut shared: HashMap<UploadId, Vec<Digest>> = HashMap::new();
    let mut entries = std::pin::pin!(run.store.scan(&Prefix::Blobs.to_string()));
    while let Some(entry) = entries.next().await.transpose()? {
        let Some((digest, id)) = Key::copy(&entry.key) else { continue };
        if table.is_shared(&id) {
            shared.entry(id).or_default().push(digest);
        }
    }
    Ok(shared)
}

/// Returns whether a manifest of any repository links a digest, or did before it was deleted. A manifest of which no
/// record can be read may link anything.
pub(super) async fn is_linked(run: &Run<'_>, digest: &Digest) -> Result<bool> {
    let mut asked = HashSet::new();
    for entry in run.store.list_all(&Prefix::AllLinks(digest).to_string()).await? {
        let Some((name, BlobLink::Pin(manifest))) = Key::link(&entry.key) else { continue };
        if asked.insert((name.clone(), manifest)) {
            let unlinked = run.registry.versions.last_unlinked(&name, &manifest).await?;
            if unlinked.is_none_or(|unlinked| !unlinked.contains(digest)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns a few of the repositories that have records about a digest, other than the pins of manifests that were cached
/// without it.
pub(in crate::scrub) async fn holders(run: &Run<'_>, digest: &Digest) -> Result<Vec<Name>> {
    /// The number of repositories that a message names.
    const NAMED: usize = 3;
    let (mut names, mut after) = (Vec::new(), None);
    while names.len() < NAMED {
        let listed = run.store.list(&Prefix::AllLinks(digest).to_string(), after.as_deref(), 1).await?;
        let Some((name, first)) = listed.first().and_then(|entry| Key::link(&entry.key)) else { break };
        after = Some(Prefix::Links(digest, &name).end());
        let is_pin = matches!(first, BlobLink::Pin(_));
        if !is_pin || run.registry.blobs.repository_has_blob_afresh(&name, digest).await? {
            names.push(name);
        }
    }
    Ok(names)
}
