//! The history of tags: one object for each tag and each run that moved versions to it, merged and trimmed.

use std::collections::HashSet;

use super::super::{
    Reason, Result,
    ages::{AgeThresholds, milliseconds},
    names,
    run::Run,
};
use crate::{
    oci::{Name, Tag},
    records::{
        Groups, Provenance, TagEntry, json,
        key::{Prefix, RepositoryKey, Suffix, TagVersion},
    },
    storage::{
        Entry, Store,
        mutation::{Mutation, mutated},
    },
};

/// The number of times within `tag_history.age` that scrub looks through an object of history for entries that are too
/// old.
const LOOK_EVERY: u64 = 10;

/// Moves the oldest `spare` versions of a tag (newest first in `versions`) into its history. Writes the new object
/// first, and then frees the objects that it replaces.
pub(super) async fn archive(
    run: &Run<'_>,
    ages: AgeThresholds,
    name: &Name,
    tag: &Tag,
    versions: &[(Entry, TagVersion)],
    spare: usize,
) -> Result<()> {
    let (above, moved) = versions.split_at(versions.len() - spare);
    let most = usize::try_from(run.config.scrub.tag_history.count).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    for (entry, version) in moved.iter().take(most) {
        let Some(stamp) = stamp(run, entry).await? else { return Ok(()) };
        let target = version.target.map(|(digest, of)| (digest, of.0));
        entries.push(TagEntry { ordinal: version.ordinal.0, target, at: stamp.at, by: stamp.by });
    }
    let until = match above.last() {
        Some((entry, _)) => stamp(run, entry).await?.map(|stamp| stamp.at),
        None => None,
    };
    let objects = run.store.list_all(&Prefix::History(name, tag).to_string()).await?;
    let before = objects.into_iter().filter(|entry| ages.is_old(entry)).collect::<Vec<_>>();
    let Some(merged) = read(run, &before, &mut entries).await? else { return Ok(()) };
    let kept = trim(run, ages, entries, until);
    let late = mutated(Mutation::HistoryWrittenLate);
    if !late {
        write(run, name, tag, &kept).await?;
    }
    for (entry, _) in moved.iter().rev() {
        run.housekeeping(Reason::Superseded);
        run.free(&entry.key, entry.size).await?;
    }
    if late {
        write(run, name, tag, &kept).await?;
    }
    free(run, merged).await
}

/// Groups the objects of history by tag.
pub(super) fn groups(store: &Store, name: &Name) -> Groups<Tag> {
    names::groups(store, name, Prefix::AllHistory(name), |key| match key {
        RepositoryKey::History(tag, _) => Some(tag),
        _ => None,
    })
}

/// Merges and trims the history of tags that are not in `archived`.
pub(super) async fn clean(run: &Run<'_>, ages: AgeThresholds, name: &Name, archived: &HashSet<Tag>) -> Result<()> {
    let mut groups = groups(&run.store, name);
    let often = milliseconds(run.config.scrub.tag_history.age) / LOOK_EVERY;
    while let Some((tag, entries)) = groups.next().await? {
        let objects: Vec<Entry> = entries.into_iter().filter(|entry| ages.is_old(entry)).collect();
        let due = objects.len() > 1 || objects.iter().any(|entry| ages.of(entry) >= often);
        // every version in the history was superseded before it was moved there
        let Some(until) = objects.iter().map(|entry| entry.modified).max().filter(|_| due) else { continue };
        if archived.contains(&tag) {
            continue;
        }
        let mut all = Vec::new();
        let Some(merged) = read(run, &objects, &mut all).await? else { continue };
        let before = all.len();
        let kept = trim(run, ages, all, Some(until));
        if merged.len() > 1 || kept.len() < before {
            write(run, name, &tag, &kept).await?;
            free(run, merged).await?;
        }
    }
    Ok(())
}

