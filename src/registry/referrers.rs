//! Referrers: manifests that name another as their subject.

use std::sync::Arc;

use futures::{StreamExt as _, stream};

use super::{AT_A_TIME, Registry, Result};
use crate::{
    action::Page,
    oci::{Descriptor, Digest, Name},
    storage::{StorageError, layout},
};

/// The largest number of descriptors in one answer.
const MOST: usize = 1000;
/// The largest size of the descriptors in one answer, in bytes. Clients read manifests of up to 4 MiB.
const MOST_BYTES: usize = 3 * 1024 * 1024;
/// The number of keys that one listing asks for.
const KEYS: usize = 1000;

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// Their descriptors, in the order of their digests.
    pub descriptors: Vec<Arc<Descriptor>>,
    /// The last digest that was looked at, if more may follow.
    pub next: Option<Digest>,
}

impl Registry {
    /// Returns a page of the manifests that refer to `subject`, of one artifact type if that is given. The subject need
    /// not exist.
    ///
    /// # Errors
    /// Those of the store, and damage.
    pub async fn referrers(
        &self,
        name: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page<Digest>,
    ) -> Result<Referrers> {
        let wanted = page.n.unwrap_or(MOST).min(MOST);
        let mut found = Referrers { descriptors: Vec::new(), next: None };
        let mut bytes = 0;
        let after = page.last.as_ref().map(|last| layout::after_referrer(name, subject, last));
        if wanted == 0 {
            return Ok(found);
        }
        let listed = self.store.list(&layout::referrers(name, subject), after.as_deref(), KEYS).await?;
        let full = listed.len() == KEYS;
        let mut newest: Vec<String> = Vec::new();
        let mut last = None;
        for entry in listed {
            let Some(manifest) = layout::referrer_manifest(&entry.key) else { continue };
            let first = last.replace(manifest) != Some(manifest);
            if first && layout::version(&entry.key).is_some_and(|version| version.there) {
                newest.push(entry.key);
            }
        }
        // a few at a time: each descriptor may be as large as a manifest
        let asked: Vec<_> = newest.iter().map(|key| self.descriptor(key)).collect();
        let mut descriptors = stream::iter(asked).buffered(AT_A_TIME);
        while let Some(next) = descriptors.next().await {
            let Some((descriptor, size)) = next? else { continue };
            if artifact_type.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            if found.descriptors.len() == wanted || (bytes + size > MOST_BYTES && !found.descriptors.is_empty()) {
                found.next = found.descriptors.last().map(|descriptor| descriptor.digest);
                return Ok(found);
            }
            bytes += size;
            found.descriptors.push(descriptor);
        }
        // if few have the wanted type, a page may have fewer than wanted, or none, and still lead on
        found.next = last.filter(|_| full);
        Ok(found)
    }

    /// Returns a referrer's descriptor and its size in bytes, roughly. `None` if scrub freed the record meanwhile.
    async fn descriptor(&self, key: &str) -> Result<Option<(Arc<Descriptor>, usize)>> {
        if let Some(descriptor) = self.descriptors.get(key) {
            let weight = weight(&descriptor);
            return Ok(Some((descriptor, weight)));
        }
        let Some(content) = self.store.get(key).await? else { return Ok(None) };
        let descriptor: Descriptor =
            serde_json::from_slice(&content).map_err(|error| StorageError::damaged("get", key, error.to_string()))?;
        let (descriptor, weight) = (Arc::new(descriptor.clone()), weight(&descriptor));
        self.descriptors.insert(key.to_owned(), Arc::clone(&descriptor));
        Ok(Some((descriptor, weight)))
    }
}

/// Returns the size of a descriptor in bytes, roughly, in memory as in an answer.
pub(super) fn weight(descriptor: &Descriptor) -> usize {
    let annotations = descriptor.annotations.iter().flatten();
    let kind = descriptor.artifact_type.as_ref().map_or(0, String::len);
    400 + kind + annotations.map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
}
