//! The need for a digest: the state of a repository's records about it, and the decision which of them to free.

use moka::sync::Cache;

use super::super::{Reason, Result, ages::AgeThresholds, run::Run};
use crate::{
    oci::{Digest, Name},
    records::{
        ManifestState,
        key::{BlobLink, Key},
    },
    storage::Entry,
};

/// The states of the manifests that this pass has looked at.
///
/// A state may be outdated. If a manifest has no version, scrub frees pins that are older than a lease. A push of the
/// manifest since then has written pins of its own, which are younger.
pub(super) struct Manifests(Cache<(Name, Digest), ManifestState>);

impl Manifests {
    /// The number of manifests that are remembered.
    const MOST: u64 = 100_000;

    pub(super) fn new() -> Self {
        Self(Cache::new(Self::MOST))
    }

    async fn look(&self, run: &Run<'_>, name: &Name, digest: &Digest) -> Result<ManifestState> {
        let key = (name.clone(), *digest);
        if let Some(known) = self.0.get(&key) {
            return Ok(known);
        }
        let found = ManifestState::of(&run.store, name, digest).await?;
        self.0.insert(key, found);
        Ok(found)
    }
}

/// A parsed record under `in/`.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) entry: Entry,
    pub(super) name: Name,
    pub(super) right: BlobLink,
    /// The state of the manifest, for an old pin.
    manifest: Option<ManifestState>,
}

/// Parses records, and looks at the manifests of old pins. Also returns the keys that are none of the layout's.
pub(super) async fn read(
    run: &Run<'_>,
    ages: AgeThresholds,
    manifests: &Manifests,
    entries: Vec<Entry>,
) -> Result<(Vec<Fact>, Vec<Entry>)> {
    let (mut facts, mut strange) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        let Some((name, right)) = Key::link(&entry.key) else {
            strange.push(entry);
            continue;
        };
        let manifest = match right {
            BlobLink::Pin(manifest) if ages.is_old(&entry) => Some(manifests.look(run, &name, &manifest).await?),
            _ => None,
        };
        facts.push(Fact { entry, name, right, manifest });
    }
    Ok((facts, strange))
}

/// Returns for each record the reason to free it, or nothing if it protects the digest. `facts` are all records about
/// one digest in the order of their keys, or a part that begins and ends between the pins of two manifests.
pub(super) fn judge(facts: &[Fact], ages: AgeThresholds) -> Vec<Option<Reason>> {
    let mut fates: Vec<Option<Reason>> = facts.iter().map(|fact| alone(fact, ages)).collect();
    let mut start = 0;
    for of_one in facts.chunk_by(|a, b| a.right == b.right && a.name == b.name) {
        let range = start..start + of_one.len();
        start = range.end;
        // of several pins by one existing manifest, the newest old one stays
        let standing = |at: &usize| facts[*at].manifest == Some(ManifestState::Stands);
        let newest = range.clone().filter(standing).max_by_key(|at| (facts[*at].entry.modified, *at));
        for at in range.filter(standing).filter(|at| Some(*at) != newest) {
            fates[at] = Some(Reason::Superseded);
        }
    }
    fates
}

/// Returns the reason to free a record whatever other records there are.
fn alone(fact: &Fact, ages: AgeThresholds) -> Option<Reason> {
    match fact.right {
        BlobLink::Link => ages.is_past_grace(&fact.entry).then_some(Reason::Expired),
        BlobLink::Unlinked => ages.is_past_trash(&fact.entry).then_some(Reason::Deleted),
        BlobLink::Pin(_) => (fact.manifest == Some(ManifestState::Never) && ages.is_past_grace(&fact.entry))
            .then_some(Reason::Unreferenced),
    }
}

/// Returns the newest record if that is an unlink.
pub(super) fn last_word(facts: &[Fact]) -> Option<&Entry> {
    let newest = facts.iter().max_by_key(|fact| fact.entry.modified)?;
    (newest.right == BlobLink::Unlinked).then_some(&newest.entry)
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::oci::Algorithm;

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn fact(right: BlobLink, age: u64, manifest: Option<ManifestState>) -> Fact {
        Fact { entry: entry("k", 0, age), name: "a/b".parse().unwrap(), right, manifest }
    }

    fn pins(pins: &[(u64, ManifestState)]) -> Vec<Option<Reason>> {
        let pin = |(age, manifest): &(u64, ManifestState)| {
            fact(BlobLink::Pin(digest("m")), *age, (*age >= 100).then_some(*manifest))
        };
        judge(&pins.iter().map(pin).collect::<Vec<_>>(), AGES)
    }

    #[test]
    fn grants_go_after_the_grace_and_deletions_after_the_trash() {
        let facts =
            [(BlobLink::Link, 199), (BlobLink::Link, 200), (BlobLink::Unlinked, 299), (BlobLink::Unlinked, 300)];
        let facts: Vec<Fact> = facts.into_iter().map(|(right, age)| fact(right, age, None)).collect();
        assert_eq!(judge(&facts, AGES), [None, Some(Reason::Expired), None, Some(Reason::Deleted)]);
    }

    #[test]
    fn of_the_pins_of_a_manifest_that_stands_the_newest_old_one_and_the_young_ones_stay() {
        let gone = Some(Reason::Superseded);
        let stands = ManifestState::Stands;
        assert_eq!(pins(&[(500, stands)]), [None]);
        assert_eq!(pins(&[(500, stands), (100, stands), (50, stands), (300, stands)]), [gone, None, None, gone]);
        assert_eq!(pins(&[(100, stands), (100, stands)]), [gone, None], "one of two of the same age");
        assert_eq!(pins(&[(50, stands), (60, stands)]), [None, None], "young ones");
    }

    #[test]
    fn pins_without_a_manifest_go_when_they_are_old_and_those_of_a_deleted_one_stay() {
        assert_eq!(
            pins(&[(199, ManifestState::Never), (200, ManifestState::Never)]),
            [None, Some(Reason::Unreferenced)]
        );
        assert_eq!(pins(&[(900, ManifestState::Deleted), (800, ManifestState::Deleted)]), [None, None]);
        assert_eq!(pins(&[(900, ManifestState::Unknown)]), [None], "nobody knows");
    }

    #[test]
    fn pins_of_two_manifests_and_of_two_repositories_are_counted_apart() {
        let of = |name: &str, manifest: &str| Fact {
            name: name.parse().unwrap(),
            right: BlobLink::Pin(digest(manifest)),
            ..fact(BlobLink::Link, 500, Some(ManifestState::Stands))
        };
        assert_eq!(judge(&[of("a", "m"), of("a", "n"), of("b", "n")], AGES), [None; 3]);
    }

    #[test]
    fn a_deletion_is_the_last_word_if_nothing_came_after_it() {
        let (grant, left) = (fact(BlobLink::Link, 600, None), fact(BlobLink::Unlinked, 500, None));
        assert!(last_word(&[grant.clone(), left.clone()]).is_some());
        assert!(last_word(&[left, fact(BlobLink::Link, 400, None)]).is_none());
        assert!(last_word(&[grant]).is_none());
        assert!(last_word(&[]).is_none());
    }
}
