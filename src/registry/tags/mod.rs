//! Tags: each new meaning of a tag is a new version, at a place that its writer claimed.

mod claimed;
mod conditional;
mod history;
mod meaning;
mod with_manifest;

use std::sync::Arc;

use self::meaning::{KnownTag, SettledTag};
pub(super) use self::{conditional::Conditional, with_manifest::Ending};
pub use self::{
    conditional::{Condition, Meanings},
    with_manifest::{LookAtTag, TagDelete},
};
use super::{
    Error, Listed, MAX_PAGE, Result,
    cache::{Kept, Recent},
    catalog::Catalog,
    claims::{Order, Target},
    core::{Attempt, Core},
    damage::Damage,
    versions::Versions,
};
use crate::{
    action::Page,
    memory::Part,
    oci::{Digest, Name, Reference, Tag},
    records::{
        Actor,
        key::{Ordinal, Prefix, RepositoryKey, TagVersion, after_tag_text, folder},
    },
};

/// The largest number of keys that one listing asks for to skip deleted tags.
const KEYS: usize = 1000;

/// The protection of a tag against its delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The tag is not protected.
    None,
    /// The tag is immutable, and may be deleted.
    Immutable,
    /// The tag is immutable, and may not be deleted.
    Kept,
}

/// The tags of repositories.
pub struct Tags {
    core: Arc<Core>,
    versions: Arc<Versions>,
    catalog: Arc<Catalog>,
    /// The meanings of tags.
    meanings: Arc<Recent<(Name, Tag), KnownTag>>,
    /// Versions of tags, by key, whose manifest no delete can remove without a newer version of the tag.
    settled: Part<String, SettledTag>,
}

impl Tags {
    pub(super) fn new(core: &Arc<Core>, damage: &Damage, versions: &Arc<Versions>, catalog: &Arc<Catalog>) -> Self {
        let part = core.part(|(name, tag): &(Name, Tag), hit: &Kept<KnownTag>| {
            name.as_str().len() + tag.as_str().len() + hit.value.manifest.bytes.len() + 200
        });
        let meanings = Arc::new(Recent::new(part, core.options.cache_ttl, core.clock.clone()));
        let memory = Arc::clone(&meanings);
        damage.forgets(move |lost| memory.forget_if(|hit: &KnownTag| lost.has(&hit.manifest.digest)));
        let settled = core.part(|key: &String, tag: &SettledTag| tag.weight(key));
        let (core, versions, catalog) = (Arc::clone(core), Arc::clone(versions), Arc::clone(catalog));
        Self { core, versions, catalog, meanings, settled }
    }

    /// Writes a new version of a tag, for an attempt. From then on the tag means `target`, or is
    /// deleted.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the attempt took too long.
    pub(super) async fn write(&self, name: &Name, tag: &Tag, target: Target, attempt: &Attempt<'_>) -> Result<()> {
        let ordinal = self.core.claim_next(Order::Tag(name, tag), target, attempt.by).await?;
        attempt.claimed_in_time()?;
        self.write_version(name, tag, TagVersion { ordinal, target }, attempt.provenance()).await
    }

    pub(super) async fn write_version(&self, name: &Name, tag: &Tag, version: TagVersion, fact: Vec<u8>) -> Result<()> {
        let _forgetting = self.meanings.forget_afterwards((name.clone(), tag.clone()));
        Ok(self.core.store.put(&RepositoryKey::Tag(tag.clone(), version).of(name), fact).await?)
    }

    /// Deletes a tag that is not immutable. It writes a newer version and destroys nothing.
    ///
    /// # Errors
    /// As [`Tags::delete_under`].
    pub async fn delete(&self, name: &Name, tag: &Tag, by: &Actor) -> Result<()> {
        self.delete_under(name, tag, Protection::None, by).await
    }

    /// Deletes a tag, if `protection` allows it.
    ///
    /// # Errors
    /// [`Error::TagKept`] if the protection forbids it. [`Error::ManifestUnknown`] if the tag is deleted already, or
    /// its manifest is.
    pub async fn delete_under(&self, name: &Name, tag: &Tag, protection: Protection, by: &Actor) -> Result<()> {
        self.delete_if(name, tag, &Condition::default(), protection, by).await
    }

