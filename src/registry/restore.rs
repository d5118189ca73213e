//! Bringing back what was deleted, while it is still there: a newer fact, as everything is.

mod with;

use std::pin::Pin;

use super::{By, Error, Registry, Result, manifests::StoredManifest, put_manifest::Asked};
use crate::{
    oci::{Digest, Manifest, Name, Reference, Tag},
    storage::layout,
};

/// Indexes within indexes that are brought back.
const DEEPEST: usize = 8;
/// Meanings of a tag that are looked at at a time.
const PAGE: usize = 100;

/// Something that was gone and stands again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// A tag, and what it means again.
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

/// Something that went with what is restored, and could not be brought back with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The manifest or tag; or the manifest of which it could not be found out what went with it.
    pub what: Reference,
    /// What is in the way.
    pub why: String,
}

impl Lost {
    fn new(what: Reference, error: Error) -> Self {
        let why = if let Error::GoneForGood { why, .. } = error { why } else { error.to_string() };
        Self { what, why }
    }
}

/// What came of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restoration {
    /// What came back: a tag before its manifest, an index after what it lists, what refers to a manifest after that.
    pub restored: Vec<Restored>,
    /// What went with it and is still gone.
    pub lost: Vec<Lost>,
}

impl Registry {
    /// Brings back a tag (with its manifest), a manifest (with its children, and with the signatures and the like that a
    /// scrub let go with it) or a blob that was deleted from a repository. Nothing came back where nothing was gone.
    ///
    /// # Errors
    /// [`Error::GoneForGood`], which names what is missing; and as a push. What refers to a manifest makes no error.
    pub async fn restore(&self, name: &Name, reference: &Reference, by: &By) -> Result<Restoration> {
        let mut came = Restoration::default();
        let manifest = match reference {
            Reference::Tag(tag) => self.restore_tag(name, tag, by, &mut came.restored).await?,
            Reference::Digest(digest) if self.newest_version(name, digest).await?.is_some() => {
                if self.standing_afresh(name, digest).await?.is_none() {
                    self.bring_back(name, *digest, None, DEEPEST, by, &mut came.restored).await?;
                }
                *digest
            }
            Reference::Digest(digest) => {
                self.restore_blob(name, digest, by, &mut came.restored).await?;
                return Ok(came);
            }
        };
        // also where it stands already: a restore that was broken off can be made again
        self.bring_back_with(name, manifest, by, &mut came).await;
        Ok(came)
    }

    /// Brings back a tag, unless it is there; what it means.
    async fn restore_tag(&self, name: &Name, tag: &Tag, by: &By, restored: &mut Vec<Restored>) -> Result<Digest> {
        if let Some(digest) = self.newest_standing(name, tag).await? {
            // one that is damaged is there, and is not what was asked for
            self.standing_afresh(name, &digest).await?;
            return Ok(digest);
        }
        let never = || gone(name, format!("tag {tag}"), "nothing that it ever meant is known");
        let digest = self.last_meaning(name, tag).await?.ok_or_else(never)?;
        self.bring_back_tag(name, tag, digest, by, restored).await?;
        Ok(digest)
    }

    /// What a tag meant last.
    async fn last_meaning(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let mut last = None;
        loop {
            let page = self.tag_history(name, tag, PAGE, last).await?;
            if let Some((digest, _)) = page.iter().find_map(|entry| entry.target) {
                return Ok(Some(digest));
            }
            match page.last() {
                Some(oldest) => last = Some(oldest.ordinal),
                None => return Ok(None),
            }
        }
    }

    async fn bring_back_tag(
        &self,
        name: &Name,
        tag: &Tag,
        digest: Digest,
        by: &By,
        restored: &mut Vec<Restored>,
    ) -> Result<()> {
        let before = restored.len();
        self.bring_back(name, digest, Some(tag.clone()), DEEPEST, by, restored).await?;
        restored.insert(before, Restored::Tag(tag.clone(), digest));
        Ok(())
    }

    async fn restore_blob(&self, name: &Name, digest: &Digest, by: &By, restored: &mut Vec<Restored>) -> Result<()> {
        if self.has(name, digest).await? {
            return Ok(());
        }
        let never = || gone(name, digest.to_string(), "there is no trace of it in this repository");
        if self.store.list(&layout::rights(digest, name), None, 1).await?.is_empty() {
            return Err(never());
        }
        // one that took long is made again: its grant may be gone by now
        for _ in 0..2 {
            let began = self.begin().await?;
            self.grant(name, digest, by).await?;
            self.rights.forget(&(name.clone(), *digest));
            if self.rely_on(digest, by).await?.is_none() {
                return Err(gone(name, format!("blob {digest}"), "its bytes are not there any more; push it again"));
            }
            if !self.was_slow_by_reads(began).await? {
                restored.push(Restored::Blob(*digest));
                return Ok(());
            }
        }
        Err(Error::TooSlow)
    }

    /// Puts a manifest again whose bytes are still there, its children before it, and lets `tag` mean it.
    fn bring_back<'a>(
        &'a self,
        name: &'a Name,
        digest: Digest,
        tag: Option<Tag>,
        deepest: usize,
        by: &'a By,
        restored: &'a mut Vec<Restored>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let what = || format!("manifest {digest}");
            let standing = self.standing_afresh(name, &digest).await?;
            let life = self.last_life(name, &digest).await?;
            let stored = match standing.as_deref().or(life.whole.as_ref()) {
                Some(stored) => stored.clone(),
                None => self
                    .last_put(name, &digest)
                    .await?
                    .ok_or_else(|| gone(name, what(), "its bytes are not there any more; push it again"))?,
            };
            let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)?;
            for child in &manifest.children {
                if self.standing_afresh(name, &child.digest).await?.is_some() {
                    continue;
                }
                if deepest == 0 {
                    return Err(gone(
                        name,
                        what(),
                        "it is an index within too many indexes; restore those in it first",
                    ));
                }
                // what has no version at all is missing below, where that is not allowed
                if self.newest_version(name, &child.digest).await?.is_some() {
                    self.bring_back(name, child.digest, None, deepest - 1, by, restored).await?;
                }
            }
            // an immutable tag or not: what it has come to mean meanwhile stays
            // where no record of what it was can be read, it gets the links of a push
            let before = life.absent();
            let asked = Asked { once: tag.into_iter().collect(), free: Vec::new(), before };
            let put = self.put_surely(name, &manifest, digest, stored.bytes.clone(), &asked, by).await;
            put.map_err(|error| match error {
                Error::Missing { missing, .. } => {
                    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
                    let why = format!("it needs what is not there any more; push it again: {}", missing.join(", "));
                    gone(name, what(), &why)
                }
                other => other,
            })?;
            if standing.is_none() {
                restored.push(Restored::Manifest(digest));
            }
            Ok(())
        })
    }

    /// The newest version of a manifest that has its bytes, whether or not it is gone since.
    async fn last_put(&self, name: &Name, digest: &Digest) -> Result<Option<StoredManifest>> {
        for entry in self.store.list_all(&layout::manifest(name, digest)).await? {
            if !layout::version(&entry.key).is_some_and(|version| version.there) {
                continue;
            }
            match self.version(digest, &entry.key).await {
                Ok(Some(stored)) => return Ok(Some(stored.as_ref().clone())),
                Ok(None) => {}
                // an older one has the same bytes
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn gone(name: &Name, what: String, why: &str) -> Error {
    Error::GoneForGood { name: name.clone(), what, why: why.to_owned() }
}
