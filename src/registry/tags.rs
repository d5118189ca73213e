//! Tags: each new meaning of a tag is a new version, at a place that its writer claimed.

use std::collections::HashMap;

use super::{
    Error, Listed, MAX_PAGE, Registry, Result,
    attempt::Attempt,
    claims::{Order, Target},
    conditional::{Condition, Conditional},
    manifests::parse_tag,
};
use crate::{
    action::Page,
    oci::{Digest, Name, Reference, Tag},
    records::{
        Actor,
        key::{Ordinal, Prefix, RepositoryKey, TagVersion, after_tag_text},
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

/// The fate of a tag when the manifest that it means is deleted by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagDelete {
    /// The tag is deleted.
    Allowed,
    /// The tag stays, and so the manifest: the tag is immutable.
    Kept,
    /// The tag stays, and so the manifest: the caller may not delete this tag.
    Denied,
}

/// A function that decides about a tag that would be deleted with its manifest.
pub type LookAtTag<'a> = dyn Fn(&Tag) -> TagDelete + Sync + 'a;

/// Returns whether a tag's version means a version of `digest` up to ordinal `until`.
fn means(version: TagVersion, digest: &Digest, until: Ordinal) -> bool {
    version.target.is_some_and(|(meant, ordinal)| meant == *digest && ordinal <= until)
}

/// Returns an error if `look` refuses to delete a tag with the manifest `digest` that it means.
fn check_tag_delete(name: &Name, tag: Tag, digest: &Digest, look: &LookAtTag<'_>) -> Result<()> {
    match look(&tag) {
        TagDelete::Allowed => Ok(()),
        TagDelete::Kept => Err(Error::TagKept { name: name.clone(), tag, digest: *digest }),
        TagDelete::Denied => Err(Error::TagDenied { name: name.clone(), tag, digest: *digest }),
    }
}

impl Registry {
    /// Writes a new version of a tag, for an attempt. From then on the tag means `target`, or is
    /// deleted.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the attempt took too long.
    pub(super) async fn write_tag(&self, name: &Name, tag: &Tag, target: Target, attempt: &Attempt<'_>) -> Result<()> {
        let ordinal = self.claim_next(Order::Tag(name, tag), target, attempt.by).await?;
        self.claimed_in_time(attempt)?;
        self.write_tag_version(name, tag, TagVersion { ordinal, target }, self.provenance(attempt.by)).await
    }

    pub(super) async fn write_tag_version(
        &self,
        name: &Name,
        tag: &Tag,
        version: TagVersion,
        fact: Vec<u8>,
    ) -> Result<()> {
        let _forgetting = self.tags.forget_afterwards((name.clone(), tag.clone()));
        Ok(self.store.put(&RepositoryKey::Tag(tag.clone(), version).of(name), fact).await?)
    }

    pub(super) async fn newest_meaning(&self, name: &Name, tag: &Tag) -> Result<Option<TagVersion>> {
        let newest = self.store.list(&Prefix::Tag(name, tag).to_string(), None, 1).await?;
        newest.first().map(|entry| parse_tag(name, entry)).transpose()
    }

    /// Deletes a tag that is not immutable. It writes a newer version and destroys nothing.
    ///
    /// # Errors
    /// As [`Registry::delete_tag_under`].
    pub async fn delete_tag(&self, name: &Name, tag: &Tag, by: &Actor) -> Result<()> {
        self.delete_tag_under(name, tag, Protection::None, by).await
    }

    /// Deletes a tag, if `protection` allows it.
    ///
    /// # Errors
    /// [`Error::TagKept`] if the protection forbids it. [`Error::ManifestUnknown`] if the tag is deleted already, or
    /// its manifest is.
    pub async fn delete_tag_under(&self, name: &Name, tag: &Tag, protection: Protection, by: &Actor) -> Result<()> {
        self.delete_tag_if(name, tag, &Condition::default(), protection, by).await
    }

    /// Deletes a tag as [`Registry::delete_tag_under`] does, if a condition on its meaning holds.
    ///
    /// # Errors
    /// [`Error::Condition`] if the condition does not hold when the tag is deleted.
    pub async fn delete_tag_if(
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
                let reference = Reference::Tag(tag.clone());
                return Err(Error::ManifestUnknown { name: name.clone(), reference });
            }
        };
        if protection == Protection::Kept {
            return Err(Error::TagKept { name: name.clone(), tag: tag.clone(), digest: meant });
        }
        let conditional = Conditional { tag: tag.clone(), condition: condition.clone(), immutable: false };
        for _ in 0..2 {
            let attempt = self.begin(by).await?;
            let written = match protection {
                _ if !condition.is_none() => self.write_tag_if(name, &conditional, None, &attempt).await,
                Protection::None | Protection::Kept => self.write_tag(name, tag, None, &attempt).await,
                Protection::Immutable => self.write_tag_once(name, tag, None, &attempt).await,
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
        match self.standing_since(name, digest, version).await {
            Ok(Some(_)) => Ok(false),
            Ok(None) => Ok(self.newest_version(name, digest).await?.is_some()),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks `look`, if there is one, about each tag that means a version of `digest` up to `until`.
    ///
    /// # Errors
    /// [`Error::TagKept`] or [`Error::TagDenied`] for the first tag that must stay.
    pub(super) async fn look_at_tags(
        &self,
        name: &Name,
        digest: &Digest,
        until: Ordinal,
        look: Option<&LookAtTag<'_>>,
    ) -> Result<()> {
        let Some(look) = look else { return Ok(()) };
        let mut after = None;
        loop {
            let (page, end) = self.page_of_tags(name, after.as_deref(), MAX_PAGE).await?;
            for (tag, version) in page {
                if means(version, digest, until) {
                    check_tag_delete(name, tag, digest, look)?;
                }
            }
            match end {
                Some(end) => after = Some(end),
                None => return Ok(()),
            }
        }
    }

    /// Deletes all tags that mean a version of these manifests up to the given ordinal, so lists of tags need no look
    /// at manifests. Asks `look`, if there is one, about each tag first: a tag may have been pushed since the look
    /// before.
    ///
    /// # Errors
    /// [`Error::TagKept`] or [`Error::TagDenied`] for the first tag that must stay. Tags before it are deleted by then.
    pub(super) async fn delete_tags_with_manifests(
        &self,
        name: &Name,
        until: &HashMap<Digest, Ordinal>,
        look: Option<&LookAtTag<'_>>,
        by: &Actor,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let (page, end) = self.page_of_tags(name, after.as_deref(), MAX_PAGE).await?;
            let ends = |version: TagVersion| {
                version.target.is_some_and(|(meant, at)| until.get(&meant).is_some_and(|until| at <= *until))
            };
            for (tag, version) in page {
                if let Some((digest, _)) = version.target.filter(|_| ends(version)) {
                    if let Some(look) = look {
                        check_tag_delete(name, tag.clone(), &digest, look)?;
                    }
                    self.delete_tag_with_manifest(name, &tag, version, ends, by).await?;
                }
            }
            match end {
                Some(end) => after = Some(end),
                None => return Ok(()),
            }
        }
    }

    /// Returns a page of the repository's tags, in byte order.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] if the repository does not exist.
    pub async fn tags(&self, name: &Name, page: &Page<String>) -> Result<Listed<Tag>> {
        if !self.exists(name).await? {
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
            let (page, end) = self.page_of_tags(name, after.as_deref(), asked).await?;
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

    /// Returns the newest versions of about `wanted` tags after the key `after`, deleted tags too; of at least one, if
    /// any follows. Returns also the key to continue after, if more may follow.
    ///
    /// The older versions of a tag cost no more than the rest of the listing that they are in.
    async fn page_of_tags(
        &self,
        name: &Name,
        after: Option<&str>,
        wanted: usize,
    ) -> Result<(Vec<(Tag, TagVersion)>, Option<String>)> {
        // a few more keys than tags, for older versions
        let limit = (wanted + wanted / 16 + 1).min(MAX_PAGE);
        let listed = self.store.list(&Prefix::Tags(name).to_string(), after, limit).await?;
        let mut tags: Vec<(Tag, TagVersion)> = Vec::new();
        let full = listed.len() == limit;
        for entry in listed {
            if let Some((tag, version)) = RepositoryKey::tag_version(name, &entry.key)
                && tags.last().is_none_or(|(last, _)| *last != tag)
            {
                tags.push((tag, version));
            }
        }
        let end = tags.last().filter(|_| full).map(|(tag, _)| Prefix::Tag(name, tag).end());
        Ok((tags, end))
    }
}
