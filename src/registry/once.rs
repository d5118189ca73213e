//! Tags that are immutable: of all that would give one its next meaning, one may.
//!
//! Each version of such a tag is said beforehand by a claim, which is created exclusively and names the version it comes
//! after: the claim is the commit. Who finds one writes the version that it says, whoever made it, and looks again; so
//! nobody who dies keeps a tag from anybody, and of two pushes that race one finds the other's meaning and is refused.
//!
//! A scrub, or the delete of a manifest, says a tag gone without a claim. Above such a version nothing is claimed before the
//! claim beside it is there, be it one that says nothing: whoever saw the version before could else still write beside it.

use super::{
    By, Error, Registry, Result,
    facts::{ClaimFact, Stamp},
    json,
};
use crate::{
    oci::{Digest, Name, Tag},
    storage::{
        StorageError, layout,
        layout::{Ordinal, TagVersion},
        mutation::mutated,
    },
};

/// How often a tag is looked at again: each time, somebody else gave it a version.
const TRIES: usize = 200;

/// What came of taking a place.
enum Taken {
    /// It was free.
    Ours,
    /// Somebody else has it.
    By(ClaimFact),
    /// Somebody had it, and it was freed since.
    Freed,
}

impl Registry {
    /// An error where an immutable tag means another manifest than `digest`.
    pub(super) async fn refuse_another(&self, name: &Name, tag: &Tag, digest: &Digest) -> Result<()> {
        match self.newest_standing(name, tag).await?.filter(|meant| meant != digest) {
            Some(digest) => Err(Error::TagImmutable { name: name.clone(), tag: tag.clone(), digest }),
            None => Ok(()),
        }
    }

    /// What a tag means, never from memory.
    pub(super) async fn newest_standing(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        let newest = self.newest_meaning(name, tag).await?;
        self.meant(name, newest).await
    }

    /// The manifest that a tag's newest version means, if that manifest stands since.
    async fn meant(&self, name: &Name, newest: Option<TagVersion>) -> Result<Option<Digest>> {
        let Some((digest, version)) = newest.and_then(|newest| newest.target) else { return Ok(None) };
        match self.standing_since(name, &digest, version).await {
            Ok(standing) => Ok(standing.map(|_| digest)),
            // it means that all the same: the same image can be pushed again, and no other
            Err(error) if error.is_damage() => Ok(Some(digest)),
            Err(error) => Err(error),
        }
    }

    /// Lets an immutable tag mean a version of a manifest from here on, or nothing.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] where it means another manifest.
    pub(super) async fn write_tag_once(
        &self,
        name: &Name,
        tag: &Tag,
        target: Option<(Digest, Ordinal)>,
        by: &By,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let began = self.clock.now();
            let newest = self.newest_meaning(name, tag).await?;
            match target {
                Some((wanted, _)) => {
                    if let Some(digest) = self.meant(name, newest).await?.filter(|digest| *digest != wanted) {
                        return Err(Error::TagImmutable { name: name.clone(), tag: tag.clone(), digest });
                    }
                }
                // somebody else took it away
                None if newest.is_none_or(|newest| newest.target.is_none()) => return Ok(()),
                None => {}
            }
            let after = newest.map(|newest| newest.ordinal);
            if newest.is_some_and(|newest| newest.target.is_none())
                && !self.is_closed_before(name, tag, after, by).await?
            {
                continue;
            }
            let version = TagVersion { ordinal: Ordinal::after(after, self.clock.now_ms()), target };
            match self.take(name, tag, after, self.claim(Some(version), by)).await? {
                // what took long may have taken a place that was freed since: then it is written as somebody else's would be
                Taken::Ours if self.was_slow(began) => {}
                Taken::Ours => return self.write_tag_version(name, tag, version, self.fact(by)).await,
                Taken::By(claim) => self.help(name, tag, &claim).await?,
                Taken::Freed => {}
            }
        }
        Err(Error::TooSlow)
    }

    /// Makes sure that nobody can claim any more what stands beside a version that says the tag gone; whether nobody had.
    async fn is_closed_before(&self, name: &Name, tag: &Tag, gone: Option<Ordinal>, by: &By) -> Result<bool> {
        let Some(before) = gone.and_then(|gone| gone.0.checked_sub(1)) else { return Ok(true) };
        match self.take(name, tag, Some(Ordinal(before)), self.claim(None, by)).await? {
            Taken::Ours => Ok(true),
            Taken::By(claim) if claim.said().is_none_or(|said| said.target.is_none()) => Ok(true),
            Taken::By(claim) => {
                self.help(name, tag, &claim).await?;
                Ok(false)
            }
            Taken::Freed => Ok(false),
        }
    }

    /// Writes the version that was claimed next after a tag's newest one, where whoever claimed it has not: for scrub, which
    /// may free a claim only once it is old and the tag has a newer version than the one it comes after. Whether there was one.
    pub async fn finish_claim(&self, name: &Name, tag: &Tag) -> Result<bool> {
        let newest = self.newest_meaning(name, tag).await?.map(|newest| newest.ordinal);
        let key = layout::claim(name, tag, newest);
        let Some(content) = self.store.get(&key).await? else { return Ok(false) };
        let claim = read(&key, &content)?;
        self.help(name, tag, &claim).await?;
        Ok(claim.said().is_some())
    }

    fn claim(&self, says: Option<TagVersion>, by: &By) -> ClaimFact {
        let target = says.and_then(|says| says.target);
        ClaimFact {
            digest: target.map(|(digest, _)| digest),
            version: target.map(|(_, version)| version.0),
            ordinal: says.map(|says| says.ordinal.0),
            attempt: layout::attempt(),
            at: self.clock.time_ms(),
            by: by.clone(),
        }
    }

    async fn take(&self, name: &Name, tag: &Tag, after: Option<Ordinal>, claim: ClaimFact) -> Result<Taken> {
        let key = layout::claim(name, tag, after);
        if mutated("claims not looked at") || self.store.create_new(&key, json(&claim)).await? {
            return Ok(Taken::Ours);
        }
        let Some(content) = self.store.get(&key).await? else { return Ok(Taken::Freed) };
        Ok(Taken::By(read(&key, &content)?))
    }

    /// Writes the version that somebody's claim says, as they would have.
    async fn help(&self, name: &Name, tag: &Tag, claim: &ClaimFact) -> Result<()> {
        let Some(version) = claim.said() else { return Ok(()) };
        let fact = json(&Stamp { at: claim.at, by: claim.by.clone() });
        self.write_tag_version(name, tag, version, fact).await
    }
}

fn read(key: &str, content: &[u8]) -> Result<ClaimFact> {
    Ok(serde_json::from_slice(content).map_err(|error| StorageError::damaged("get", key, error.to_string()))?)
}
