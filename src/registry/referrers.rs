//! Referrers: manifests that name another as their subject.

use std::{cmp::Reverse, io, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    AT_A_TIME, Result,
    core::{Attempt, Core},
};
use crate::{
    action::{Page, ReferrerPlace},
    memory::Part,
    oci::{Descriptor, Digest, Manifest, Name},
    records::{
        json,
        key::{Ordinal, Prefix, Referrer, RepositoryKey, Version},
    },
    storage::StorageError,
};

/// The largest number of referrers that one answer looks at.
const MOST: usize = 10_000;
/// The largest size of an answer, in bytes. Clients read manifests of up to 4 MiB.
const MOST_BYTES: usize = 4 << 20;
/// The largest size of an answer without descriptors, in bytes.
const ENVELOPE: usize = 256;

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct ReferrerPage {
    /// Their descriptors, the newest first.
    pub descriptors: Vec<Arc<Descriptor>>,
    /// The place of the last referrer that was looked at, if more may follow.
    pub next: Option<ReferrerPlace>,
}

/// The lists of the manifests that name another as their subject.
pub struct Referrers {
    core: Arc<Core>,
    /// Descriptors by key. They never change.
    descriptors: Part<String, Arc<Descriptor>>,
}

impl Referrers {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let descriptors = core.part(|key: &String, descriptor: &Arc<Descriptor>| key.len() + weight(descriptor));
        Self { core: Arc::clone(core), descriptors }
    }

    /// Writes a version of a manifest into the referrers of its subject, if it has one.
    pub(super) async fn add(
        &self,
        name: &Name,
        manifest: &Manifest,
        (digest, size): (Digest, u64),
        ordinal: Ordinal,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let Some(subject) = manifest.subject else { return Ok(()) };
        let version = Version { ordinal, there: true };
        let key = Referrer { subject, manifest: digest }.version(name, version, attempt.suffix);
        Ok(self.core.store.put(&key, json(&manifest.as_referrer(digest, size))).await?)
    }

    /// Removes a manifest from the referrers of its subject.
    pub(super) async fn remove(
        &self,
        name: &Name,
        referrer: Referrer,
        ordinal: Ordinal,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let key = referrer.version(name, Version { ordinal, there: false }, attempt.suffix);
        Ok(self.core.store.put(&key, attempt.provenance()).await?)
    }

    /// Returns a page of the manifests that refer to `subject`, of one artifact type if that is given. The subject need
    /// not exist. The newest come first, since some clients read one page only.
    ///
    /// # Errors
    /// Those of the store, and damage.
    pub async fn list(
        &self,
        name: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page<ReferrerPlace>,
    ) -> Result<ReferrerPage> {
        let wanted = page.n.unwrap_or(MOST);
        let mut found = ReferrerPage { descriptors: Vec::new(), next: None };
        if wanted == 0 {
            return Ok(found);
        }
        let (newest, more) = self.newest(name, subject, page.last.as_ref()).await?;
        // a few at a time: each descriptor may be as large as a manifest
        let asked: Vec<_> = newest.iter().map(|(_, key)| self.descriptor(key)).collect();
        let mut descriptors = stream::iter(asked).buffered(AT_A_TIME).zip(stream::iter(&newest));
        let mut bytes = ENVELOPE;
        let mut looked = None;
        while let Some((descriptor, (place, _))) = descriptors.next().await {
            if let Some(descriptor) = descriptor?
                && artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted))
            {
                let size = json_size(&descriptor) + 1;
                if found.descriptors.len() == wanted || (bytes + size > MOST_BYTES && !found.descriptors.is_empty()) {
                    found.next = looked;
                    return Ok(found);
                }
                bytes += size;
                found.descriptors.push(descriptor);
            }
            looked = Some(*place);
        }
        // if few have the wanted type, a page may have fewer than wanted, or none, and still lead on
        found.next = looked.filter(|_| more);
        Ok(found)
    }

    /// Returns the places and keys of the newest [`MOST`] referrers after a place, and whether more follow.
    ///
    /// The keys sort by digest, so this reads all of them, and keeps few.
    async fn newest(
        &self,
        name: &Name,
        subject: &Digest,
        after: Option<&ReferrerPlace>,
    ) -> Result<(Vec<(ReferrerPlace, String)>, bool)> {
        let mut newest: Vec<(ReferrerPlace, String)> = Vec::new();
        let keep = |newest: &mut Vec<(ReferrerPlace, String)>| {
            newest.sort_unstable_by_key(|(place, _)| (Reverse(place.ordinal), place.digest));
            let more = newest.len() > MOST;
            newest.truncate(MOST);
            more
        };
        let mut more = false;
        let mut last = None;
        let mut listed = std::pin::pin!(self.core.store.scan(&Prefix::Referrers(name, subject).to_string()));
        while let Some(entry) = listed.try_next().await? {
            let Some((referrer, version)) = RepositoryKey::referrer(name, &entry.key) else { continue };
            let digest = referrer.manifest;
            // the newest version of a referrer is its first key
            if last.replace(digest) == Some(digest) || !version.there {
                continue;
            }
            let place = ReferrerPlace { ordinal: version.ordinal.0, digest };
            if after.is_none_or(|after| place.is_after(after)) {
                newest.push((place, entry.key));
            }
            if newest.len() > 2 * MOST {
                more |= keep(&mut newest);
            }
        }
        more |= keep(&mut newest);
        Ok((newest, more))
    }

    /// Returns a referrer's descriptor. `None` if scrub freed the record meanwhile.
    async fn descriptor(&self, key: &str) -> Result<Option<Arc<Descriptor>>> {
        if let Some(descriptor) = self.descriptors.get(key) {
            return Ok(Some(descriptor));
        }
        let Some(content) = self.core.store.get(key).await? else { return Ok(None) };
        let descriptor: Descriptor =
            serde_json::from_slice(&content).map_err(|error| StorageError::damaged("get", key, error.to_string()))?;
        let descriptor = Arc::new(descriptor);
        self.descriptors.insert(key.to_owned(), Arc::clone(&descriptor));
        Ok(Some(descriptor))
    }
}

/// Returns the size of a descriptor in an answer, in bytes.
fn json_size(descriptor: &Descriptor) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // counting cannot fail
    let _ = serde_json::to_writer(&mut count, descriptor);
    count.0
}

/// Returns the size of a descriptor in memory in bytes, roughly.
fn weight(descriptor: &Descriptor) -> usize {
    let annotations = descriptor.annotations.iter().flatten();
    let kind = descriptor.artifact_type.as_ref().map_or(0, String::len);
    400 + kind + annotations.map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
}
