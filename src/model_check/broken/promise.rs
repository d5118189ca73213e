//! Promises about tags, the catalog and bytes, beyond those that every push gets.

use super::Seen;
use crate::{
    model_check::answers::Promise,
    oci::{Digest, Name, Tag},
    records::{
        CopyRecord, TagEntry,
        key::{CatalogKey, DataKey, Key, Ordinal, Owner, Prefix, RepositoryKey, TagVersion},
    },
};

impl Seen<'_> {
    /// Returns how a promise is broken. Lists may be wrong for a while if an operation took a lease, that is, without
    /// `in_time`.
    pub(super) fn promise(&self, promise: &Promise, in_time: bool) -> Option<String> {
        match promise {
            Promise::Stays(name, tag, digest) => self.stays(name, tag, std::slice::from_ref(digest)),
            Promise::OneOf(name, tag, digests) => self.stays(name, tag, digests),
            Promise::Stands(name, digest) => {
                self.whole(name, digest).map(|what| format!("a manifest of {name} is to stand, but {what}"))
            }
            Promise::NotThis(name, tag, digest) => {
                let meant = self.standing_meaning(name, tag) == Some(*digest);
                meant.then(|| format!("tag {tag} of {name} was deleted and means {digest} again"))
            }
            Promise::Gone(name, digest) => self.gone(name, digest, in_time),
            Promise::Meant(name, tag, digest) => {
                let meant =
                    self.meanings(name, tag).iter().any(|(_, target)| target.is_some_and(|(it, _)| it == *digest));
                (!meant).then(|| format!("that tag {tag} of {name} meant {digest} is forgotten"))
            }
            Promise::Once(name, tag) => self.once(name, tag),
            Promise::Listed(name) => {
                let listed = self
                    .under(Prefix::CatalogOf(name))
                    .any(|(key, _)| matches!(Key::catalog(key), Some((_, CatalogKey::Entry(_)))));
                (!listed).then(|| format!("repository {name} is not in the catalog"))
            }
            Promise::Sound(name, digest) => self.sound(name, digest),
            Promise::NoSlander => self.slander(),
            Promise::Has(name, digest) => {
                let lost = !self.has(name, digest) || !self.readable(digest);
                lost.then(|| format!("{name} was told that it has {digest}, and it has not"))
            }
            Promise::Kept(name, manifest, since, blob) => {
                let lost = !self.has(name, blob) || !self.readable(blob);
                let lost = lost && !self.ended_since(name, manifest, *since);
                lost.then(|| format!("{blob} came to manifest {manifest} of {name}, and is lost"))
            }
            Promise::Lacks(name, digest) => {
                self.has(name, digest).then(|| format!("{name} has {digest}, and nobody gave it that"))
            }
            Promise::NothingNoted => {
                let note = self.under(Prefix::NotesBelow("")).next();
                note.map(|(key, content)| format!("there is a note {key}: {}", String::from_utf8_lossy(content)))
            }
        }
    }

    /// Returns the manifest that a tag means, if that was not deleted since.
    fn standing_meaning(&self, name: &Name, tag: &Tag) -> Option<Digest> {
        let (digest, since) = self.means(name, tag)?;
        (!self.ended_since(name, &digest, since)).then_some(digest)
    }

    fn ended_since(&self, name: &Name, digest: &Digest, since: Ordinal) -> bool {
        let versions = self.versions(name, digest);
        versions.iter().any(|(_, version)| !version.there && version.ordinal > since)
            || !versions.iter().any(|(_, version)| version.there)
    }

    fn stays(&self, name: &Name, tag: &Tag, digests: &[Digest]) -> Option<String> {
        let Some((digest, since)) = self.means(name, tag) else {
            return Some(format!("tag {tag} of {name} is gone, and nobody may have taken it away"));
        };
        if !digests.contains(&digest) {
            return Some(format!("tag {tag} of {name} means {digest}, and was to mean one of {digests:?}"));
        }
        if self.ended_since(name, &digest, since) {
            return Some(format!("the manifest of tag {tag} of {name} was deleted, and nobody may have done that"));
        }
        self.whole(name, &digest).map(|what| format!("tag {tag} of {name} was answered 201, but {what}"))
    }

    fn gone(&self, name: &Name, digest: &Digest, in_time: bool) -> Option<String> {
        if self.versions(name, digest).first().is_some_and(|(_, version)| version.there) {
            return Some(format!("manifest {digest} of {name} was deleted and stands again"));
        }
        let mut newest = None;
        for (key, _) in self.under(Prefix::AllReferrers(name)).filter(|_| in_time) {
            let Some((of, version)) = RepositoryKey::referrer(name, key) else { continue };
            if of.manifest != *digest || newest.replace(of) == Some(of) {
                continue;
            }
            if version.there {
                return Some(format!("manifest {digest} of {name} was deleted and is listed as a referrer"));
            }
        }
        None
    }

    /// Returns the meanings of a tag, newest first: its versions and its history.
    fn meanings(&self, name: &Name, tag: &Tag) -> Vec<(Ordinal, Option<(Digest, Ordinal)>)> {
        let prefix = Prefix::Tag(name, tag);
        let live = self.under(prefix).filter_map(|(key, _)| RepositoryKey::tag_version(name, key));
        let mut all: Vec<_> = live.map(|(_, TagVersion { ordinal, target })| (ordinal, target)).collect();
        for (_, content) in self.under(Prefix::History(name, tag)) {
            let entries = serde_json::from_slice::<Vec<TagEntry>>(content).unwrap_or_default();
            let entry = |entry: TagEntry| {
                (Ordinal(entry.ordinal), entry.target.map(|(digest, version)| (digest, Ordinal(version))))
            };
            all.extend(entries.into_iter().map(entry));
        }
        // at one ordinal, a version with a target beats a tombstone
        all.sort_by_key(|(ordinal, target)| std::cmp::Reverse((*ordinal, target.is_some())));
        all.dedup();
        all
    }

    fn once(&self, name: &Name, tag: &Tag) -> Option<String> {
        let mut meanings = self.meanings(name, tag);
        if let Some(twice) = meanings.windows(2).find(|two| {
            two[0].0 == two[1].0 && matches!((two[0].1, two[1].1), (Some((one, _)), Some((other, _))) if one != other)
        }) {
            return Some(format!("immutable tag {tag} of {name} means two things at once: {twice:?}"));
        }
        meanings.dedup_by_key(|(ordinal, _)| *ordinal);
        let changed = meanings.windows(2).find(|two| match (two[0].1, two[1].1) {
            (Some((new, _)), Some((old, since))) => new != old && !self.ended_since(name, &old, since),
            _ => false,
        });
        changed.map(|two| format!("immutable tag {tag} of {name} meant one thing and then another: {two:?}"))
    }

    /// Returns a pair for each copy of a digest whose bytes are all there: whether they hash to the digest, and whether
    /// they have a corruption note.
    fn copies(&self, digest: &Digest) -> Vec<(bool, bool)> {
        let prefix = Prefix::Copies(digest);
        let copies = self.under(prefix).filter_map(|(key, content)| {
            let id = Key::copy(key).map(|(_, id)| id)?;
            let fact = serde_json::from_slice::<CopyRecord>(content).ok()?;
            let mut bytes = Vec::new();
            for segment in &fact.segments {
                bytes.extend_from_slice(&self.objects.get(&*segment.key(&id))?.content);
            }
            let rotten = self.under(Prefix::Data(&id)).any(|(key, _)| DataKey::is_corrupt(key));
            Some((Digest::of(digest.algorithm(), &bytes) == *digest, rotten))
        });
        copies.collect()
    }

    fn sound(&self, name: &Name, digest: &Digest) -> Option<String> {
        let lost = self.has(name, digest) && !self.copies(digest).contains(&(true, false));
        lost.then(|| format!("no sound copy of {digest} is left, which {name} has"))
    }

    fn slander(&self) -> Option<String> {
        let mut digests: Vec<Digest> = self.under(Prefix::Blobs).filter_map(|(key, _)| Owner::digest(key)).collect();
        digests.dedup();
        let wronged = digests.into_iter().find(|digest| self.copies(digest).contains(&(true, true)));
        wronged.map(|digest| format!("a copy of {digest} is said to be rotten and is not"))
    }
}
