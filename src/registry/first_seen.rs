//! The times at which this registry first learned from an upstream that a manifest is there.

use std::{sync::Arc, time::Duration};

use super::{Error, Result, core::Core};
use crate::{
    memory::Part,
    oci::{Digest, Name, Tag},
    records::{
        Actor, ManifestHeader, Provenance, json,
        key::{Prefix, RepositoryKey, Version},
    },
    storage::StorageError,
};

/// The time for which a process remembers a record. Scrub may free the record, and another server then creates it anew.
const REMEMBERED: Duration = Duration::from_hours(24);
/// The tries to write a record that scrub frees meanwhile.
const TRIES: u32 = 3;

/// The times at which manifests were first seen. A record is created exclusively and never changes, so all servers agree.
pub struct FirstSeen {
    core: Arc<Core>,
    /// The times, in milliseconds since 1970.
    times: Part<(Name, Digest), u64>,
    /// Tags that are recorded to lead to a manifest.
    leads: Part<(Name, Digest, Tag), ()>,
}

impl FirstSeen {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let times = core.part(|(name, _): &(Name, Digest), _: &u64| name.as_str().len() + 100);
        let leads =
            core.part(|(name, _, tag): &(Name, Digest, Tag), (): &()| name.as_str().len() + tag.as_str().len() + 100);
        Self { core: Arc::clone(core), times: times.for_time(REMEMBERED), leads: leads.for_time(REMEMBERED) }
    }

    /// Returns the time at which a manifest was first seen, in milliseconds since 1970 by the store's clock. A manifest
    /// without a record that is here was seen when its oldest version was written; that becomes its record. `None` if it was
    /// never seen.
    ///
    /// # Errors
    /// Those of the store, and damage.
    pub async fn of(&self, name: &Name, digest: &Digest, by: &Actor) -> Result<Option<u64>> {
        if let Some(at) = self.times.get(&(name.clone(), *digest)) {
            return Ok(Some(at));
        }
        if let Some(at) = self.read(name, digest).await? {
            return Ok(Some(at));
        }
        match self.oldest(name, digest).await? {
            Some(at) => self.create(name, digest, at, by).await.map(Some),
            None => Ok(None),
        }
    }

    /// Records that a manifest is seen now, unless it was seen before. Returns the time at which it was first seen.
    /// `is_here` says that the repository has the manifest.
    ///
    /// # Errors
    /// Those of the store, and damage.
    pub async fn note(&self, name: &Name, digest: &Digest, is_here: bool, by: &Actor) -> Result<u64> {
        if let Some(at) = self.times.get(&(name.clone(), *digest)) {
            return Ok(at);
        }
        if is_here && let Some(at) = self.of(name, digest, by).await? {
            return Ok(at);
        }
        self.create(name, digest, self.core.clock.time_ms(), by).await
    }

    /// Records that a tag leads to a manifest. Returns false if this process knew that.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn note_tag(&self, name: &Name, digest: &Digest, tag: &Tag, by: &Actor) -> Result<bool> {
        let lead = (name.clone(), *digest, tag.clone());
        if self.leads.get(&lead).is_some() {
            return Ok(false);
        }
        let key = RepositoryKey::Lead(*digest, tag.clone()).of(name);
        self.core.store.create_new(&key, self.core.provenance(by)).await?;
        self.leads.insert(lead, ());
        Ok(true)
    }

    /// Returns the tags that are recorded to lead to a manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tags(&self, name: &Name, digest: &Digest) -> Result<Vec<Tag>> {
        let listed = self.core.store.list_all(&Prefix::FirstSeen(name, digest).to_string()).await?;
        let tags = listed.iter().filter_map(|entry| match RepositoryKey::under(name, &entry.key) {
            Some(RepositoryKey::Lead(_, tag)) => Some(tag),
            _ => None,
        });
        Ok(tags.collect())
    }

    async fn read(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let key = RepositoryKey::FirstSeen(*digest).of(name);
        let Some(content) = self.core.store.get(&key).await? else { return Ok(None) };
        let Provenance { at, .. } =
            serde_json::from_slice(&content).map_err(|error| StorageError::damaged("get", &key, error.to_string()))?;
        self.times.insert((name.clone(), *digest), at);
        Ok(Some(at))
    }

    /// Returns the time of the oldest version that can be read.
    async fn oldest(&self, name: &Name, digest: &Digest) -> Result<Option<u64>> {
        let listed = self.core.store.list_all(&Prefix::Manifest(name, digest).to_string()).await?;
        let is_there = |key: &str| Version::at_end_of(key).is_some_and(|version| version.there);
        for entry in listed.iter().rev().filter(|entry| is_there(&entry.key)) {
            if let Some(content) = self.core.store.get(&entry.key).await?
                && let Ok((header, _)) = ManifestHeader::split(&content)
            {
                return Ok(Some(header.at));
            }
        }
        Ok(None)
    }

    async fn create(&self, name: &Name, digest: &Digest, at: u64, by: &Actor) -> Result<u64> {
        let key = RepositoryKey::FirstSeen(*digest).of(name);
        let content = json(&Provenance { at, by: by.clone() });
        for _ in 0..TRIES {
            if self.core.store.create_new(&key, content.clone()).await? {
                self.times.insert((name.clone(), *digest), at);
                return Ok(at);
            }
            if let Some(at) = self.read(name, digest).await? {
                return Ok(at);
            }
        }
        Err(Error::TooSlow)
    }
}