/// Adds the entries of objects of history to `into`, and returns the objects. Returns nothing if an object is gone,
/// because another run is merging it, or cannot be read. The objects stay as they are then.
async fn read<'e>(run: &Run<'_>, objects: &'e [Entry], into: &mut Vec<TagEntry>) -> Result<Option<&'e [Entry]>> {
    for object in objects {
        let Some(content) = run.store.get(&object.key).await? else { return Ok(None) };
        match serde_json::from_slice::<Vec<TagEntry>>(&content) {
            Ok(entries) => into.extend(entries),
            Err(error) => {
                tracing::warn!(key = object.key, %error, "the history of a tag cannot be read; it is left as it is");
                return Ok(None);
            }
        }
    }
    Ok(Some(objects))
}

async fn write(run: &Run<'_>, name: &Name, tag: &Tag, entries: &[TagEntry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    run.put(&RepositoryKey::History(tag.clone(), Suffix::random()).of(name), json(&entries)).await
}

async fn free(run: &Run<'_>, objects: &[Entry]) -> Result<()> {
    for entry in objects {
        run.housekeeping(Reason::Superseded);
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}

/// Returns the author and time of a version of a tag. Returns nothing if another run has moved the version meanwhile.
async fn stamp(run: &Run<'_>, entry: &Entry) -> Result<Option<Provenance>> {
    let Some(content) = run.store.get(&entry.key).await? else { return Ok(None) };
    // people alone read the content; if it is damaged, the store still tells the time
    let unknown = || Provenance { at: entry.modified, ..Provenance::default() };
    Ok(Some(serde_json::from_slice(&content).unwrap_or_else(|_| unknown())))
}

fn trim(run: &Run<'_>, ages: AgeThresholds, entries: Vec<TagEntry>, until: Option<u64>) -> Vec<TagEntry> {
    let history = &run.config.scrub.tag_history;
    let count = usize::try_from(history.count).unwrap_or(usize::MAX);
    trimmed(entries, until, ages.at(), milliseconds(history.age), count)
}

/// Sorts entries, newest first, each once. Keeps at most `count` entries that were superseded less than `age` before
/// `now`. The newest entry was superseded at `until`; without `until`, it counts from the time when it was written.
fn trimmed(mut entries: Vec<TagEntry>, until: Option<u64>, now: u64, age: u64, count: usize) -> Vec<TagEntry> {
    let key = |entry: &TagEntry| (entry.ordinal, entry.target.is_some(), std::cmp::Reverse(entry.target));
    entries.sort_by_key(|entry| std::cmp::Reverse(key(entry)));
    entries.dedup_by(|one, other| key(one) == key(other));
    let mut superseded = until;
    entries.retain(|entry| {
        let ended = superseded.replace(entry.at).unwrap_or(entry.at);
        now.saturating_sub(ended) < age
    });
    entries.truncate(count);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::{Algorithm, Digest},
        registry::Actor,
    };

    fn entry(ordinal: u64, meant: Option<&str>, at: u64) -> TagEntry {
        let target = meant.map(|meant| (Digest::of(Algorithm::Sha256, meant.as_bytes()), ordinal));
        TagEntry { ordinal, target, at, by: Actor::default() }
    }

    #[test]
    fn history_is_newest_first_each_once_and_as_long_and_old_as_it_may_be() {
        let all = || vec![entry(1, Some("a"), 100), entry(3, None, 300), entry(2, Some("b"), 200), entry(3, None, 300)];
        let ordinals = |until, now, age, count| {
            trimmed(all(), until, now, age, count).iter().map(|entry| entry.ordinal).collect::<Vec<_>>()
        };
        assert_eq!(ordinals(Some(400), 400, 1000, 10), [3, 2, 1]);
        assert_eq!(ordinals(Some(400), 400, 1000, 2), [3, 2]);
        // 1 was superseded at 200, 2 at 300, 3 at 400
        assert_eq!(ordinals(Some(400), 1199, 1000, 10), [3, 2, 1]);
        assert_eq!(ordinals(Some(400), 1200, 1000, 10), [3, 2]);
        assert_eq!(ordinals(Some(400), 1300, 1000, 10), [3]);
        assert_eq!(ordinals(Some(400), 1400, 1000, 10), [0; 0]);
        // deleted, and nothing newer since
        assert_eq!(ordinals(None, 1299, 1000, 10), [3, 2]);
        assert_eq!(ordinals(Some(400), 400, 0, 10), [0; 0]);
    }
}
