//! The catalog: the list of existing repositories.

use std::sync::Arc;

use super::{Listed, MAX_PAGE, Result, core::Core};
use crate::{
    action::Page,
    memory::Part,
    oci::Name,
    records::{
        Actor,
        key::{CatalogKey, Key, Prefix, Suffix, after_catalog_text},
    },
    storage::{
        Moment,
        mutation::{Mutation, mutated},
    },
};

/// The largest number of keys that one listing asks for to skip invisible repositories.
const KEYS: usize = 1000;

/// The list of existing repositories.
pub struct Catalog {
    core: Arc<Core>,
    /// Repositories whose key in the catalog this process has seen or written within half a lease.
    catalogued: Part<Name, Moment>,
}

impl Catalog {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let half = core.options.lease / 2;
        let catalogued = core.part(|name: &Name, _: &Moment| name.as_str().len() + 100).for_time(half);
        Self { core: Arc::clone(core), catalogued }
    }

    /// Writes a repository into the catalog, unless it is there already.
    pub(super) async fn add(&self, name: &Name, by: &Actor) -> Result<()> {
        if self.knows_catalogued(name) {
            return Ok(());
        }
        let began = self.core.clock.now();
        let prefix = Prefix::CatalogOf(name).to_string();
        // a mark sorts first: a scrub that found the repository empty frees the keys that were there before the mark,
        // and nothing newer
        let first = self.core.store.list(&prefix, None, 1).await?;
        let is_there = |key: &str| match Key::catalog(key) {
            Some((_, CatalogKey::Entry(_))) => true,
            Some((_, CatalogKey::Mark(_))) => mutated(Mutation::CatalogWithoutMarks),
            None => false,
        };
        if !first.first().is_some_and(|entry| is_there(&entry.key)) {
            self.core.store.put(&CatalogKey::Entry(Suffix::random()).of(name), self.core.provenance(by)).await?;
        }
        self.catalogued.insert(name.clone(), began);
        Ok(())
    }

    fn knows_catalogued(&self, name: &Name) -> bool {
        self.catalogued.get(name).is_some_and(|seen| self.core.clock.since(seen) < self.core.lease.at(seen) / 2)
    }

    /// Returns whether a repository exists: it is in the catalog, be it empty or not.
    pub(super) async fn has(&self, name: &Name) -> Result<bool> {
        if self.knows_catalogued(name)
            || !self.core.store.list(&Prefix::CatalogOf(name).to_string(), None, 1).await?.is_empty()
        {
            return Ok(true);
        }
        // the entry in the catalog may be lost: then a scrub writes it again
        Ok(!self.is_empty(name).await?)
    }

    /// Returns whether a repository has no tag and no manifest, and no deleted one that can be restored. The history of
    /// its tags, claims and recorded pulls may remain.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_empty(&self, name: &Name) -> Result<bool> {
        // manifests last: a push writes its manifest before its tags
        for prefix in [Prefix::Tags(name).to_string(), Prefix::Manifests(name).to_string()] {
            if !self.core.store.list(&prefix, None, 1).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns a page of the repositories that `visible` accepts, in byte order. `beginnings` are in order, and every such
    /// repository has one of them.
    pub async fn list(
        &self,
        page: &Page<String>,
        beginnings: &[&str],
        visible: impl Fn(&Name) -> bool,
    ) -> Result<Listed<Name>> {
        let wanted = page.n.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let mut names: Vec<Name> = Vec::new();
        let begin = page.last.as_deref().map(after_catalog_text);
        // the loop asks for more at once if many repositories are invisible
        let mut least = 0;
        for beginning in beginnings {
            let below = Prefix::CatalogBelow(beginning);
            let prefix = below.to_string();
            let mut after = match &begin {
                Some(begin) if below.has(begin) => Some(begin.clone()),
                Some(begin) if *begin > prefix => continue,
                _ => None,
            };
            while wanted > 0 && names.len() <= wanted {
                let limit = (wanted + 1 - names.len()).max(least);
                let before = names.len();
                let listed = self.core.store.list(&prefix, after.as_deref(), limit).await?;
                let full = listed.len() == limit;
                after = listed.last().map(|entry| entry.key.clone());
                for entry in listed {
                    // a repository has two keys after two first pushes at once
                    if let Some(name) = Key::catalog(&entry.key).map(|(name, _)| name)
                        && names.last() != Some(&name)
                        && visible(&name)
                    {
                        names.push(name);
                    }
                }
                if !full {
                    break;
                }
                if names.len() - before < limit / 2 {
                    least = KEYS.min(4 * limit);
                }
            }
        }
        let more = names.len() > wanted;
        names.truncate(wanted);
        Ok(Listed { entries: names, more })
    }
}
