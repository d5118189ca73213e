//! Frees superseded versions of referrers, and removes the referrers of removed subjects.

use super::{
    super::{Reason, Result, names},
    fate::superseded,
    look::Repository,
};
use crate::{
    oci::Digest,
    records::{
        ManifestState,
        key::{Prefix, Referrer, RepositoryKey, Version},
        newest_version,
    },
    storage::Entry,
};

/// Cleans the referrers of a repository.
pub(super) async fn clean(repository: &mut Repository<'_>) -> Result<()> {
    let (store, name) = (&repository.run.store, repository.name);
    let mut groups = names::groups(store, name, Prefix::AllReferrers(name), |key| match key {
        RepositoryKey::Referrer(referrer, ..) => Some(referrer),
        _ => None,
    });
    let mut subject_gone: Option<(Digest, bool)> = None;
    while let Some((Referrer { subject, manifest }, entries)) = groups.next().await? {
        repository.run.go_on()?;
        let gone = match subject_gone {
            Some((seen, gone)) if seen == subject => gone,
            _ => repository.stand(&subject).await? == ManifestState::Deleted,
        };
        subject_gone = Some((subject, gone));
        if gone && Version::at_end_of(&entries[0].key).is_some_and(|version| version.there) {
            let ended = repository.examine(manifest, None).await?;
            repository.cascade(ended.into_iter().collect()).await?;
        }
        free_superseded(repository, &manifest, &entries).await?;
    }
    for subject in repository.named_subjects() {
        if repository.stand(&subject).await? != ManifestState::Deleted {
            continue;
        }
        for tag in repository.named_after(&subject) {
            let ended = repository.end_named(&tag).await?;
            repository.cascade(ended.into_iter().collect()).await?;
        }
    }
    Ok(())
}

/// Frees the versions of a referrer except the newest. Frees that one in a run that finds it alone, once its manifest
/// cannot be restored any more. Until then, a restore of the subject uses it to find the manifests that were removed
/// with the subject.
async fn free_superseded(repository: &Repository<'_>, manifest: &Digest, entries: &[Entry]) -> Result<()> {
    let ages = repository.ages;
    let old: Vec<bool> = entries.iter().map(|entry| ages.is_old(entry)).collect();
    let mut spare = superseded(&old);
    if let [last] = entries
        && ages.is_old(last)
        && ages.is_past_grace(last)
    {
        let newest = newest_version(&repository.run.store, repository.name, manifest).await?;
        if newest.is_none_or(|(entry, version)| !version.there && ages.is_past_trash(&entry)) {
            spare = 1;
        }
    }
    for entry in entries[entries.len() - spare..].iter().rev() {
        repository.run.housekeeping(Reason::Superseded);
        repository.run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}
