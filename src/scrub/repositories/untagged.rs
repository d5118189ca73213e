//! The grace of images whose tag moved on or was deleted: it counts from then on, not from their push.

use std::collections::{HashMap, HashSet};

use super::{
    super::Result,
    fate::{Fate, Newest, Seen},
    look::{Lately, Repository},
};
use crate::{
    oci::{Digest, Tag},
    records::{TagEntry, key::RepositoryKey},
    scrub::Reason,
};

impl Repository<'_> {
    /// Returns the state of a manifest, changed to have its grace if a tag meant it less than a grace ago.
    pub(super) async fn with_grace(&mut self, digest: &Digest, seen: Seen) -> Result<Seen> {
        let Newest::There { old, past_untagged: true } = seen.newest else { return Ok(seen) };
        if seen.fate(self.run.config.scrub.untagged) != Fate::Goes(Reason::Untagged) {
            return Ok(seen);
        }
        if self.lately.is_none() {
            self.lately = Some(self.read_lately().await?);
        }
        let meant = match &self.lately {
            Some(Lately::Meant(meant)) => meant.contains(digest),
            Some(Lately::Unknown) | None => true,
        };
        Ok(if meant { Seen { newest: Newest::There { old, past_untagged: false }, ..seen } } else { seen })
    }

    async fn read_lately(&self) -> Result<Lately> {
        let (store, ages) = (&self.run.store, self.ages);
        let mut meant = HashSet::new();
        // the time of the oldest version of each tag: the meaning before that version ended then
        let mut oldest: HashMap<Tag, u64> = HashMap::new();
        let mut tags = super::tags::groups(store, self.name);
        while let Some((tag, versions)) = tags.next().await? {
            let mut until = None;
            for entry in &versions {
                let target = RepositoryKey::tag_version(self.name, &entry.key).and_then(|(_, version)| version.target);
                if let (Some((digest, _)), Some(until)) = (target, until)
                    && !ages.is_past_untagged_since(until)
                {
                    meant.insert(digest);
                }
                until = Some(entry.modified);
            }
            oldest.extend(until.map(|until| (tag, until)));
        }
        let mut histories = super::history::groups(store, self.name);
        while let Some((tag, objects)) = histories.next().await? {
            let mut entries: Vec<TagEntry> = Vec::new();
            for object in objects {
                // gone: another run has merged it into one that is not listed here
                let content = store.get(&object.key).await?;
                let Some(more) = content.and_then(|content| serde_json::from_slice::<Vec<TagEntry>>(&content).ok())
                else {
                    return Ok(Lately::Unknown);
                };
                entries.extend(more);
            }
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.ordinal));
            let mut until = oldest.get(&tag).copied();
            for entry in entries {
                if let (Some((digest, _)), Some(until)) = (entry.target, until)
                    && !ages.is_past_untagged_since(until)
                {
                    meant.insert(digest);
                }
                until = Some(entry.at);
            }
        }
        Ok(Lately::Meant(meant))
    }
}
