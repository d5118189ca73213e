//! Merges the records of pulls that servers wrote: many small objects become one.

use std::collections::BTreeMap;

use super::{
    super::{Reason, Result},
    look::Repository,
};
use crate::{
    oci::{Digest, Name, Tag},
    records::{
        Pull, json,
        key::{Prefix, RepositoryKey, Suffix},
    },
    storage::{Entry, Store},
};

/// The time of the newest pull of each tag and digest, and of digests by themselves.
pub(in crate::scrub) type Pulls = BTreeMap<(Option<Tag>, Digest), u64>;

/// The number of listings that are tried. A listing fails if a run merges an object of it before the object is read.
const LOOKS: usize = 5;

/// Reads the pulls from a repository. Returns nothing if a part cannot be read, since the images in use are not known
/// then.
pub(in crate::scrub) async fn read(store: &Store, name: &Name) -> Result<Option<Pulls>> {
    let mut pulls = Pulls::new();
    for _ in 0..LOOKS {
        let listed = store.list_all(&Prefix::Pulls(name).to_string()).await?;
        let mut whole = true;
        for entry in &listed {
            match store.get(&entry.key).await? {
                Some(content) => match parse(&entry.key, &content) {
                    Some(more) => merge(&mut pulls, more),
                    None => return Ok(None),
                },
                None => whole = false,
            }
        }
        if whole {
            return Ok(Some(pulls));
        }
    }
    Ok(None)
}

fn parse(key: &str, content: &[u8]) -> Option<Vec<Pull>> {
    let parsed = serde_json::from_slice(content);
    parsed.inspect_err(|error| tracing::warn!(key, %error, "a record of pulls cannot be read")).ok()
}

fn merge(pulls: &mut Pulls, more: Vec<Pull>) {
    for Pull { tag, digest, at } in more {
        let newest = pulls.entry((tag, digest)).or_default();
        *newest = at.max(*newest);
    }
}

/// Merges the objects that are older than a lease into one. Writes that first, and then frees the objects that it
/// replaces.
pub(super) async fn clean(repository: &Repository<'_>) -> Result<()> {
    let (run, ages) = (repository.run, repository.ages);
    let listed = run.store.list_all(&Prefix::Pulls(repository.name).to_string()).await?;
    let old: Vec<Entry> = listed.into_iter().filter(|entry| ages.is_old(entry)).collect();
    if old.is_empty() || (old.len() == 1 && !repository.live.is_empty()) {
        return Ok(());
    }
    let (mut pulls, mut merged) = (Pulls::new(), Vec::new());
    for entry in old {
        // gone: another run is merging it
        let Some(content) = run.store.get(&entry.key).await? else { return Ok(()) };
        if let Some(more) = parse(&entry.key, &content) {
            merge(&mut pulls, more);
            merged.push(entry);
        }
    }
    // retention asks for the targets of tags; a later tag was pushed later than all of these pulls
    pulls.retain(|(_, digest), _| repository.live.contains_key(digest));
    if merged.len() == 1 && !pulls.is_empty() {
        return Ok(());
    }
    if let Some(newest) = pulls.values().max() {
        let key = RepositoryKey::Pulls(*newest, Suffix::random()).of(repository.name);
        let list: Vec<Pull> =
            pulls.iter().map(|((tag, digest), at)| Pull { tag: tag.clone(), digest: *digest, at: *at }).collect();
        run.put(&key, json(&list)).await?;
    }
    for entry in merged {
        run.housekeeping(Reason::Superseded);
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_newest_pull_counts_of_each_tag_and_digest() {
        let digest = Digest::of(Algorithm::Sha256, b"image");
        let latest: Tag = "latest".parse().unwrap();
        let pull = |tag: Option<&Tag>, at| Pull { tag: tag.cloned(), digest, at };
        let mut pulls = Pulls::new();
        merge(&mut pulls, vec![pull(Some(&latest), 5), pull(None, 9)]);
        merge(&mut pulls, vec![pull(Some(&latest), 7), pull(None, 3)]);
        assert_eq!(pulls.into_iter().collect::<Vec<_>>(), [((None, digest), 9), ((Some(latest), digest), 7)]);
    }
}
