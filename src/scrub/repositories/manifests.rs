//! Carries out the decisions of `fate` about manifests.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::{Reason, Removal, Result, ScrubError, What, names},
    claims,
    fate::{Fate, Seen, spare, superseded},
    look::Repository,
};
use crate::{
    oci::Digest,
    records::{
        ManifestHeader, ManifestRecords, ManifestState, Provenance, ReadManifest,
        key::{BlobLink, Ordinal, Prefix, RepositoryKey, Version},
    },
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// Cleans the manifests of a repository.
pub(super) async fn clean(repository: &mut Repository<'_>) -> Result<()> {
    let (store, name) = (&repository.run.store, repository.name);
    let mut groups = names::groups(store, name, Prefix::Manifests(name), |key| match key {
        RepositoryKey::Manifest(digest, _) => Some(digest),
        _ => None,
    });
    let mut count = 0;
    while let Some((digest, entries)) = groups.next().await? {
        repository.run.go_on()?;
        let group = ManifestRecords::new(digest, entries);
        // an index reference alone is of a child that has not come
        count += u64::from(!group.versions.is_empty());
        let (parents, stands) = repository.parents(&group).await?;
        let mut seen = repository.seen(&group, parents);
        let untagged = repository.run.config.scrub.untagged;
        match seen.fate(untagged) {
            Fate::Dead => dead(repository, &group).await?,
            Fate::Goes(_) => {
                // its subject may need it
                let header = repository.header(&group).await?;
                seen.subject = repository.subject(header.as_ref()).await?;
                seen = repository.with_grace(&digest, seen).await?;
                match seen.fate(untagged) {
                    Fate::Goes(_) => {
                        let ended = repository.settle(&group, seen, header, None).await?;
                        repository.cascade(ended.into_iter().collect()).await?;
                    }
                    _ => free_superseded(repository, &group).await?,
                }
            }
            Fate::Stays => free_superseded(repository, &group).await?,
            Fate::Gone => {}
        }
        index_references(repository, &group, seen, &stands).await?;
        for going in group.pending_deletes.iter().filter(|going| repository.ages.is_old(going)) {
            free(repository, going).await?;
        }
    }
    repository.run.saw("manifests", count);
    claims::of_manifests(repository.run, repository.ages, repository.name).await?;
    claims::of_downloads(repository.run, repository.ages, repository.name).await
}

async fn free(repository: &Repository<'_>, entry: &Entry) -> Result<()> {
    repository.run.housekeeping(Reason::Superseded);
    repository.run.free(&entry.key, entry.size).await
}

/// Frees the versions of an existing manifest except the newest, once that is old.
async fn free_superseded(repository: &mut Repository<'_>, group: &ManifestRecords) -> Result<()> {
    let old: Vec<bool> = group.versions.iter().map(|(entry, _)| repository.ages.is_old(entry)).collect();
    let spare = &group.versions[group.versions.len() - superseded(&old)..];
    // without the newest tombstone, tags that name an older version would come alive
    let gone = spare.iter().filter(|(_, version)| !version.there).map(|(_, version)| version.ordinal).max();
    if let Some(gone) = gone
        && !say_tags_gone(repository, &group.digest, gone).await?
    {
        return Ok(());
    }
    if spare.is_empty() || !keep_links(repository, group, spare).await? {
        return Ok(());
    }
    for (entry, _) in spare.iter().rev() {
        free(repository, entry).await?;
    }
    Ok(())
}

/// Returns whether the newest version of an existing manifest links all that older ones do. If not, records the links
/// anew, and a later run frees the older versions. Frees pins from before the last delete if the manifest does not link
/// their blobs.
async fn keep_links(repository: &Repository<'_>, group: &ManifestRecords, spare: &[(Entry, Version)]) -> Result<bool> {
    let (run, newest) = (repository.run, &group.versions[0].0);
    let Some(content) = run.store.get(&newest.key).await? else { return Ok(false) };
    let header = match ManifestHeader::split(&content) {
        Ok((header, _)) if header.absent.is_empty() => return Ok(true),
        Ok((header, _)) => header,
        // perhaps only older versions record its links
        Err(_) => return Ok(false),
    };
    let unlinked =
        run.registry.versions.unlinked(repository.name, &group.digest).await.map_err(ScrubError::Registry)?;
    let Some(unlinked) = unlinked else { return Ok(false) };
    if header.absent.iter().any(|digest| !unlinked.contains(digest)) && !mutated(Mutation::LinksOfOlderVersionsNotKept)
    {
        if !run.options.dry_run {
            let recorded =
                run.registry.versions.record_links(repository.name, &group.digest, &newest.key, unlinked).await;
            recorded.map_err(ScrubError::Registry)?;
        }
        return Ok(false);
    }
    // the pins of a cached manifest wait for what comes
    if spare.iter().any(|(_, version)| !version.there) && !header.cached {
        free_pins(repository, &group.digest, &unlinked).await?;
    }
    Ok(true)
}

/// Writes the tombstones of tags that name a version before `gone`, which are dead. Returns whether all of them are
/// gone; a tag is not if a push may have the place.
async fn say_tags_gone(repository: &mut Repository<'_>, digest: &Digest, gone: Ordinal) -> Result<bool> {
    let tags = repository.live.get(digest).into_iter().flatten();
    let dead: Vec<_> = tags.filter(|tag| tag.of < gone).cloned().collect();
    let mut all = true;
    for tag in dead {
        all &= repository.say_gone(&tag).await?;
    }
    Ok(all)
}

/// Frees the index references that have no reader.
async fn index_references(
    repository: &Repository<'_>,
    group: &ManifestRecords,
    seen: Seen,
    stands: &HashMap<Digest, ManifestState>,
) -> Result<()> {
    let mut by_parent: BTreeMap<Digest, Vec<&Entry>> = BTreeMap::new();
    for (entry, parent) in &group.index_references {
        by_parent.entry(*parent).or_default().push(entry);
    }
    for (parent, entries) in by_parent {
        let stand = stands.get(&parent).copied().unwrap_or(ManifestState::Stands);
        // the references of a deleted index stay until scrub has removed the manifest, unless something else keeps it
        let needed = stand == ManifestState::Stands || (stand == ManifestState::Deleted && !seen.stands_by_itself());
        let ages = repository.ages;
        let facts: Vec<(u64, bool)> =
            entries.iter().map(|entry| (entry.modified, ages.is_old(entry) && ages.is_past_grace(entry))).collect();
        for at in spare(&facts, needed) {
            free(repository, entries[at]).await?;
        }
    }
    Ok(())
}

/// Frees the remains of a manifest that cannot be restored: first its pins, then its versions once no pin is left. A
/// later run frees the tombstone that is left alone.
async fn dead(repository: &mut Repository<'_>, group: &ManifestRecords) -> Result<()> {
    let Some(((last, _), below)) = group.versions.split_first() else { return Ok(()) };
    if below.is_empty() {
        if let Some((_, gone)) = group.last_tombstone()
            && !say_tags_gone(repository, &group.digest, gone).await?
        {
            return Ok(());
        }
        return free(repository, last).await;
    }
    if below.iter().any(|(_, version)| version.there) {
        let Some((blobs, size)) = blobs(repository, group).await? else { return Ok(()) };
        if !free_pins(repository, &group.digest, &blobs).await? {
            return Ok(());
        }
        let stamp = repository.run.store.get(&last.key).await?;
        let stamp: Option<Provenance> = stamp.and_then(|content| serde_json::from_slice(&content).ok());
        let removal = repository.removal(What::Manifest, Reason::Deleted, group.digest, None);
        repository.run.tell(Removal { size, deleted: stamp, ..removal })?;
    }
    for (entry, _) in below.iter().rev() {
        free(repository, entry).await?;
    }
    Ok(())
}

/// Returns the blobs that a manifest names, and the size of its version. Returns nothing if no version can be read; the
/// manifest is left as it is then.
async fn blobs(repository: &Repository<'_>, group: &ManifestRecords) -> Result<Option<(Vec<Digest>, u64)>> {
    for (entry, _) in group.versions.iter().filter(|(_, version)| version.there) {
        let Some(content) = repository.run.store.get(&entry.key).await? else { return Ok(None) };
        if let Ok(ReadManifest { manifest, .. }) = ReadManifest::of(&group.digest, &content) {
            return Ok(Some((manifest.listed_blobs().map(|blob| blob.digest).collect(), entry.size)));
        }
    }
    tracing::warn!(repository = %repository.name, digest = %group.digest, "no version of a deleted manifest can be read; it is left as it is");
    Ok(None)
}

/// Frees a manifest's old pins. Returns whether a look afterwards finds no pin.
async fn free_pins(repository: &Repository<'_>, manifest: &Digest, blobs: &[Digest]) -> Result<bool> {
    let mut young = false;
    for blob in blobs {
        for pin in pins(repository, manifest, blob).await? {
            if repository.ages.is_old(&pin) && repository.ages.is_past_grace(&pin) {
                free(repository, &pin).await?;
            } else {
                young = true;
            }
        }
    }
    if young || repository.run.options.dry_run {
        return Ok(!young);
    }
    for blob in blobs {
        if !pins(repository, manifest, blob).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn pins(repository: &Repository<'_>, manifest: &Digest, blob: &Digest) -> Result<Vec<Entry>> {
    let rights = repository.run.store.list_all(&Prefix::Links(blob, repository.name).to_string()).await?;
    Ok(rights.into_iter().filter(|entry| BlobLink::at_end_of(&entry.key) == Some(BlobLink::Pin(*manifest))).collect())
}
