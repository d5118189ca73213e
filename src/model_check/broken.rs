//! The invariants of the store after each step, in terms of its keys.

mod promise;

use std::collections::BTreeSet;

use super::{answers::Ack, bucket::Objects};
use crate::{
    oci::{Digest, Manifest, Name, Tag},
    records::{
        CopyRecord, ManifestHeader, Provenance,
        key::{BlobLink, Key, Ordinal, Owner, Prefix, RepositoryKey, Version},
    },
};

/// Returns the first invariant that is broken. Checks tags that no answer names only if `all_tags` is set.
pub(super) fn broken(objects: &Objects, acked: &[Ack], now: u64, all_tags: bool) -> Option<String> {
    let see = Seen { objects };
    let tags = if all_tags { see.tags() } else { BTreeSet::new() };
    tags.into_iter().find_map(|(name, tag)| see.tag(&name, &tag)).or_else(|| {
        acked.iter().find_map(|ack| match ack {
            Ack::Blob(name, digest, of) => see.blob(name, digest, of),
            Ack::Manifest(_, _, Some(until)) if now >= *until => None,
            Ack::Manifest(name, digest, _) => see.manifest(name, digest),
            Ack::Tag(name, tag, digest) => see.acked_tag(name, tag, digest),
            Ack::Promise(promise) => see.promise(promise, all_tags),
        })
    })
}

struct Seen<'a> {
    objects: &'a Objects,
}

