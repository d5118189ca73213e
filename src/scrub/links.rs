//! Whether what repositories name is there; what is missing and can be derived is written again.
//!
//! Repairs are references, written as pushers write them: reference first, then the look. Damage is told whatever its age.
//! What a push or a delete that is under way may have left, or not written yet, is judged when it is older than a lease, and
//! counted until then. What cannot be repaired gets a note, and nothing is removed.
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
    fmt::Write as _,
    future::ready,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use self::notes::Notes;
use super::{
    Pass, Result, ScrubError,
    report::{Finding, Outcome},
    run::Run,
};
use crate::{
    oci::{Digest, Name},
    registry::facts::{Claim, Pull, PullsSince, Stamp, TagEntry},
    storage::{Entry, layout, mutation::mutated},
};

/// Groups of keys that are looked at at a time.
const AT_A_TIME: usize = 8;

/// Looks at all repositories, and repairs what can be. What they miss is not judged yet: the passes that follow may find it.
pub(super) async fn begin(run: &Run<'_>) -> Result<Left> {
    // before any look
    let (now, lease) = run.time_and_lease().await?;
    let links = Links { run, now, lease, notes: Notes::read(run).await?, missing: Mutex::default() };
    // of no repository
    if run.options.repository.is_none() {
        links.catalog().await?;
        links.pulls_since().await?;
    }
    let total = run.repositories().await?;
    let mut after: Option<String> = None;
    let mut done = 0;
    // from one repository to the next, however much is in each
    while let Some(first) = run.store.list(layout::REPOSITORIES, after.as_deref(), 1).await?.into_iter().next() {
        run.go_on()?;
        let Some((name, _)) = layout::repository_name(&first.key) else {
            if run.options.repository.is_none() {
                links.unknown(&first).await?;
            }
            after = Some(first.key);
            continue;
        };
        after = Some(layout::after_repository(&name));
        if run.covers(&name) {
            links.repository(&name).await?;
            done += 1;
            run.progress(Pass::Links, done, total);
        }
    }
    let Links { now, lease, notes, missing, .. } = links;
    Ok(Left { now, lease, notes, missing: missing.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// Judges what is still missing, and frees the notes about what is right by now.
pub(super) async fn end(run: &Run<'_>, left: Left) -> Result<()> {
    let Left { now, lease, notes, missing } = left;
    let links = Links { run, now, lease, notes, missing: Mutex::default() };
    for missing in missing {
        run.go_on()?;
        links.still(missing).await?;
    }
    links.notes.drop_settled(run).await
}

/// What is left to judge at the end of a run.
pub(super) struct Left {
    now: u64,
    lease: u64,
    notes: Notes,
    missing: Vec<Missing>,
}

/// Something that a manifest names and that its repository does not have.
struct Missing {
    name: Name,
    manifest: Digest,
    /// The version that names it.
    key: String,
    /// Blobs that it links, and whose bytes are not there.
    blobs: Vec<Digest>,
    /// Blobs that it needs, and that its repository never had.
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

/// Digests that one note names; the rest is counted.
const NAMED: usize = 8;

/// The pass at work.
struct Links<'a, 'r> {
    run: &'a Run<'r>,
    /// The store's time before any look, and the lease in force, in milliseconds.
    now: u64,
    lease: u64,
    notes: Notes,
    /// What is to be looked at once more at the end.
    missing: Mutex<Vec<Missing>>,
}

/// What is under one prefix that ends in a slash: the versions of one thing, and the facts about it.
type Group = Vec<Entry>;

/// What was seen of a repository.
#[derive(Default)]
struct Seen {
    /// Whether a manifest stands.
    stands: AtomicBool,
    tags: AtomicU64,
    manifests: AtomicU64,
}

impl Links<'_, '_> {
    /// Tells of what a manifest still misses, if it is still there.
    async fn still(&self, missing: Missing) -> Result<()> {
        let Missing { name, manifest, key, blobs, links, children } = missing;
        if self.run.store.size(&key).await?.is_none() {
            return Ok(());
        }
        let mut absent = Vec::new();
        for digest in blobs {
            if self.run.store.list(&layout::places(&digest), None, 1).await?.is_empty() {
                absent.push(digest);
            }
        }
        for digest in links {
            let has = self.run.registry.has_without(&name, &digest, &manifest).await;
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
        self.wrong(&key, says).await
    }

    /// Whether something is older than a lease: nobody who wrote it is still at work. What the store does not say is young.
    fn is_old(&self, entry: &Entry) -> bool {
        let age = self.now.saturating_sub(entry.modified);
        entry.modified > 0 && age >= self.lease || mutated("links without a lease")
    }

    /// Checks whether an object is old enough to judge the things that it names; counts a younger one.
    fn is_judged(&self, entry: &Entry) -> bool {
        let is = self.is_old(entry);
        if !is {
            self.run.too_young(1);
        }
        is
    }

    /// The body of a fact of this run.
    fn stamp(&self) -> Vec<u8> {
        let stamp = Stamp { at: self.run.store.clock().time_ms(), by: self.run.by.clone() };
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
        let seen = Seen::default();
        let groups = groups(self.run.store.scan(&layout::repository(name)));
        groups.try_for_each_concurrent(AT_A_TIME, |group| self.group(name, group, &seen).boxed()).await?;
        let Seen { stands, tags, manifests } = seen;
        // where garbage is looked for as well, that counts
        if !self.run.options.passes.contains(&Pass::Garbage) {
            self.run.saw("repositories", 1);
            self.run.saw("tags", tags.into_inner());
            self.run.saw("manifests", manifests.into_inner());
        }
        if stands.into_inner() { self.catalogued(name).await } else { Ok(()) }
    }

    async fn group(&self, name: &Name, group: Group, seen: &Seen) -> Result<()> {
        self.run.go_on()?;
        let Some(first) = group.first() else { return Ok(()) };
        let part = layout::repository_name(&first.key).and_then(|(_, rest)| rest.split('/').next());
        match part {
            Some("manifests") => {
                seen.manifests.fetch_add(1, Relaxed);
                if self.manifest(name, &group).await? {
                    seen.stands.store(true, Relaxed);
                }
                Ok(())
            }
            Some("tags") => {
                seen.tags.fetch_add(1, Relaxed);
                self.tag(name, &group).await
            }
            Some("referrers") => self.referrer(name, &group).await,
            _ => self.others(name, &group).await,
        }
    }

    /// What is neither a manifest nor names one: it has to be a key of the layout, and can be read.
    async fn others(&self, name: &Name, group: &Group) -> Result<()> {
        for entry in group {
            let what = if let Some(tag) = layout::history_tag(name, &entry.key) {
                self.reads::<Vec<TagEntry>>(entry).await?.map(|why| format!("what tag {name}:{tag} meant before {why}"))
            } else if let Some(tag) = layout::claimed_tag(name, &entry.key) {
                self.reads::<Claim>(entry).await?.map(|why| format!("a claim on a version of tag {name}:{tag} {why}"))
            } else if let Some(digest) = layout::claimed_manifest(name, &entry.key) {
                let why = self.reads::<Claim>(entry).await?;
                why.map(|why| format!("a claim on a version of manifest {digest} of {name} {why}"))
            } else if entry.key.starts_with(&layout::pulls(name)) {
                self.reads::<Vec<Pull>>(entry).await?.map(|why| format!("when images of {name} were pulled {why}"))
            } else {
                self.unknown(entry).await?;
                None
            };
            if let Some(what) = what {
                let says = format!("{what}; bring the object back from a backup, or remove it");
                self.wrong(&entry.key, says).await?;
            }
        }
        Ok(())
    }

    /// Since when pulls are known.
    async fn pulls_since(&self) -> Result<()> {
        let listed = self.run.store.list(layout::PULLS_SINCE, None, 1).await?;
        let Some(entry) = listed.first() else { return Ok(()) };
        match self.reads::<PullsSince>(entry).await? {
            None => Ok(()),
            Some(why) => {
                let says = format!("since when pulls are recorded {why}; remove the object, and restart a server");
                self.wrong(&entry.key, says).await
            }
        }
    }

    /// Why an object cannot be read as what it is; nothing where it can, or is gone.
    async fn reads<T: serde::de::DeserializeOwned>(&self, entry: &Entry) -> Result<Option<String>> {
        let read = |content: bytes::Bytes| serde_json::from_slice::<T>(&content).map(|_| ());
        let read = self.run.store.get_checked(&entry.key, read).await?;
        Ok(read.and_then(std::result::Result::err).map(|error| format!("cannot be read ({error})")))
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
