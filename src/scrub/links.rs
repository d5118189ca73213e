//! Checks that the things that repositories name exist, and writes missing records again if scrub can derive them.
//!
//! Repairs are references. Scrub writes them as pushers do: reference first, then the look. Scrub reports damage
//! whatever its age. A push or a delete under way may have left other faults, or may not have finished its writes. So
//! scrub judges such things once they are older than a lease, and counts them until then. A fault that cannot be
//! repaired gets a note, and scrub removes nothing.
//!
//! | file | content |
//! | --- | --- |
//! | `manifest` | a manifest, and the things that it names |
//! | `reference` | tags and referrers, which name manifests |

mod manifest;
mod reference;

use std::{
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use futures::{FutureExt as _, TryStreamExt as _};

use super::{
    Outcome, Pass, Result, ScrubError,
    ages::AgeThresholds,
    notes::{Notes, found},
    run::Run,
};
use crate::{
    oci::{Digest, Name},
    records::{
        Claim, DownloadTurn, Groups, Provenance, Pull, PullsSince, TagEntry, json,
        key::{CatalogKey, Key, Owner, Prefix, RepositoryKey, Suffix, Version, folder},
    },
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// The number of groups of keys that the pass looks at concurrently.
const AT_A_TIME: usize = 8;

/// Looks at all repositories, and repairs what can be repaired. Returns the things that they miss. [`end`] judges
/// these, since later passes may find them.
pub(super) async fn begin(run: &Run<'_>) -> Result<Left> {
    // the time and the lease come before any look
    let ages = run.ages().await?;
    let parts = [Prefix::Catalog, Prefix::Repositories, Prefix::PullsSince];
    let notes = Notes::read(run, Pass::Links, ages.at(), &parts).await?;
    let links = Links { run, ages, notes, missing: Mutex::default() };
    // keys that belong to no repository
    if run.options.repository.is_none() {
        links.catalog().await?;
        links.pulls_since().await?;
    }
    let total = run.repositories().await?;
    let mut after: Option<String> = None;
    let mut done = 0;
    // one listing leads from a repository to the next, however much is in each
    while let Some(first) =
        run.store.list(&Prefix::Repositories.to_string(), after.as_deref(), 1).await?.into_iter().next()
    {
        run.go_on()?;
        let Some(name) = Owner::repository(&first.key) else {
            if run.options.repository.is_none() {
                links.unknown(&first).await?;
            }
            after = Some(first.key);
            continue;
        };
        after = Some(Prefix::Repository(&name).end());
        if run.covers(&name) {
            links.repository(&name).await?;
            done += 1;
            run.progress(Pass::Links, done, total);
        }
    }
    let Links { ages, notes, missing, .. } = links;
    Ok(Left { ages, notes, missing: missing.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// Judges the things that are still missing, and frees the notes about faults that are over.
pub(super) async fn end(run: &Run<'_>, left: Left) -> Result<()> {
    let Left { ages, notes, missing } = left;
    let links = Links { run, ages, notes, missing: Mutex::default() };
    for missing in missing {
        run.go_on()?;
        links.still(missing).await?;
    }
    links.notes.end(run).await
}

/// The state of the pass between its two parts.
pub(super) struct Left {
    ages: AgeThresholds,
    notes: Notes,
    missing: Vec<Missing>,
}

/// The digests that a manifest names and that its repository does not have.
struct Missing {
    name: Name,
    manifest: Digest,
    /// The key of the manifest's version.
    key: String,
    /// Blobs that it links and that have no blob copy.
    blobs: Vec<Digest>,
    /// Blobs that it needs and that its repository never had.
    links: Vec<Digest>,
    /// Manifests that it lists.
    children: Vec<Digest>,
}

impl Missing {
    fn new(name: &Name, manifest: &Digest, newest: &Entry) -> Self {
        let (blobs, links, children) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.clone(), manifest: *manifest, key: newest.key.clone(), blobs, links, children }
    }

    const fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.links.is_empty() && self.children.is_empty()
    }
}

/// The number of digests that one note names; it counts the rest.
const NAMED: usize = 8;

/// The pass at work.
struct Links<'a, 'r> {
    run: &'a Run<'r>,
    /// The thresholds by the store's time before any look.
    ages: AgeThresholds,
    notes: Notes,
    /// The things that [`end`] looks at once more.
    missing: Mutex<Vec<Missing>>,
}

/// The objects under one prefix that ends in a slash: the versions of one thing, and the records about it.
type Group = Vec<Entry>;

/// Counts of the things in a repository.
#[derive(Default)]
struct Seen {
    /// True if a manifest exists.
    stands: AtomicBool,
    tags: AtomicU64,
    manifests: AtomicU64,
}

impl Links<'_, '_> {
    /// Reports the digests that a manifest still misses. Reports nothing if the version of the manifest is gone.
    async fn still(&self, missing: Missing) -> Result<()> {
        let Missing { name, manifest, key, blobs, links, children } = missing;
        if self.run.store.size(&key).await?.is_none() {
            return Ok(());
        }
        let mut absent = Vec::new();
        for digest in blobs {
            if self.run.store.list(&Prefix::Copies(&digest).to_string(), None, 1).await?.is_empty() {
                absent.push(digest);
            }
        }
        for digest in links {
            let has = self.run.registry.blobs.has_without(&name, &digest, &manifest).await;
            if !has.map_err(ScrubError::Registry)? {
                absent.push(digest);
            }
        }
        for digest in children {
            if !self.stands(&name, &digest).await? {
                absent.push(digest);
            }
        }
        let Some((first, others)) = absent.split_first() else { return Ok(()) };
        let mut says = format!("manifest {manifest} of {name} needs {first}");
        for other in others.iter().take(NAMED - 1) {
            let _ = write!(says, ", {other}");
        }
        if others.len() >= NAMED {
            let _ = write!(says, " and {} more", others.len() + 1 - NAMED);
        }
        says.push_str(", which the repository does not have; push the image again, or delete the manifest");
        self.wrong(&key, &says).await
    }

    /// Returns whether an object is older than a lease, so that its writer is at work no more. An object whose time the
    /// store does not tell is young.
    fn is_old(&self, entry: &Entry) -> bool {
        self.ages.is_old(entry) || mutated(Mutation::LinksWithoutALease)
    }

    /// Returns whether an object is old enough to judge the things that it names, and counts a younger one.
    fn is_judged(&self, entry: &Entry) -> bool {
        let is = self.is_old(entry);
        if !is {
            self.run.too_young(1);
        }
        is
    }

    /// Returns the body of a record by this run.
    fn stamp(&self) -> Vec<u8> {
        json(&Provenance { at: self.run.store.clock().time_ms(), by: self.run.by.clone() })
    }

    /// Reports a repair before it happens.
    fn repaired(&self, key: &str, says: &str) -> Result<()> {
        found(self.run, key, says, Outcome::Repaired)
    }

    /// Reports a fault that cannot be repaired, and writes a note about it.
    async fn wrong(&self, key: &str, says: &str) -> Result<()> {
        self.notes.wrong(self.run, key, says).await
    }

    async fn unknown(&self, entry: &Entry) -> Result<()> {
        self.notes.unknown(self.run, &entry.key).await
    }

    /// Looks for keys in the catalog that are none of the layout's.
    async fn catalog(&self) -> Result<()> {
        let mut scan = std::pin::pin!(self.run.store.scan(&Prefix::Catalog.to_string()));
        while let Some(entry) = scan.try_next().await? {
            if Key::catalog(&entry.key).is_none() {
                self.unknown(&entry).await?;
            }
        }
        Ok(())
    }

    async fn repository(&self, name: &Name) -> Result<()> {
        let seen = Seen::default();
        let listing = self.run.store.scan(&Prefix::Repository(name).to_string());
        let groups = Groups::new(listing, |key| Some(folder(key).to_owned())).stream().map_err(ScrubError::from);
        groups.try_for_each_concurrent(AT_A_TIME, |(_, group)| self.group(name, group, &seen).boxed()).await?;
        let Seen { stands, tags, manifests } = seen;
        // a run with the pass `garbage` counts there
        if !self.run.options.passes.contains(&Pass::Garbage) {
            self.run.saw("repositories", 1);
            self.run.saw("tags", tags.into_inner());
            self.run.saw("manifests", manifests.into_inner());
        }
        if stands.into_inner() { self.catalogued(name).await } else { Ok(()) }
    }

    async fn group(&self, name: &Name, group: Group, seen: &Seen) -> Result<()> {
        self.run.go_on()?;
        // the first known key tells what the keys of a directory are
        match group.iter().find_map(|entry| RepositoryKey::under(name, &entry.key)) {
            Some(RepositoryKey::Manifest(..)) => {
                // an index reference alone is of a child that has not come
                let is_version = |entry: &Entry| Version::at_end_of(&entry.key).is_some();
                seen.manifests.fetch_add(u64::from(group.iter().any(is_version)), Relaxed);
                if self.manifest(name, &group).await? {
                    seen.stands.store(true, Relaxed);
                }
                Ok(())
            }
            Some(RepositoryKey::Tag(..)) => {
                seen.tags.fetch_add(1, Relaxed);
                self.tag(name, &group).await
            }
            Some(RepositoryKey::Referrer(..)) => self.referrer(name, &group).await,
            _ => self.others(name, &group).await,
        }
    }

    /// Checks objects that are neither a manifest nor name one. Each needs a key of the layout, and readable content.
    async fn others(&self, name: &Name, group: &Group) -> Result<()> {
        for entry in group {
            let what = match RepositoryKey::under(name, &entry.key) {
                Some(RepositoryKey::History(tag, _)) => self
                    .reads::<Vec<TagEntry>>(entry)
                    .await?
                    .map(|why| format!("a part of the history of tag {name}:{tag} {why}")),
                Some(RepositoryKey::TagClaim(tag, _)) => {
                    let why = self.reads::<Claim>(entry).await?;
                    why.map(|why| format!("a claim on a version of tag {name}:{tag} {why}"))
                }
                Some(RepositoryKey::ManifestClaim(digest, _)) => {
                    let why = self.reads::<Claim>(entry).await?;
                    why.map(|why| format!("a claim on a version of manifest {digest} of {name} {why}"))
                }
                Some(RepositoryKey::Download(digest, _)) => {
                    let why = self.reads::<DownloadTurn>(entry).await?;
                    why.map(|why| format!("the record of a download of {digest} into {name} {why}"))
                }
                Some(RepositoryKey::FirstSeen(digest)) => {
                    let why = self.reads::<Provenance>(entry).await?;
                    why.map(|why| format!("the time at which {digest} of {name} was first seen {why}"))
                }
                Some(RepositoryKey::Lead(digest, tag)) => {
                    let why = self.reads::<Provenance>(entry).await?;
                    why.map(|why| format!("the record that tag {name}:{tag} leads to {digest} {why}"))
                }
                Some(RepositoryKey::Pulls(..)) => {
                    self.reads::<Vec<Pull>>(entry).await?.map(|why| format!("a record of pulls from {name} {why}"))
                }
                _ => {
                    self.unknown(entry).await?;
                    None
                }
            };
            if let Some(what) = what {
                let says = format!("{what}; bring the object back from a backup, or remove it");
                self.wrong(&entry.key, &says).await?;
            }
        }
        Ok(())
    }

    /// Checks that the record of the time since which pulls are known can be read.
    async fn pulls_since(&self) -> Result<()> {
        let listed = self.run.store.list(&Key::PullsSince.to_string(), None, 1).await?;
        let Some(entry) = listed.first() else { return Ok(()) };
        match self.reads::<PullsSince>(entry).await? {
            None => Ok(()),
            Some(why) => {
                let says =
                    format!("the time since which pulls are recorded {why}; remove the object, and restart a server");
                self.wrong(&entry.key, &says).await
            }
        }
    }

    /// Returns the reason why an object cannot be read as a `T`. Returns nothing if it can be read, or is gone.
    async fn reads<T: serde::de::DeserializeOwned>(&self, entry: &Entry) -> Result<Option<String>> {
        let read = |content: bytes::Bytes| serde_json::from_slice::<T>(&content).map(|_| ());
        let read = self.run.store.get_checked(&entry.key, read).await?;
        Ok(read.and_then(std::result::Result::err).map(|error| format!("cannot be read ({error})")))
    }

    /// Writes the catalog's entry of a repository with an existing manifest again, if it is missing.
    async fn catalogued(&self, name: &Name) -> Result<()> {
        let listed = self.run.store.list_all(&Prefix::CatalogOf(name).to_string()).await?;
        if listed.iter().any(|entry| matches!(Key::catalog(&entry.key), Some((_, CatalogKey::Entry(_))))) {
            return Ok(());
        }
        let key = CatalogKey::Entry(Suffix::random()).of(name);
        let says = format!("repository {name} has manifests and was not in the catalog; it is listed again");
        self.repaired(&key, &says)?;
        self.run.put(&key, self.stamp()).await
    }
}
