//! Removes a repository from the catalog that is found empty twice, a lease apart. Records of its past keep their own
//! times, and do not keep it listed.
//!
//! A push writes the repository's entry in the catalog unless there is one, and writes it anyway where there is a mark.
//! So pushes rely on an entry from before the mark for no longer than a lease.

use super::{
    super::{Reason, Removal, Result, What},
    look::Repository,
};
use crate::storage::{Entry, layout};

pub(super) async fn clean(repository: &Repository<'_>) -> Result<()> {
    let (run, ages, name) = (repository.run, repository.ages, repository.name);
    // without a slash: older stores have the attempt right behind the `!`
    let listed = run.store.list_all(&format!("{}{name}!", layout::CATALOG)).await?;
    let (marks, facts): (Vec<Entry>, Vec<Entry>) =
        listed.into_iter().partition(|entry| layout::catalog_mark_name(&entry.key).is_some());
    let old: Vec<&Entry> = marks.iter().filter(|mark| ages.is_old(mark)).collect();
    let is_empty = run.registry.is_empty(name).await?;
    // the oldest old mark: every push that runs now started after it, and saw it
    let Some(first) = old.iter().map(|mark| mark.modified).min() else {
        if is_empty && marks.is_empty() && !facts.is_empty() {
            run.put(&layout::catalog_mark(name, &run.id), Vec::new()).await?;
        }
        return Ok(());
    };
    if is_empty && facts.iter().all(|fact| fact.modified < first) {
        if !facts.is_empty() {
            let removal = Removal::new(What::Repository, Reason::Empty);
            run.tell(Removal { repository: Some(name.clone()), ..removal })?;
        }
        for fact in &facts {
            run.free(&fact.key, fact.size).await?;
        }
    }
    for mark in old {
        run.housekeeping(Reason::Superseded);
        run.free(&mark.key, mark.size).await?;
    }
    Ok(())
}