impl<'a> Seen<'a> {
    fn under(&self, prefix: Prefix<'_>) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let prefix = prefix.to_string();
        let all =
            self.objects.range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded));
        all.map(|(key, object)| (&**key, &*object.content)).take_while(move |(key, _)| key.starts_with(&prefix))
    }

    fn tags(&self) -> BTreeSet<(Name, Tag)> {
        let keys = self.under(Prefix::Repositories).filter_map(|(key, _)| {
            let name = Owner::repository(key)?;
            let (tag, _) = RepositoryKey::tag_version(&name, key)?;
            Some((name, tag))
        });
        keys.collect()
    }

    /// Returns the manifest that a tag means by its newest version, and the version of the manifest that it names.
    fn means(&self, name: &Name, tag: &Tag) -> Option<(Digest, Ordinal)> {
        let newest = self.under(Prefix::Tag(name, tag)).next()?;
        RepositoryKey::tag_version(name, newest.0)?.1.target
    }

    /// Checks that a tag that leads to a manifest leads to all of it.
    fn tag(&self, name: &Name, tag: &Tag) -> Option<String> {
        let (digest, since) = self.means(name, tag)?;
        let versions: Vec<_> = self.versions(name, &digest);
        let ended = versions.iter().any(|(_, version)| !version.there && version.ordinal > since);
        if ended || !versions.iter().any(|(_, version)| version.there) {
            return None;
        }
        self.whole(name, &digest).map(|what| format!("tag {tag} of {name} leads to a manifest, but {what}"))
    }

    fn acked_tag(&self, name: &Name, tag: &Tag, digest: &Digest) -> Option<String> {
        if self.under(Prefix::Tag(name, tag)).next().is_none() {
            return Some(format!("tag {tag} of {name} was answered 201 and is not there"));
        }
        // moved on, or deleted beside the push: either order is right
        let (means, _) = self.means(name, tag)?;
        if means == *digest { self.manifest(name, digest) } else { None }
    }

    fn versions(&self, name: &Name, digest: &Digest) -> Vec<(&'a str, Version)> {
        let prefix = Prefix::Manifest(name, digest);
        self.under(prefix).filter_map(|(key, _)| Some((key, Version::at_end_of(key)?))).collect()
    }

    /// Returns whether a user, and not scrub, deleted the manifest.
    fn deleted(&self, name: &Name, digest: &Digest) -> bool {
        self.versions(name, digest).first().is_some_and(|(key, version)| {
            let by = serde_json::from_slice::<Provenance>(&self.objects[*key].content).map(|stamp| stamp.by.identity);
            !version.there && by.is_ok_and(|by| by != "scrub")
        })
    }

    fn manifest(&self, name: &Name, digest: &Digest) -> Option<String> {
        if self.deleted(name, digest) {
            return None;
        }
        self.whole(name, digest).map(|what| format!("a manifest of {name} was answered 201, but {what}"))
    }

    /// Returns the first thing that a manifest misses.
    fn whole(&self, name: &Name, digest: &Digest) -> Option<String> {
        let versions = self.versions(name, digest);
        let Some((key, _)) = versions.first().filter(|(_, version)| version.there) else {
            return Some(format!("manifest {digest} does not stand"));
        };
        let (header, bytes) = match ManifestHeader::split(&self.objects[*key].content) {
            Ok(parts) => parts,
            Err(what) => return Some(format!("manifest {digest} cannot be read: {what}")),
        };
        let Ok(manifest) = Manifest::parse(Some(&header.media_type), &bytes) else {
            return Some(format!("{digest} is no manifest"));
        };
        // the content of a cached manifest may come later, or never
        let is_awaited = |listed: &Digest| header.cached && !self.records(name, digest, listed);
        for blob in manifest.blobs.iter().filter(|blob| !is_awaited(&blob.digest)) {
            if !self.readable(&blob.digest) {
                return Some(format!("the bytes of {} are lost", blob.digest));
            }
            if !self.has(name, &blob.digest) {
                return Some(format!("{name} has no right to {} any more", blob.digest));
            }
        }
        manifest
            .children
            .iter()
            .filter(|child| !is_awaited(&child.digest) && !self.deleted(name, &child.digest))
            .find_map(|child| self.whole(name, &child.digest).map(|what| format!("of its child, {what}")))
    }

    fn has(&self, name: &Name, digest: &Digest) -> bool {
        self.under(Prefix::Links(digest, name)).any(|(key, _)| match BlobLink::at_end_of(key) {
            Some(BlobLink::Link) => true,
            Some(BlobLink::Pin(manifest)) => self.records(name, &manifest, digest),
            _ => false,
        })
    }

    /// Returns whether one of a manifest's versions since its last delete does not name a listed digest as absent.
    fn records(&self, name: &Name, manifest: &Digest, listed: &Digest) -> bool {
        let versions = self.versions(name, manifest);
        let of_life = versions.into_iter().take_while(|(_, version)| version.there);
        let headers = of_life.filter_map(|(key, version)| {
            Some((ManifestHeader::split(&self.objects[key].content).ok()?.0, version.ordinal))
        });
        let headers: Vec<_> = headers.collect();
        let from = headers.iter().find(|(header, _)| header.anew).map(|(_, ordinal)| *ordinal);
        let mut counting = headers.iter().filter(|(_, ordinal)| from.is_none_or(|from| *ordinal >= from));
        counting.any(|(header, _)| !header.absent.contains(listed))
    }

    /// Returns whether a blob copy of the digest has all its bytes, marked or not.
    fn readable(&self, digest: &Digest) -> bool {
        self.under(Prefix::Copies(digest)).any(|(key, content)| {
            let Ok(fact) = serde_json::from_slice::<CopyRecord>(content) else { return false };
            let Some((_, id)) = Key::copy(key) else { return false };
            fact.segments.iter().all(|segment| {
                self.objects.get(&*segment.key(&id)).is_some_and(|object| object.content.len() as u64 == segment.size)
            })
        })
    }

    fn blob(&self, name: &Name, digest: &Digest, of: &str) -> Option<String> {
        let granted = self.under(Prefix::Links(digest, name)).any(|(key, content)| {
            let by = serde_json::from_slice::<Provenance>(content).map(|stamp| stamp.by.identity);
            BlobLink::at_end_of(key) == Some(BlobLink::Link) && by.is_ok_and(|by| by.contains(of))
        });
        (granted && !self.readable(digest)).then(|| format!("blob {digest} of {name} was answered 201 and is lost"))
    }
}
