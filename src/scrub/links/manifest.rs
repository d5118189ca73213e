//! Checks that a manifest can be read, and that the things that it names exist with the records that protect them.

use std::sync::PoisonError;

use bytes::Bytes;

use super::{Group, Links, Missing, reference::Listed};
use crate::{
    oci::{Descriptor, Digest, Name},
    records::{
        ManifestHeader, ManifestState, ReadManifest, json,
        key::{BlobLink, ManifestKey, Ordinal, Prefix, Referrer, RepositoryKey, Suffix, Version, suffix_before},
    },
    scrub::{Result, ScrubError},
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// Returns the manifests that an index lists.
fn children(read: &ReadManifest) -> Vec<Digest> {
    read.manifest.children.iter().map(|child| child.digest).collect()
}

/// Returns whether the header before the bytes has the subject and children that the bytes have.
fn has_its_head(read: &ReadManifest) -> bool {
    read.header.subject == read.manifest.subject && read.header.children == children(read)
}

/// An existing manifest, with its newest version.
#[derive(Clone, Copy)]
struct Standing<'a> {
    name: &'a Name,
    digest: &'a Digest,
    newest: &'a Entry,
    ordinal: Ordinal,
    readable: &'a ReadManifest,
}

impl Links<'_, '_> {
    /// Checks one manifest. Returns whether it exists.
    pub(super) async fn manifest(&self, name: &Name, group: &Group) -> Result<bool> {
        let mut digest = None;
        let mut versions: Vec<(&Entry, Version)> = Vec::new();
        for entry in group {
            match RepositoryKey::manifest(name, &entry.key) {
                Some((of, ManifestKey::Version(version, _))) => {
                    digest = Some(of);
                    versions.push((entry, version));
                }
                Some(_) => {}
                None => self.unknown(entry).await?,
            }
        }
        let (Some(digest), Some((newest, version))) = (digest, versions.first().copied()) else { return Ok(false) };
        // scrub does not undo a delete that has begun
        let going = group.iter().any(|entry| ManifestKey::pending_delete(&entry.key).is_some() && !self.is_old(entry));
        if !version.there {
            return Ok(false);
        }
        // a header that does not match its manifest counts as a wrong read as well, so it is read twice
        let check = |content: Bytes| match ReadManifest::of(&digest, &content) {
            Ok(readable) if has_its_head(&readable) => Ok(readable),
            read => Err(Box::new((read, content))),
        };
        let Some(checked) = self.run.store.get_checked(&newest.key, check).await? else { return Ok(true) };
        let (read, content) = match checked {
            Ok(readable) => (Ok(readable), Bytes::new()),
            Err(wrong) => *wrong,
        };
        match read {
            // a delete may be removing the things that it names; its bytes do not change
            Ok(_) if going => self.run.too_young(1),
            Ok(readable) => {
                let standing =
                    Standing { name, digest: &digest, newest, ordinal: version.ordinal, readable: &readable };
                self.header(standing).await?;
                self.names(standing).await?;
            }
            Err(what) => self.unreadable(name, &digest, &versions, (&content, &what), going).await?,
        }
        Ok(true)
    }

    /// Replaces a newest version that cannot be read by a copy of an older one. Notes the fault if no version can be
    /// read.
    async fn unreadable(
        &self,
        name: &Name,
        digest: &Digest,
        versions: &[(&Entry, Version)],
        (damaged, what): (&Bytes, &str),
        going: bool,
    ) -> Result<()> {
        let (newest, at) = versions[0];
        let damaged = ManifestHeader::split(damaged).ok().map(|(header, _)| header);
        for (entry, _) in versions[1..].iter().take_while(|(_, version)| version.there && !going) {
            let Some(content) = self.run.store.get(&entry.key).await? else { continue };
            if let Ok(readable) = ReadManifest::of(digest, &content) {
                let key = before(name, digest, at.ordinal, &newest.key);
                let says = format!(
                    "manifest {digest} of {name} could not be read, since {what}; a copy of its version before takes its place"
                );
                self.repaired(&key, &says)?;
                let mut header = readable.header;
                if let Some(ManifestHeader { absent, cached, anew, .. }) = damaged {
                    (header.absent, header.cached, header.anew) = (absent, cached, anew);
                }
                return self.run.put(&key, header.join(&readable.bytes)).await;
            }
        }
        let says = format!(
            "manifest {digest} of {name} cannot be read, since {what}; push the image again, or delete the manifest"
        );
        self.wrong(&newest.key, &says).await?;
        self.run.report_damage(digest).await
    }

