//! Whether what repositories name is there; what is missing and can be derived is written again.
//!
//! Repairs are references, written as pushers write them: reference first, then the look. What is younger than a lease may
//! belong to a push that is under way, and is not judged. What cannot be repaired gets a note, and nothing is removed.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `notes` | the notes about what is wrong |
//! | `manifest` | a manifest, and what it names |
//! | `reference` | tags and referrers, which name manifests |

mod manifest;
mod notes;
mod reference;

use std::{
    future::ready,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use self::notes::Notes;
use super::{
    Pass, Result,
    report::{Finding, Outcome},
    run::Run,
};
use crate::{
    oci::Name,
    registry::facts::Stamp,
    storage::{Entry, layout},
};

/// Groups of keys that are looked at at a time.
const AT_A_TIME: usize = 8;

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    // before any look
    let now = run.store.now().await?;
    let links = Links { run, now, notes: Notes::read(run).await? };
    links.catalog().await?;
    let mut after: Option<String> = None;
    let mut done = 0;
    // from one repository to the next, however much is in each
    while let Some(first) = run.store.list(layout::REPOSITORIES, after.as_deref(), 1).await?.into_iter().next() {
        let Some((name, _)) = layout::repository_name(&first.key) else {
            links.unknown(&first).await?;
            after = Some(first.key);
            continue;
        };
        after = Some(layout::after_repository(&name));
        if run.covers(&name) {
            links.repository(&name).await?;
            done += 1;
            run.progress(Pass::Links, done, 0);
        }
    }
    run.progress(Pass::Links, done, done);
    links.notes.drop_settled(run).await
}

/// The pass at work.
struct Links<'a, 'r> {
    run: &'a Run<'r>,
    /// The store's time before any look.
    now: u64,
    notes: Notes,
}

/// What is under one prefix that ends in a slash: the versions of one thing, and the facts about it.
type Group = Vec<Entry>;

impl Links<'_, '_> {
    /// Whether something is older than a lease: nobody who wrote it is still at work.
    fn is_old(&self, entry: &Entry) -> bool {
        self.now.saturating_sub(entry.modified) >= self.run.lease_ms()
    }

    /// The body of a fact of this run.
    fn stamp(&self) -> Vec<u8> {
        let stamp = Stamp { at: self.run.options.clock.now_ms(), by: self.run.by.clone() };
        serde_json::to_vec(&stamp).unwrap_or_else(|error| unreachable!("a stamp is a plain value: {error}"))
    }

    /// Tells of something that is written again, before it is.
    fn repaired(&self, key: &str, says: String) -> Result<()> {
        let outcome = if self.run.options.dry_run { Outcome::DryRun } else { Outcome::Repaired };
        self.run.found(Finding { key: key.to_owned(), says, outcome })
    }

    /// Tells of something that cannot be repaired, and notes it beside it.
    async fn wrong(&self, key: &str, says: String) -> Result<()> {
        self.notes.wrong(self.run, key, says).await
    }

    async fn unknown(&self, entry: &Entry) -> Result<()> {
        if !self.is_old(entry) {
            return Ok(());
        }
        let says = format!(
            "{} is no object that this registry writes, and it is left alone; if you know what put it there, remove it",
            entry.key
        );
        self.wrong(&entry.key, says).await
    }

    /// The catalog's own keys.
    async fn catalog(&self) -> Result<()> {
        let mut scan = std::pin::pin!(self.run.store.scan(layout::CATALOG));
        while let Some(entry) = scan.try_next().await? {
            let name = layout::catalog_mark_name(&entry.key).or_else(|| layout::catalog_name(&entry.key));
            if name.is_none() {
                self.unknown(&entry).await?;
            }
        }
        Ok(())
    }

    async fn repository(&self, name: &Name) -> Result<()> {
        let (stands, tags, manifests) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let groups = groups(self.run.store.scan(&layout::repository(name)));
        groups
            .try_for_each_concurrent(AT_A_TIME, async |group| {
                let Some(first) = group.first() else { return Ok(()) };
                let (_, rest) = layout::repository_name(&first.key).unwrap_or((name.clone(), ""));
                match rest.split('/').next() {
                    Some("manifests") => {
                        manifests.fetch_add(1, Relaxed);
                        if self.manifest(name, &group).await? {
                            stands.store(true, Relaxed);
                        }
                        Ok(())
                    }
                    Some("tags") => {
                        tags.fetch_add(1, Relaxed);
                        self.tag(name, &group).await
                    }
                    Some("referrers") => self.referrer(name, &group).await,
                    _ => self.others(name, &group).await,
                }
            })
            .await?;
        // where garbage is looked for as well, that counts
        if !self.run.options.passes.contains(&Pass::Garbage) {
            self.run.saw("repositories", 1);
            self.run.saw("tags", tags.into_inner());
            self.run.saw("manifests", manifests.into_inner());
        }
        if stands.into_inner() { self.catalogued(name).await } else { Ok(()) }
    }

    /// What is neither a manifest nor names one: it has to be a key of the layout.
    async fn others(&self, name: &Name, group: &Group) -> Result<()> {
        for entry in group {
            let known = layout::parse_claim(name, &entry.key).is_some()
                || layout::history_tag(name, &entry.key).is_some()
                || entry.key.starts_with(&layout::pulls(name));
            if !known {
                self.unknown(entry).await?;
            }
        }
        Ok(())
    }

    /// A repository in which something stands is in the catalog.
    async fn catalogued(&self, name: &Name) -> Result<()> {
        let prefix = layout::catalog(name);
        // an older store has no slash behind the name
        let listed = self.run.store.list_all(prefix.trim_end_matches('/')).await?;
        if listed.iter().any(|entry| layout::catalog_name(&entry.key).as_ref() == Some(name)) {
            return Ok(());
        }
        let key = prefix + &layout::attempt();
        self.repaired(&key, format!("repository {name} has manifests and was not in the catalog; it is listed again"))?;
        self.run.put(&key, self.stamp()).await
    }
}

/// Keys that follow each other under one prefix, together.
fn groups(
    scan: impl futures::Stream<Item = crate::storage::Result<Entry>> + Send,
) -> impl futures::Stream<Item = Result<Group>> + Send {
    let directory = |key: &str| key.rsplit_once('/').map_or(0, |(directory, _)| directory.len());
    let end = stream::once(ready(Ok(None)));
    let entries = scan.map_ok(Some).map_err(super::ScrubError::from).chain(end);
    let mut group: Group = Vec::new();
    entries.try_filter_map(move |entry| {
        let goes_on = match (&entry, group.first()) {
            (Some(entry), Some(first)) => {
                let at = directory(&entry.key);
                at == directory(&first.key) && entry.key[..at] == first.key[..at]
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        let ended = if goes_on { None } else { Some(std::mem::take(&mut group)) };
        group.extend(entry);
        ready(Ok(ended))
    })
}
