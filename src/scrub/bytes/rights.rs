//! The need for a digest: the state of a repository's records about it, and the decision which of them to free.

use moka::sync::Cache;

use super::super::{Reason, Result, ages::Ages, run::Run};
use crate::{
    oci::{Digest, Name},
    storage::{Entry, layout, layout::Right},
};

/// The state of a manifest by its newest version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// It exists.
    Stands,
    /// It was deleted, and its blobs stay as long as it can be restored. Also the state for a key that is none of the
    /// layout's.
    Kept,
    /// It has no version: its push did not complete, or scrub freed all of it.
    None,
}

/// The states of the manifests that this pass has looked at.
///
/// A state may be outdated. If a manifest has no version, scrub frees pins that are older than a lease. A push of the
/// manifest since then has written pins of its own, which are younger.
pub(super) struct Manifests(Cache<(Name, Digest), Manifest>);

impl Manifests {
    /// The number of manifests that are remembered.
    const MOST: u64 = 100_000;

    pub(super) fn new() -> Self {
        Self(Cache::new(Self::MOST))
    }

    async fn look(&self, run: &Run<'_>, name: &Name, digest: &Digest) -> Result<Manifest> {
        let key = (name.clone(), *digest);
        if let Some(known) = self.0.get(&key) {
            return Ok(known);
        }
        let listed = run.store.list(&layout::manifest(name, digest), None, 1).await?;
        let found = match listed.first() {
            None => Manifest::None,
            Some(first) => says(&first.key),
        };
        self.0.insert(key, found);
        Ok(found)
    }
}

/// Returns the state of a manifest from the first key under its prefix. The first key is the newest version, if there
/// is any.
fn says(first: &str) -> Manifest {
    let of_no_version = layout::going_version(first).is_some() || layout::kid_parent(first).is_some();
    match layout::version(first) {
        Some(version) if version.there => Manifest::Stands,
        None if of_no_version => Manifest::None,
        Some(_) | None => Manifest::Kept,
    }
}

/// A parsed record under `in/`.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) entry: Entry,
    pub(super) name: Name,
    pub(super) right: Right,
    /// The state of the manifest, for an old pin.
    manifest: Option<Manifest>,
}

/// Parses records, and looks at the manifests of old pins. Also returns the keys that are none of the layout's.
pub(super) async fn read(
    run: &Run<'_>,
    ages: Ages,
    manifests: &Manifests,
    digest: &Digest,
    entries: Vec<Entry>,
) -> Result<(Vec<Fact>, Vec<Entry>)> {
    let (mut facts, mut strange) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        let Some((right, (name, _))) = layout::right(&entry.key).zip(layout::holder(digest, &entry.key)) else {
            strange.push(entry);
            continue;
        };
        let manifest = match right {
            Right::Pin(manifest) if ages.is_old(&entry) => Some(manifests.look(run, &name, &manifest).await?),
            _ => None,
        };
        facts.push(Fact { entry, name, right, manifest });
    }
    Ok((facts, strange))
}

/// Returns for each record the reason to free it, or nothing if it protects the digest. `facts` are all records about
/// one digest in the order of their keys, or a part that begins and ends between the pins of two manifests.
pub(super) fn judge(facts: &[Fact], ages: Ages) -> Vec<Option<Reason>> {
    let mut fates: Vec<Option<Reason>> = facts.iter().map(|fact| alone(fact, ages)).collect();
    let mut start = 0;
    for of_one in facts.chunk_by(|a, b| a.right == b.right && a.name == b.name) {
        let range = start..start + of_one.len();
        start = range.end;
        // of several pins by one existing manifest, the newest old one stays
        let standing = |at: &usize| facts[*at].manifest == Some(Manifest::Stands);
        let newest = range.clone().filter(standing).max_by_key(|at| (facts[*at].entry.modified, *at));
        for at in range.filter(standing).filter(|at| Some(*at) != newest) {
            fates[at] = Some(Reason::Superseded);
        }
    }
    fates
}

/// Returns the reason to free a record whatever other records there are.
fn alone(fact: &Fact, ages: Ages) -> Option<Reason> {
    match fact.right {
        Right::Grant => ages.is_past_grace(&fact.entry).then_some(Reason::Expired),
        Right::Left => ages.is_past_trash(&fact.entry).then_some(Reason::Deleted),
        Right::Pin(_) => {
            (fact.manifest == Some(Manifest::None) && ages.is_past_grace(&fact.entry)).then_some(Reason::Unreferenced)
        }
    }
}

