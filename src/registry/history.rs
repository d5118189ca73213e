//! What a tag meant: its versions that are there, and those that a scrub has gathered into the tag's history.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Registry, Result,
    facts::{Stamp, TagEntry},
    several,
};
use crate::{
    oci::{Name, Tag},
    storage::{StorageError, layout, layout::Ordinal},
};

/// Newest first. Of two entries with one ordinal one was ever in force: that which means something.
type Entries = BTreeMap<Reverse<u64>, TagEntry>;

impl Registry {
    /// At most `n` meanings of a tag, newest first, of those older than the ordinal `last`. Nothing where the tag never was,
    /// or is forgotten.
    pub async fn tag_history(&self, name: &Name, tag: &Tag, n: usize, last: Option<u64>) -> Result<Vec<TagEntry>> {
        // a scrub writes them to the history before it frees them: so what is not here any more is there by then
        let live = self.live_versions(name, tag, n, last).await?;
        let mut entries = self.archived_versions(name, tag, last).await?;
        entries.extend(live);
        Ok(entries.into_values().take(n).collect())
    }

    /// The newest `n` versions, and perhaps a few more.
    async fn live_versions(&self, name: &Name, tag: &Tag, n: usize, last: Option<u64>) -> Result<Entries> {
        // a few more, since two keys may have one ordinal
        let limit = n.saturating_add(16).min(1000);
        let mut after = last.map(|last| layout::after_tag_version(name, tag, Ordinal(last)));
        let mut keys = BTreeMap::new();
        while keys.len() < n {
            let listed = self.store.list(&layout::tag(name, tag), after.as_deref(), limit).await?;
            let full = listed.len() == limit;
            after = listed.last().map(|entry| entry.key.clone());
            for entry in listed {
                if let Some((_, version)) = layout::parse_tag_version(name, &entry.key) {
                    keys.entry(Reverse(version.ordinal.0)).or_insert((entry.key, version.target));
                }
            }
            if !full {
                break;
            }
        }
        let read = keys.into_iter().take(n).map(async |(Reverse(ordinal), (key, target))| {
            let Some(content) = self.store.get(&key).await? else { return Ok(None) };
            let Stamp { at, by } = serde_json::from_slice(&content)
                .map_err(|error| StorageError::damaged("get", &key, error.to_string()))?;
            let target = target.map(|(digest, version)| (digest, version.0));
            Ok(Some((Reverse(ordinal), TagEntry { ordinal, target, at, by })))
        });
        Ok(several(read.collect()).await?.into_iter().flatten().collect())
    }

    async fn archived_versions(&self, name: &Name, tag: &Tag, last: Option<u64>) -> Result<Entries> {
        let prefix = layout::history(name, tag);
        // one that is gone when it is read was merged into another, which is listed then
        for _ in 0..3 {
            let listed = self.store.list_all(&prefix).await?;
            let read = listed.iter().map(async |entry| Ok(self.store.get(&entry.key).await?));
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
