//! Removes a repository from the catalog that is found empty twice, a lease apart. Records of its past keep their own
//! times, and do not keep it listed.
//!
//! A push writes the repository's entry in the catalog unless there is one, and writes it anyway where there is a mark.
//! So pushes rely on an entry from before the mark for no longer than a lease.

use super::{
    super::{Reason, Removal, Result, What},
    look::Repository,
};
use crate::{
    records::key::{CatalogKey, Key, Prefix},
    storage::Entry,
};

pub(super) async fn clean(repository: &Repository<'_>) -> Result<()> {
    let (run, ages, name) = (repository.run, repository.ages, repository.name);
    let (mut marks, mut entries) = (Vec::new(), Vec::new());
    for entry in run.store.list_all(&Prefix::CatalogOf(name).to_string()).await? {
        match Key::catalog(&entry.key) {
            Some((_, CatalogKey::Mark(_))) => marks.push(entry),
            Some((_, CatalogKey::Entry(_))) => entries.push(entry),
            None => {}
        }
    }
    let old: Vec<&Entry> = marks.iter().filter(|mark| ages.is_old(mark)).collect();
    let is_empty = run.registry.catalog.is_empty(name).await?;
    // the oldest old mark: every push that runs now started after it, and saw it
    let Some(first) = old.iter().map(|mark| mark.modified).min() else {
        if is_empty && marks.is_empty() && !entries.is_empty() {
            run.put(&CatalogKey::Mark(run.id).of(name), Vec::new()).await?;
        }
        return Ok(());
    };
    if is_empty && entries.iter().all(|entry| entry.modified < first) {
        if !entries.is_empty() {
            let removal = Removal::new(What::Repository, Reason::Empty);
            run.tell(Removal { repository: Some(name.clone()), ..removal })?;
        }
        for entry in &entries {
            run.free(&entry.key, entry.size).await?;
        }
    }
    for mark in old {
        run.housekeeping(Reason::Superseded);
        run.free(&mark.key, mark.size).await?;
    }
    Ok(())
}