/// Returns the newest record if that is an unlink.
pub(super) fn last_word(facts: &[Fact]) -> Option<&Entry> {
    let newest = facts.iter().max_by_key(|fact| fact.entry.modified)?;
    (newest.right == Right::Left).then_some(&newest.entry)
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::oci::Algorithm;

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn fact(right: Right, age: u64, manifest: Option<Manifest>) -> Fact {
        Fact { entry: entry("k", 0, age), name: "a/b".parse().unwrap(), right, manifest }
    }

    fn pins(pins: &[(u64, Manifest)]) -> Vec<Option<Reason>> {
        let pin =
            |(age, manifest): &(u64, Manifest)| fact(Right::Pin(digest("m")), *age, (*age >= 100).then_some(*manifest));
        judge(&pins.iter().map(pin).collect::<Vec<_>>(), AGES)
    }

    #[test]
    fn grants_go_after_the_grace_and_deletions_after_the_trash() {
        let facts = [(Right::Grant, 199), (Right::Grant, 200), (Right::Left, 299), (Right::Left, 300)];
        let facts: Vec<Fact> = facts.into_iter().map(|(right, age)| fact(right, age, None)).collect();
        assert_eq!(judge(&facts, AGES), [None, Some(Reason::Expired), None, Some(Reason::Deleted)]);
    }

    #[test]
    fn of_the_pins_of_a_manifest_that_stands_the_newest_old_one_and_the_young_ones_stay() {
        let gone = Some(Reason::Superseded);
        let stands = Manifest::Stands;
        assert_eq!(pins(&[(500, stands)]), [None]);
        assert_eq!(pins(&[(500, stands), (100, stands), (50, stands), (300, stands)]), [gone, None, None, gone]);
        assert_eq!(pins(&[(100, stands), (100, stands)]), [gone, None], "one of two of the same age");
        assert_eq!(pins(&[(50, stands), (60, stands)]), [None, None], "young ones");
    }

    #[test]
    fn pins_without_a_manifest_go_when_they_are_old_and_those_of_a_deleted_one_stay() {
        assert_eq!(pins(&[(199, Manifest::None), (200, Manifest::None)]), [None, Some(Reason::Unreferenced)]);
        assert_eq!(pins(&[(900, Manifest::Kept), (800, Manifest::Kept)]), [None, None]);
    }

    #[test]
    fn a_manifest_is_what_its_newest_version_says() {
        let (name, manifest) = ("a/b".parse().unwrap(), digest("m"));
        let version = |put| layout::manifest_version(&name, &manifest, layout::Ordinal(1), put, "0");
        assert_eq!(says(&version(true)), Manifest::Stands);
        assert_eq!(says(&version(false)), Manifest::Kept);
        assert_eq!(says(&layout::kid(&name, &manifest, &digest("i"), "0")), Manifest::None);
        assert_eq!(says(&layout::going(&name, &manifest, layout::Ordinal(1), "0")), Manifest::None);
        assert_eq!(says(&(layout::manifest(&name, &manifest) + "what")), Manifest::Kept, "nobody knows");
    }

    #[test]
    fn pins_of_two_manifests_and_of_two_repositories_are_counted_apart() {
        let of = |name: &str, manifest: &str| Fact {
            name: name.parse().unwrap(),
            right: Right::Pin(digest(manifest)),
            ..fact(Right::Grant, 500, Some(Manifest::Stands))
        };
        assert_eq!(judge(&[of("a", "m"), of("a", "n"), of("b", "n")], AGES), [None; 3]);
    }

    #[test]
    fn a_deletion_is_the_last_word_if_nothing_came_after_it() {
        let (grant, left) = (fact(Right::Grant, 600, None), fact(Right::Left, 500, None));
        assert!(last_word(&[grant.clone(), left.clone()]).is_some());
        assert!(last_word(&[left, fact(Right::Grant, 400, None)]).is_none());
        assert!(last_word(&[grant]).is_none());
        assert!(last_word(&[]).is_none());
    }
}