    /// Remembers missing digests of a manifest, for another look at the end.
    fn misses(&self, missing: Missing) {
        if !missing.is_empty() {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).push(missing);
        }
    }

    /// Writes a manifest again if its header does not match its bytes, since readers rely on the header.
    async fn header(&self, standing: Standing<'_>) -> Result<()> {
        let Standing { name, digest, newest, ordinal, readable } = standing;
        let ReadManifest { header, bytes, manifest } = readable;
        if has_its_head(readable) {
            return Ok(());
        }
        let children = children(readable);
        let header = ManifestHeader { subject: manifest.subject, children, ..header.clone() };
        let key = before(name, digest, ordinal, &newest.key);
        let says = format!("the header of manifest {digest} of {name} did not match its bytes; it is written again");
        self.repaired(&key, &says)?;
        self.run.put(&key, header.join(bytes)).await
    }

    /// Looks at the blobs, children and subject of an existing manifest. Absent content of a cached one is no fault. It is
    /// recorded once it has come, and from then on its loss is a fault.
    ///
    /// A push writes the manifest after its pins and index references, and before its referrer. So those of a young
    /// manifest are judged as well, and its other links are not: a push or a delete may be under way.
    async fn names(&self, standing: Standing<'_>) -> Result<()> {
        let Standing { name, digest, newest, readable, .. } = standing;
        let ReadManifest { header, manifest, .. } = readable;
        let absent = if header.absent.is_empty() { Some(Vec::new()) } else { self.unlinked(name, digest).await? };
        // the manifest was deleted since it was listed
        let Some(absent) = absent else { return Ok(()) };
        let (mut missing, mut found) = (Missing::new(name, digest, newest), Vec::new());
        let (young, mut unsure) = (!self.is_old(newest), false);
        let may_miss = header.cached || self.run.config.allow_missing_references;
        let mut children: Vec<&Descriptor> =
            manifest.children.iter().filter(|child| child.media_type.is_manifest()).collect();
        for blob in manifest.listed_blobs() {
            let is_child = !manifest.blobs.contains(blob) && !manifest.foreign.contains(blob);
            if is_child && self.is_child(name, digest, blob).await? {
                children.push(blob);
            } else if !absent.contains(&blob.digest) {
                if !self.blob(name, digest, blob).await? {
                    missing.blobs.push(blob.digest);
                }
            } else if young {
                unsure |= !header.cached;
            } else if self.found_since(name, digest, blob).await? {
                found.push(blob.digest);
            } else if !may_miss && !manifest.foreign.contains(blob) {
                missing.links.push(blob.digest);
            }
        }
        for child in children {
            let is_absent = absent.contains(&child.digest);
            if is_absent && header.cached {
                if !young && self.stands(name, &child.digest).await? && self.child(name, digest, child).await? {
                    found.push(child.digest);
                }
            } else if young && (is_absent || self.was_deleted(name, &child.digest).await?) {
                unsure = true;
            } else if !self.child(name, digest, child).await? {
                missing.children.push(child.digest);
            }
        }
        self.misses(missing);
        if !found.is_empty() && !self.run.options.dry_run {
            let absent = absent.into_iter().filter(|digest| !found.contains(digest)).collect();
            self.run
                .registry
                .versions
                .record_links(name, digest, &newest.key, absent)
                .await
                .map_err(ScrubError::Registry)?;
        }
        if let Some(subject) = manifest.subject {
            unsure |= !self.lists(standing, &subject).await?;
        }
        self.run.too_young(u64::from(unsure));
        Ok(())
    }

    /// Returns whether the newest version of a manifest is a tombstone. A lost manifest has no version.
    async fn was_deleted(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(ManifestState::of(&self.run.store, name, digest).await? == ManifestState::Deleted)
    }

    /// Returns whether an index uses an entry as a manifest although the entry's media type is none of a manifest.
    async fn is_child(&self, name: &Name, index: &Digest, entry: &Descriptor) -> Result<bool> {
        let pinned = self.run.store.list(&Prefix::Pins(&entry.digest, name, index).to_string(), None, 1).await?;
        Ok(pinned.is_empty() && self.stands(name, &entry.digest).await?)
    }

    async fn unlinked(&self, name: &Name, manifest: &Digest) -> Result<Option<Vec<Digest>>> {
        self.run.registry.versions.unlinked(name, manifest).await.map_err(ScrubError::Registry)
    }

    /// Returns whether a blob that a manifest links has a blob copy, and writes its pin again if that was lost.
    ///
    /// The push recorded the link, so the pin gives the repository nothing that it does not have.
    async fn blob(&self, name: &Name, manifest: &Digest, blob: &Descriptor) -> Result<bool> {
        let store = &self.run.store;
        let pinned = !store.list(&Prefix::Pins(&blob.digest, name, manifest).to_string(), None, 1).await?.is_empty();
        let has_place = !store.list(&Prefix::Copies(&blob.digest).to_string(), None, 1).await?.is_empty();
        if pinned || !has_place {
            return Ok(has_place);
        }
        let key = BlobLink::Pin(*manifest).of(&blob.digest, name, Suffix::random());
        let says = format!("manifest {manifest} of {name} did not protect its blob {}; it does again", blob.digest);
        self.repaired(&key, &says)?;
        self.run.put(&key, self.stamp()).await?;
        // the reference first, then the look
        Ok(!store.list(&Prefix::Copies(&blob.digest).to_string(), None, 1).await?.is_empty())
    }

    /// Returns whether the repository has got a blob since a manifest was pushed without it, and pins the blob then. Its link
    /// alone does not tell so: an upload writes the link before it ends.
    ///
    /// A link of this manifest does not count: naming a digest gives no access to it. A delete of the blob that runs at
    /// the same time either sees the pin, or is seen here.
    async fn found_since(&self, name: &Name, manifest: &Digest, blob: &Descriptor) -> Result<bool> {
        let (store, registry) = (&self.run.store, &self.run.registry);
        let has = async || {
            if mutated(Mutation::RepairLinksWhatIsNamed) {
                return Ok(true);
            }
            registry.blobs.has_without(name, &blob.digest, manifest).await.map_err(ScrubError::Registry)
        };
        if !has().await? {
            return Ok(false);
        }
        if self.run.options.dry_run {
            return Ok(true);
        }
        store.put(&BlobLink::Pin(*manifest).of(&blob.digest, name, Suffix::random()), self.stamp()).await?;
        let listed = store.list_all(&Prefix::Links(&blob.digest, name).to_string()).await?;
        let deleted =
            |entry: &Entry| BlobLink::at_end_of(&entry.key) == Some(BlobLink::Unlinked) && !self.is_old(entry);
        if listed.iter().any(deleted) && !mutated(Mutation::BlobDeletesNotLookedFor) {
            return Ok(false);
        }
        Ok(has().await? && registry.copies.mend(&blob.digest, &self.run.by).await.map_err(ScrubError::Registry)?)
    }

    /// Returns whether a manifest that an index lists exists. Writes its index reference again if that was lost.
    async fn child(&self, name: &Name, index: &Digest, child: &Descriptor) -> Result<bool> {
        let store = &self.run.store;
        let listed = store.list(&Prefix::IndexReferencesBy(name, &child.digest, index).to_string(), None, 1).await?;
        let protected = !listed.is_empty();
        if !protected && !self.stands(name, &child.digest).await? {
            return Ok(self.run.config.allow_missing_references);
        }
        if !protected {
            let key = ManifestKey::IndexReference(*index, Suffix::random()).of(name, &child.digest);
            let says = format!("index {index} of {name} did not protect its manifest {}; it does again", child.digest);
            self.repaired(&key, &says)?;
            self.run.put(&key, self.stamp()).await?;
        }
        self.stands(name, &child.digest).await
    }

    pub(super) async fn stands(&self, name: &Name, digest: &Digest) -> Result<bool> {
        Ok(ManifestState::of(&self.run.store, name, digest).await? == ManifestState::Stands)
    }

    /// Writes the referrer of a manifest with a subject again if it is missing or wrong. Returns whether it could be
    /// judged.
    async fn lists(&self, standing: Standing<'_>, subject: &Digest) -> Result<bool> {
        let Standing { name, digest, newest, ordinal, readable } = standing;
        let descriptor = readable.manifest.as_referrer(*digest, readable.bytes.len() as u64);
        let instead = match self.is_listed(name, subject, &descriptor).await? {
            Listed::Yes => return Ok(true),
            Listed::Unsure => return Ok(false),
            // a push writes it after the manifest, and a delete removes it before
            Listed::Not | Listed::Gone(_) if !self.is_old(newest) => return Ok(false),
            Listed::Not => None,
            Listed::Gone(entry) | Listed::Otherwise(entry) => Some(entry),
        };
        let says = instead.as_ref().and_then(|entry| Some((entry, Version::at_end_of(&entry.key)?)));
        let (key, attempt) = match says {
            // at the ordinal of the manifest's version, so that a later delete counts
            None => (None, Suffix::random()),
            Some((_, version)) if version.ordinal < ordinal => (None, Suffix::random()),
            Some((entry, version)) => (Some(version.ordinal), suffix_before(&entry.key)),
        };
        let key = Referrer { subject: *subject, manifest: *digest }.version(
            name,
            Version { ordinal: key.unwrap_or(ordinal), there: true },
            attempt,
        );
        let says = format!("manifest {digest} of {name} was not listed among the referrers of {subject}; it is again");
        self.repaired(&key, &says)?;
        self.run.put(&key, json(&descriptor)).await?;
        Ok(true)
    }
}

/// Returns a key that sorts before `key`, at the same ordinal. Tags that name the version of `key` mean the new one
/// too, and a delete of that version deletes the new one.
fn before(name: &Name, digest: &Digest, ordinal: Ordinal, key: &str) -> String {
    ManifestKey::Version(Version { ordinal, there: true }, suffix_before(key)).of(name, digest)
}
