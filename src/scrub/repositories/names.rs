//! The names of all repositories, and groups of objects of a listing.

use std::pin::Pin;

use futures::{Stream, TryStreamExt as _};

use super::super::{Result, run::Run};
use crate::{
    oci::Name,
    storage::{self, Entry, Store, layout},
};

/// The number of keys that one listing asks for to skip keys that belong to no repository.
const AT_ONCE: usize = 1000;

/// A walk over the names of repositories, in the catalog or not, in the order of their keys. Each name costs one
/// listing, however much is in the repository.
#[derive(Default)]
pub(in crate::scrub) struct Names {
    catalog: Cursor,
    repositories: Cursor,
}

#[derive(Default)]
enum Cursor {
    #[default]
    Start,
    At(Name),
    End,
}

impl Cursor {
    fn name(&self) -> Option<&Name> {
        match self {
            Self::At(name) => Some(name),
            Self::Start | Self::End => None,
        }
    }

    async fn go_on(
        &mut self,
        store: &Store,
        prefix: &str,
        name_of: fn(&str) -> Option<Name>,
        end_of: fn(&Name) -> String,
    ) -> Result<()> {
        let mut after = self.name().map(end_of);
        if matches!(self, Self::End) {
            return Ok(());
        }
        let mut at_once = 1;
        loop {
            let listed = store.list(prefix, after.as_deref(), at_once).await?;
            let Some(last) = listed.last() else {
                *self = Self::End;
                return Ok(());
            };
            if let Some(name) = listed.iter().find_map(|entry| name_of(&entry.key)) {
                *self = Self::At(name);
                return Ok(());
            }
            // keys of another program, of which there may be many
            after = Some(last.key.clone());
            at_once = AT_ONCE;
        }
    }
}

fn in_catalog(key: &str) -> Option<Name> {
    layout::catalog_mark_name(key).or_else(|| layout::catalog_name(key))
}

fn in_repositories(key: &str) -> Option<Name> {
    Some(layout::repository_name(key)?.0)
}

impl Names {
    /// Returns the next name.
    pub(in crate::scrub) async fn next(&mut self, store: &Store) -> Result<Option<Name>> {
        let sorted = |name: &Name| format!("{name}!");
        let last = self.last();
        for (cursor, prefix, name_of, end_of) in [
            (&mut self.catalog, layout::CATALOG, in_catalog as fn(&str) -> _, layout::after_catalog as fn(&Name) -> _),
            (&mut self.repositories, layout::REPOSITORIES, in_repositories, layout::after_repository),
        ] {
            if cursor.name().cloned() == last {
                cursor.go_on(store, prefix, name_of, end_of).await?;
            }
        }
        let names = [self.catalog.name(), self.repositories.name()];
        Ok(names.into_iter().flatten().min_by_key(|name| sorted(name)).cloned())
    }

    /// Returns the name that was given last: the smaller one of the two.
    fn last(&self) -> Option<Name> {
        let names = [self.catalog.name(), self.repositories.name()];
        names.into_iter().flatten().min_by_key(|name| format!("{name}!")).cloned()
    }
}

/// Counts the repositories in the catalog that a run covers, by one listing. [`Names`] has few that the catalog has
/// not.
pub(in crate::scrub) async fn count(run: &Run<'_>) -> Result<u64> {
    let mut listing = std::pin::pin!(run.store.scan(layout::CATALOG));
    let (mut number, mut last) = (0, None);
    while let Some(entry) = listing.try_next().await? {
        let Some(name) = in_catalog(&entry.key) else { continue };
        if last.as_ref() != Some(&name) {
            number += u64::from(run.covers(&name));
            last = Some(name);
        }
    }
    Ok(number)
}

/// The function that gives the group of a key, if there is one.
type BelongsTo<K> = Box<dyn Fn(&str) -> Option<K> + Send + Sync>;

/// The objects of a listing, one group at a time. Leaves out objects without a group.
pub(super) struct Groups<K> {
    listing: Pin<Box<dyn Stream<Item = storage::Result<Entry>> + Send>>,
    of: BelongsTo<K>,
    next: Option<(K, Entry)>,
}

impl<K: PartialEq> Groups<K> {
    pub(super) fn new(store: &Store, prefix: &str, of: impl Fn(&str) -> Option<K> + Send + Sync + 'static) -> Self {
        Self { listing: Box::pin(store.scan(prefix)), of: Box::new(of), next: None }
    }

    pub(super) async fn next(&mut self) -> Result<Option<(K, Vec<Entry>)>> {
        let mut group: Option<(K, Vec<Entry>)> = self.next.take().map(|(key, entry)| (key, vec![entry]));
        while let Some(entry) = self.listing.try_next().await? {
            let Some(key) = (self.of)(&entry.key) else { continue };
            match &mut group {
                None => group = Some((key, vec![entry])),
                Some((of, entries)) if *of == key => entries.push(entry),
                Some(_) => {
                    self.next = Some((key, entry));
                    break;
                }
            }
        }
        Ok(group)
    }
}