    /// Deletes a tag as [`Tags::delete_under`] does, if a condition on its meaning holds.
    ///
    /// # Errors
    /// [`Error::Condition`] if the condition does not hold when the tag is deleted.
    pub async fn delete_if(
        &self,
        name: &Name,
        tag: &Tag,
        condition: &Condition,
        protection: Protection,
        by: &Actor,
    ) -> Result<()> {
        let target = self.newest_meaning(name, tag).await?.and_then(|version| version.target);
        let meant = match target {
            Some((digest, version)) if !self.died(name, &digest, version).await? => digest,
            _ => {
                return Err(Error::manifest_unknown(name, Reference::Tag(tag.clone())));
            }
        };
        if protection == Protection::Kept {
            return Err(Error::TagKept { name: name.clone(), tag: tag.clone(), digest: meant });
        }
        let conditional = Conditional { tag: tag.clone(), condition: condition.clone(), immutable: false };
        for _ in 0..2 {
            let attempt = self.core.begin(by).await?;
            let written = match protection {
                _ if !condition.is_none() => self.write_if(name, &conditional, None, &attempt).await,
                Protection::None | Protection::Kept => self.write(name, tag, None, &attempt).await,
                Protection::Immutable => self.write_once(name, tag, None, &attempt).await,
            };
            if !matches!(written, Err(Error::TooSlow)) {
                return written;
            }
        }
        Err(Error::TooSlow)
    }

    /// Returns whether a tag that names this version of a manifest is dead, since the manifest was deleted. A tag is
    /// not dead if its manifest is damaged, or if the store has no trace of the manifest. A client that meets such a
    /// tag may want to delete it.
    async fn died(&self, name: &Name, digest: &Digest, version: Ordinal) -> Result<bool> {
        match self.versions.standing_since(name, digest, version).await {
            Ok(Some(_)) => Ok(false),
            Ok(None) => Ok(self.versions.newest(name, digest).await?.is_some()),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns a page of the repository's tags, in byte order.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] if the repository does not exist.
    pub async fn list(&self, name: &Name, page: &Page<String>) -> Result<Listed<Tag>> {
        if !self.catalog.has(name).await? {
            return Err(Error::NameUnknown(name.clone()));
        }
        let wanted = page.n.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let mut listed = Listed { entries: Vec::new(), more: false };
        if wanted == 0 {
            return Ok(listed);
        }
        let mut after = page.last.as_deref().map(|last| after_tag_text(name, last));
        // one tag more than wanted tells whether a next page exists; the loop asks for more at once if many tags are
        // deleted
        let mut least = 0;
        while listed.entries.len() <= wanted {
            let asked = (wanted + 1 - listed.entries.len()).max(least);
            let before = listed.entries.len();
            let (page, end) = self.page(name, after.as_deref(), asked).await?;
            let there = page.into_iter().filter(|(_, version)| version.target.is_some());
            listed.entries.extend(there.map(|(tag, _)| tag));
            if listed.entries.len() - before < asked / 2 {
                least = KEYS.min(4 * asked);
            }
            match end {
                Some(end) => after = Some(end),
                None => break,
            }
        }
        listed.more = listed.entries.len() > wanted;
        listed.entries.truncate(wanted);
        Ok(listed)
    }

    /// Returns the newest versions of about `wanted` tags after the key `after`, deleted tags too. Returns also the key to
    /// continue after, if more may follow.
    async fn page(
        &self,
        name: &Name,
        after: Option<&str>,
        wanted: usize,
    ) -> Result<(Vec<(Tag, TagVersion)>, Option<String>)> {
        let found = self.core.store.first_of_each(&Prefix::Tags(name).to_string(), after, wanted).await?;
        let mut tags = Vec::with_capacity(found.keys.len());
        for key in found.keys {
            let mut newest = RepositoryKey::tag_version(name, &key);
            if newest.is_none() {
                // the first object is no version, but another may be
                let beside = self.core.store.list_all(&format!("{}/", folder(&key))).await?;
                newest = beside.iter().find_map(|entry| RepositoryKey::tag_version(name, &entry.key));
            }
            tags.extend(newest);
        }
        Ok((tags, found.next))
    }
}
