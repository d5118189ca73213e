//! The history of a tag: its versions in the store, and older ones that scrub has gathered into `history/`.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Tags;
use crate::{
    oci::{Name, Tag},
    records::{
        Provenance, TagEntry,
        key::{Ordinal, Prefix, RepositoryKey, after_tag_version},
    },
    registry::{Result, several},
    storage::StorageError,
};

/// Entries, newest first. Of two entries with one ordinal, only one was ever in force: the one that means a manifest.
type Entries = BTreeMap<Reverse<u64>, TagEntry>;

impl Tags {
    /// Returns at most `n` meanings of a tag, newest first, of those older than the ordinal `last`. Empty if the tag
    /// never existed, or its history is freed.
    ///
    /// # Errors
    /// Those of the store, and damage.
    pub async fn history(&self, name: &Name, tag: &Tag, n: usize, last: Option<u64>) -> Result<Vec<TagEntry>> {
        // the versions first: scrub writes a version to the history before it frees the version, so none is missed
        let live = self.live_versions(name, tag, n, last).await?;
        let mut entries = self.archived_versions(name, tag, last).await?;
        entries.extend(live);
        Ok(entries.into_values().take(n).collect())
    }

    /// Returns the newest `n` versions in the store.
    async fn live_versions(&self, name: &Name, tag: &Tag, n: usize, last: Option<u64>) -> Result<Entries> {
        // a few more, since two keys may have one ordinal
        let limit = n.saturating_add(16).min(1000);
        let mut after = last.map(|last| after_tag_version(name, tag, Ordinal(last)));
        let mut keys = BTreeMap::new();
        while keys.len() < n {
            let listed = self.core.store.list(&Prefix::Tag(name, tag).to_string(), after.as_deref(), limit).await?;
            let full = listed.len() == limit;
            after = listed.last().map(|entry| entry.key.clone());
            for entry in listed {
                if let Some((_, version)) = RepositoryKey::tag_version(name, &entry.key) {
                    keys.entry(Reverse(version.ordinal.0)).or_insert((entry.key, version.target));
                }
            }
            if !full {
                break;
            }
        }
        let read = keys.into_iter().take(n).map(async |(Reverse(ordinal), (key, target))| {
            let Some(content) = self.core.store.get(&key).await? else { return Ok(None) };
            let Provenance { at, by } = serde_json::from_slice(&content)
                .map_err(|error| StorageError::damaged("get", &key, error.to_string()))?;
            let target = target.map(|(digest, version)| (digest, version.0));
            Ok(Some((Reverse(ordinal), TagEntry { ordinal, target, at, by })))
        });
        Ok(several(read.collect()).await?.into_iter().flatten().collect())
    }

    async fn archived_versions(&self, name: &Name, tag: &Tag, last: Option<u64>) -> Result<Entries> {
        let prefix = Prefix::History(name, tag).to_string();
        // an object that is gone when it is read was merged into another, which the next listing shows
        for _ in 0..3 {
            let listed = self.core.store.list_all(&prefix).await?;
            let read = listed.iter().map(async |entry| Ok(self.core.store.get(&entry.key).await?));
            let contents = several(read.collect()).await?;
            if contents.iter().any(Option::is_none) {
                continue;
            }
            let mut entries = Entries::new();
            for (entry, content) in listed.iter().zip(contents.into_iter().flatten()) {
                let archived: Vec<TagEntry> = serde_json::from_slice(&content)
                    .map_err(|error| StorageError::damaged("get", &entry.key, error.to_string()))?;
                for archived in archived.into_iter().filter(|it| last.is_none_or(|last| it.ordinal < last)) {
                    let known = entries.entry(Reverse(archived.ordinal)).or_insert_with(|| archived.clone());
                    if known.target.is_none() {
                        *known = archived;
                    }
                }
            }
            return Ok(entries);
        }
        Err(StorageError::damaged("get", &prefix, "what is listed there cannot be read").into())
    }
}
