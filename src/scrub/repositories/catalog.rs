//! The catalog: a repository that is found empty twice, a lease apart, leaves it. What is known of its past stays as long as
//! it would otherwise, and is no reason to list it.
//!
//! Who pushes to a repository writes its place in the catalog unless it is there, and where a mark is, always: so what is
//! there from before the mark is relied on for no longer than a lease.

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
    // the first mark that is old: everybody has looked since
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
