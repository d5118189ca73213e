//! Frees the times at which manifests of caches were first seen, if they are old and the store has neither a version nor a
//! tombstone of the manifest. The cooldown of such a manifest begins anew if it comes again.

use super::{
    super::{Reason, Result, names},
    look::Repository,
};
use crate::{
    records::{
        ManifestState,
        key::{Prefix, RepositoryKey},
    },
    storage::Entry,
};

/// The age from which on a record can go, in milliseconds: 180 days, twice the longest cooldown.
const AGE: u64 = 180 * 24 * 3600 * 1000;

pub(super) async fn clean(repository: &Repository<'_>) -> Result<()> {
    let (run, ages, name) = (repository.run, repository.ages, repository.name);
    let mut groups = names::groups(&run.store, name, Prefix::AllFirstSeen(name), |key| match key {
        RepositoryKey::FirstSeen(digest) | RepositoryKey::Lead(digest, _) => Some(digest),
        _ => None,
    });
    let is_old = |entry: &Entry| ages.is_old(entry) && ages.of(entry) >= AGE;
    let is_lead = |entry: &Entry| matches!(RepositoryKey::under(name, &entry.key), Some(RepositoryKey::Lead(..)));
    while let Some((digest, entries)) = groups.next().await? {
        let gone = entries.iter().all(is_old) && repository.stand(&digest).await? == ManifestState::Never;
        // by then no cooldown asks which tags lead to the manifest
        for entry in entries.iter().filter(|entry| gone || (is_lead(entry) && is_old(entry))) {
            run.housekeeping(Reason::Superseded);
            run.free(&entry.key, entry.size).await?;
        }
    }
    Ok(())
}
