//! The names of all repositories, and groups of objects of a listing.

use futures::TryStreamExt as _;

use super::Result;
use crate::{
    oci::Name,
    records::{
        Groups,
        key::{Key, Owner, Prefix, RepositoryKey},
    },
    storage::Store,
};

/// The number of keys that one listing asks for to skip keys that belong to no repository.
const AT_ONCE: usize = 1000;

/// A walk over the names of repositories, in the catalog or not, in the order of their keys. Each name costs one
/// listing, however much is in the repository.
#[derive(Default)]
pub(super) struct Names {
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
        prefix: Prefix<'_>,
        name_of: fn(&str) -> Option<Name>,
        end_of: fn(&Name) -> String,
    ) -> Result<()> {
        let mut after = self.name().map(end_of);
        if matches!(self, Self::End) {
            return Ok(());
        }
        let mut at_once = 1;
        loop {
            let listed = store.list(&prefix.to_string(), after.as_deref(), at_once).await?;
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
    Key::catalog(key).map(|(name, _)| name)
}

impl Names {
    /// Returns the next name.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Name>> {
        let last = self.last();
        if self.catalog.name().cloned() == last {
            self.catalog.go_on(store, Prefix::Catalog, in_catalog, |name| Prefix::CatalogOf(name).end()).await?;
        }
        if self.repositories.name().cloned() == last {
            let end_of = |name: &Name| Prefix::Repository(name).end();
            self.repositories.go_on(store, Prefix::Repositories, Owner::repository, end_of).await?;
        }
        Ok(self.last())
    }

    /// Returns the name that was given last: the smaller one of the two.
    fn last(&self) -> Option<Name> {
        let names = [self.catalog.name(), self.repositories.name()];
        names.into_iter().flatten().min().cloned()
    }
}

/// Counts the repositories in the catalog that `covers` accepts, by one listing. [`Names`] has few that the catalog has
/// not.
pub(super) async fn count(store: &Store, covers: impl Fn(&Name) -> bool) -> Result<u64> {
    let mut listing = std::pin::pin!(store.scan(&Prefix::Catalog.to_string()));
    let (mut number, mut last) = (0, None);
    while let Some(entry) = listing.try_next().await? {
        let Some(name) = in_catalog(&entry.key) else { continue };
        if last.as_ref() != Some(&name) {
            number += u64::from(covers(&name));
            last = Some(name);
        }
    }
    Ok(number)
}

/// Groups the keys of a repository under a prefix.
pub(super) fn groups<K: PartialEq + 'static>(
    store: &Store,
    name: &Name,
    prefix: Prefix<'_>,
    of: fn(RepositoryKey) -> Option<K>,
) -> Groups<K> {
    let name = name.clone();
    Groups::new(store.scan(&prefix.to_string()), move |key| RepositoryKey::under(&name, key).and_then(of))
}
