//! Moves superseded versions of tags into history.

use std::collections::{HashMap, HashSet};

use super::{
    super::{Result, ages::AgeThresholds, names, run::Run},
    claims,
    fate::superseded,
    history,
};
use crate::{
    oci::{Digest, Name, Tag},
    records::{
        Groups,
        key::{Ordinal, Prefix, RepositoryKey, TagVersion},
    },
    storage::{
        Entry, Store,
        mutation::{Mutation, mutated},
    },
};

/// A tag whose newest version is no tombstone. Its manifest may have been deleted since.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct LiveTag {
    /// The tag.
    pub(in crate::scrub) tag: Tag,
    /// Its newest version when it was seen.
    pub(in crate::scrub) version: TagVersion,
    /// The version of the manifest that it names.
    pub(in crate::scrub) of: Ordinal,
    /// True if that version is older than a lease.
    pub(in crate::scrub) old: bool,
    /// The time from which on that is true, in milliseconds since 1970 by the store's clock, if it is known.
    pub(in crate::scrub) old_from: Option<u64>,
}

/// The live tags, by the digests that they mean.
pub(in crate::scrub) type Live = HashMap<Digest, Vec<LiveTag>>;

/// Groups the versions of tags by tag, newest first.
pub(super) fn groups(store: &Store, name: &Name) -> Groups<Tag> {
    names::groups(store, name, Prefix::Tags(name), |key| match key {
        RepositoryKey::Tag(tag, _) => Some(tag),
        _ => None,
    })
}

fn add(live: &mut Live, ages: AgeThresholds, tag: Tag, entry: &Entry, version: TagVersion) {
    if let Some((digest, of)) = version.target {
        let (old, old_from) = (ages.is_old(entry), ages.old_from(entry.modified));
        live.entry(digest).or_default().push(LiveTag { tag, version, of, old, old_from });
    }
}

/// Returns the live tags of a repository.
pub(in crate::scrub) async fn live(store: &Store, ages: AgeThresholds, name: &Name) -> Result<Live> {
    let mut groups = groups(store, name);
    let mut live = Live::new();
    while let Some((tag, entries)) = groups.next().await? {
        if let Some((_, version)) = RepositoryKey::tag_version(name, &entries[0].key) {
            add(&mut live, ages, tag, &entries[0], version);
        }
    }
    Ok(live)
}

/// Cleans the tags of a repository. Returns the live ones.
pub(super) async fn clean(run: &Run<'_>, ages: AgeThresholds, name: &Name) -> Result<Live> {
    let mut groups = groups(&run.store, name);
    let (mut live, mut archived) = (Live::new(), HashSet::new());
    let mut count = 0;
    while let Some((tag, entries)) = groups.next().await? {
        run.go_on()?;
        count += 1;
        let versions = entries.into_iter().filter_map(|entry| {
            let version = RepositoryKey::tag_version(name, &entry.key)?.1;
            Some((entry, version))
        });
        let versions: Vec<(Entry, TagVersion)> = versions.collect();
        let Some((newest, version)) = versions.first() else { continue };
        let old: Vec<bool> = versions.iter().map(|(entry, _)| ages.is_old(entry)).collect();
        let mut spare = superseded(&old);
        let past_trash = ages.is_past_trash(newest) || mutated(Mutation::GoneFreedAtOnce);
        if version.target.is_none() && !past_trash {
            // a restore needs the newest version with a target, however little history is kept
            let last = versions.iter().position(|(_, version)| version.target.is_some());
            spare = spare.min(last.map_or(spare, |last| versions.len() - last - 1));
        }
        if spare > 0 {
            history::archive(run, ages, name, &tag, &versions, spare).await?;
            archived.insert(tag.clone());
        } else if versions.len() == 1 && version.target.is_none() && past_trash {
            // the claims of this life of the tag go first; and no push may write above the last tombstone while scrub
            // frees it
            if run.store.list(&Prefix::TagClaims(name, &tag).to_string(), None, 1).await?.is_empty()
                && (run.options.dry_run || run.registry.tags.close(name, &tag, version.ordinal, &run.by).await?)
            {
                history::archive(run, ages, name, &tag, &versions, 1).await?;
                archived.insert(tag.clone());
            }
        }
        add(&mut live, ages, tag, newest, *version);
    }
    run.saw("tags", count);
    history::clean(run, ages, name, &archived).await?;
    claims::of_tags(run, ages, name).await?;
    Ok(live)
}
