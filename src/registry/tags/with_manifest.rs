//! Tags that go with their manifest.

use std::collections::HashMap;

use super::Tags;
use crate::{
    oci::{Digest, Name, Tag},
    records::{
        Actor,
        key::{Ordinal, TagVersion},
    },
    registry::{Error, MAX_PAGE, Result},
};

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

/// Returns an error if `look` refuses to delete a tag with the manifest `digest` that it means.
fn check_tag_delete(name: &Name, tag: Tag, digest: &Digest, look: &LookAtTag<'_>) -> Result<()> {
    match look(&tag) {
        TagDelete::Allowed => Ok(()),
        TagDelete::Kept => Err(Error::TagKept { name: name.clone(), tag, digest: *digest }),
        TagDelete::Denied => Err(Error::TagDenied { name: name.clone(), tag, digest: *digest }),
    }
}

/// Manifests that are being deleted, each with the newest version that a tag may mean to be deleted with it.
pub(in crate::registry) type Ending = HashMap<Digest, Ordinal>;

/// Returns the manifest in `ending` that a tag's version means.
fn ends(version: TagVersion, ending: &Ending) -> Option<Digest> {
    let (meant, at) = version.target?;
    ending.get(&meant).filter(|until| at <= **until).map(|_| meant)
}

impl Tags {
    /// Asks `look`, if there is one, about each tag that means a manifest of `ending`.
    ///
    /// # Errors
    /// [`Error::TagKept`] or [`Error::TagDenied`] for the first tag that must stay.
    pub(in crate::registry) async fn look_at(
        &self,
        name: &Name,
        ending: &Ending,
        look: Option<&LookAtTag<'_>>,
    ) -> Result<()> {
        let Some(look) = look else { return Ok(()) };
        for (tag, _, digest) in self.that_end(name, ending).await? {
            check_tag_delete(name, tag, &digest, look)?;
        }
        Ok(())
    }

    /// Deletes all tags that mean a manifest of `ending`, so lists of tags need no look at manifests. Asks `look`, if
    /// there is one, about each tag first: a tag may have been pushed since the look before.
    ///
    /// # Errors
    /// [`Error::TagKept`] or [`Error::TagDenied`] for the first tag that must stay. Tags before it are deleted by then.
    pub(in crate::registry) async fn delete_with_manifests(
        &self,
        name: &Name,
        ending: &Ending,
        look: Option<&LookAtTag<'_>>,
        by: &Actor,
    ) -> Result<()> {
        for (tag, version, digest) in self.that_end(name, ending).await? {
            if let Some(look) = look {
                check_tag_delete(name, tag.clone(), &digest, look)?;
            }
            self.delete_with_manifest(name, &tag, version, |version| ends(version, ending).is_some(), by).await?;
        }
        Ok(())
    }

    /// Returns the tags that mean a manifest of `ending`, with their versions and that manifest.
    async fn that_end(&self, name: &Name, ending: &Ending) -> Result<Vec<(Tag, TagVersion, Digest)>> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (page, end) = self.page(name, after.as_deref(), MAX_PAGE).await?;
            found.extend(page.into_iter().filter_map(|(tag, version)| Some((tag, version, ends(version, ending)?))));
            match end {
                Some(end) => after = Some(end),
                None => return Ok(found),
            }
        }
    }
}
