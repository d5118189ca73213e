//! Restores deleted tags, manifests and blobs whose data is still in the store. It only writes newer records.

mod with;

use std::pin::Pin;

use super::{Error, Registry, Result, manifests::PutOptions, versions::StoredManifest};
use crate::{
    oci::{Digest, Manifest, Name, Reference, Tag},
    records::{
        Actor,
        key::{Prefix, Version},
    },
};

/// The largest depth of nested indexes that a restore brings back.
const DEEPEST: usize = 8;
/// The number of a tag's meanings that are read at a time.
const PAGE: usize = 100;

/// Something that was deleted and exists again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// A tag, and the manifest that it means again.
    Tag(Tag, Digest),
    /// A manifest.
    Manifest(Digest),
    /// A blob.
    Blob(Digest),
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag, digest) => write!(f, "tag {tag}, which means {digest}"),
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
            Self::Blob(digest) => write!(f, "blob {digest}"),
        }
    }
}

/// Something that was removed together with the restored thing, and could not be restored with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The manifest or tag. If the search for what was removed with a manifest failed, that manifest.
    pub what: Reference,
    /// The reason, in words.
    pub why: String,
}

impl Lost {
    fn new(what: Reference, error: Error) -> Self {
        let why = if let Error::GoneForGood { why, .. } = error { why } else { error.to_string() };
        Self { what, why }
    }
}

/// The outcome of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restoration {
    /// The restored things: a tag before its manifest, an index after its children, a referrer after its subject.
    pub restored: Vec<Restored>,
    /// The things that were removed together with it and are still deleted.
    pub lost: Vec<Lost>,
}

impl Registry {
    /// Restores a deleted tag, manifest or blob of a repository. A tag comes with its manifest. A manifest comes with
    /// its children, and with the signatures and other referrers that scrub removed with it.
    ///
    /// The outcome is empty if nothing was deleted. A referrer that cannot be restored is no error.
    ///
    /// # Errors
    /// [`Error::GoneForGood`], which names the missing content, and those of a push.
    pub async fn restore(&self, name: &Name, reference: &Reference, by: &Actor) -> Result<Restoration> {
        let mut came = Restoration::default();
        let manifest = match reference {
            Reference::Tag(tag) => self.restore_tag(name, tag, by, &mut came.restored).await?,
            Reference::Digest(digest) if self.versions.newest(name, digest).await?.is_some() => {
                if self.versions.standing_afresh(name, digest).await?.is_none() {
                    self.restore_manifest(name, *digest, None, DEEPEST, by, &mut came.restored).await?;
                }
                *digest
            }
            Reference::Digest(digest) => {
                if self.blobs.restore(name, digest, by).await? {
                    came.restored.push(Restored::Blob(*digest));
                }
                return Ok(came);
            }
        };
        // also if the manifest exists already: so a restore that broke off can be repeated
        self.restore_with(name, manifest, by, &mut came).await;
        Ok(came)
    }

    /// Restores a tag, unless it exists. Returns the digest that the tag means.
    async fn restore_tag(&self, name: &Name, tag: &Tag, by: &Actor, restored: &mut Vec<Restored>) -> Result<Digest> {
        if let Some(digest) = self.tags.meant_digest(name, tag).await? {
            // a damaged manifest exists: its error is the answer
            self.versions.standing_afresh(name, &digest).await?;
            return Ok(digest);
        }
        let never = || Error::gone(name, format!("tag {tag}"), "nothing that it ever meant is known");
        let digest = self.last_meaning(name, tag).await?.ok_or_else(never)?;
        self.restore_tag_to(name, tag, digest, by, restored).await?;
        Ok(digest)
    }

    /// Returns the newest digest in a tag's history.
    async fn last_meaning(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let mut last = None;
        loop {
            let page = self.tags.history(name, tag, PAGE, last).await?;
            if let Some((digest, _)) = page.iter().find_map(|entry| entry.target) {
                return Ok(Some(digest));
            }
            match page.last() {
                Some(oldest) => last = Some(oldest.ordinal),
                None => return Ok(None),
            }
        }
    }

    async fn restore_tag_to(
        &self,
        name: &Name,
        tag: &Tag,
        digest: Digest,
        by: &Actor,
        restored: &mut Vec<Restored>,
    ) -> Result<()> {
        let before = restored.len();
        self.restore_manifest(name, digest, Some(tag.clone()), DEEPEST, by, restored).await?;
        restored.insert(before, Restored::Tag(tag.clone(), digest));
        Ok(())
    }

    /// Pushes a manifest again whose bytes are still there, its children first. Then `tag` means it. Indexes may nest
    /// `deepest` levels deep.
    fn restore_manifest<'a>(
        &'a self,
        name: &'a Name,
        digest: Digest,
        tag: Option<Tag>,
        deepest: usize,
        by: &'a Actor,
        restored: &'a mut Vec<Restored>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let what = || format!("manifest {digest}");
            let standing = self.versions.standing_afresh(name, &digest).await?;
            let life = self.versions.last_life(name, &digest).await?;
            let stored = match standing.as_deref().or(life.whole.as_ref()) {
                Some(stored) => stored.clone(),
                None => self
                    .last_put(name, &digest)
                    .await?
                    .ok_or_else(|| Error::gone(name, what(), "its bytes are not there any more; push it again"))?,
            };
            let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)?;
            for child in &manifest.children {
                if self.versions.standing_afresh(name, &child.digest).await?.is_some() {
                    continue;
                }
                if deepest == 0 {
                    return Err(Error::gone(
                        name,
                        what(),
                        "it is an index within too many indexes; restore those in it first",
                    ));
                }
                // a child without any version is found missing below, unless that is allowed
                if self.versions.newest(name, &child.digest).await?.is_some() {
                    match self.restore_manifest(name, child.digest, None, deepest - 1, by, restored).await {
                        // its upstream may have it
                        Err(Error::GoneForGood { .. }) if stored.cached => {}
                        result => result?,
                    }
                }
            }
            // every tag is written as an immutable one: a meaning that it has got meanwhile stays. If no record of the
            // old links can be read, the manifest gets the links of a push
            let before = life.absent();
            let (once, cached) = (tag.into_iter().collect(), stored.cached);
            let options = PutOptions { once, before, cached, ..PutOptions::default() };
            let put = self.manifests.put_with_retry(name, &manifest, digest, stored.bytes.clone(), &options, by).await;
            put.map_err(|error| match error {
                Error::Missing { missing, .. } => {
                    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
                    let why = format!("it needs what is not there any more; push it again: {}", missing.join(", "));
                    Error::gone(name, what(), &why)
                }
                other => other,
            })?;
            if standing.is_none() {
                restored.push(Restored::Manifest(digest));
            }
            Ok(())
        })
    }

    /// Returns the newest version of a manifest that has its bytes, be the manifest deleted or not.
    async fn last_put(&self, name: &Name, digest: &Digest) -> Result<Option<StoredManifest>> {
        for entry in self.core.store.list_all(&Prefix::Manifest(name, digest).to_string()).await? {
            if !Version::at_end_of(&entry.key).is_some_and(|version| version.there) {
                continue;
            }
            match self.versions.read(digest, &entry.key).await {
                Ok(Some(stored)) => return Ok(Some(stored.as_ref().clone())),
                Ok(None) => {}
                // an older version has the same bytes
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
