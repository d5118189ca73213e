//! Looks for a blob copy to rely on, after a reference is written. Copies marked segments if there is no other.

use std::sync::Arc;

use futures::StreamExt as _;

use super::{BlobCopy, Bytes, Copies, TURNS};
use crate::{
    action::UploadId,
    oci::{Digest, Hasher},
    records::{
        Actor, Segment,
        key::{DataKey, Prefix, Suffix},
    },
    registry::{Error, Result, references::Referenced},
    storage::{
        Entry, FaultKind, StorageError,
        mutation::{Mutation, mutated},
    },
};

/// A blob copy that can be relied on: a look that came after the reference found all segments, without a mark.
#[derive(Clone, Debug)]
pub(in crate::registry) struct VerifiedCopy(Arc<BlobCopy>);

impl VerifiedCopy {
    /// Returns the length of the blob in bytes.
    pub(in crate::registry) fn size(&self) -> u64 {
        self.0.size
    }
}

/// The result of a look at a digest's blob copies.
#[derive(Debug, Default)]
struct Look {
    sound: Option<VerifiedCopy>,
    /// Copies that are complete but marked: they can be read, not relied on.
    marked: Vec<Arc<BlobCopy>>,
}

impl Copies {
    /// Returns a blob copy that can be relied on, if there is one.
    ///
    /// # Errors
    /// As [`Copies::ensure_sound_copy`].
    pub(in crate::registry) async fn verify(&self, reference: Referenced<'_>) -> Result<Option<VerifiedCopy>> {
        Ok(self.look(reference).await?.sound)
    }

    /// Looks for a blob copy of a digest that can be relied on: records, then marks, then segments.
    ///
    /// Scrub frees all copies but one, and that one may have come after the listing. So a look that finds no copy lists
    /// again, until two listings agree.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    async fn look(&self, reference: Referenced<'_>) -> Result<Look> {
        let digest = reference.digest();
        let ticket = self.damage.ticket();
        let too_early = if mutated(Mutation::MarksBeforeFacts) {
            Some(self.core.store.list_all(&Prefix::AllData.to_string()).await?)
        } else {
            None
        };
        // damaged records count as absent, so that the client pushes the blob again
        let (mut copies, _) = self.list(digest).await?;
        for _ in 0..TURNS {
            let look = self.look_among(digest, &copies, too_early.as_deref(), ticket).await?;
            if look.sound.is_some() || !look.marked.is_empty() {
                return Ok(look);
            }
            let Some((others, _)) = self.relist_if_changed(digest, &copies).await? else {
                self.forget_copies(digest, &copies);
                self.damage.found(digest).await;
                return Ok(look);
            };
            copies = others;
        }
        Err(Error::TooSlow)
    }

    async fn look_among(
        &self,
        digest: &Digest,
        copies: &[Arc<BlobCopy>],
        too_early: Option<&[Entry]>,
        ticket: u64,
    ) -> Result<Look> {
        let mut look = Look::default();
        for copy in copies {
            if self.corrupt.contains_key(&copy.id) {
                continue;
            }
            let is_its_mark = |entry: &Entry| Prefix::Data(&copy.id).has(&entry.key) && DataKey::is_mark(&entry.key);
            let found = match (self.inspect(copy).await?, too_early) {
                (Bytes::Marked, Some(seen)) if !seen.iter().any(is_its_mark) => Bytes::Sound,
                (found, _) => found,
            };
            match found {
                Bytes::Sound => {
                    if self.damage.ticket() == ticket {
                        self.found.insert(*digest, Arc::clone(copy));
                    }
                    look.sound = Some(VerifiedCopy(Arc::clone(copy)));
                    return Ok(look);
                }
                Bytes::Marked => look.marked.push(Arc::clone(copy)),
                Bytes::Missing => {}
            }
        }
        Ok(look)
    }

    /// Returns a blob copy to rely on, or `None` if there is none. If all copies are marked, copies the segments of one
    /// that can still be read.
    ///
    /// # Errors
    /// [`Error::TooSlow`] if the copies changed [`TURNS`] times.
    pub(in crate::registry) async fn ensure_sound_copy(
        &self,
        reference: Referenced<'_>,
        by: &Actor,
    ) -> Result<Option<VerifiedCopy>> {
        let digest = reference.digest();
        for _ in 0..TURNS {
            let look = self.look(reference).await?;
            if look.sound.is_some() {
                return Ok(look.sound);
            }
            for marked in &look.marked {
                if let Some(copy) = self.copy(digest, marked).await? {
                    self.put(digest, &copy, by).await?;
                    return Ok(Some(VerifiedCopy(Arc::new(copy))));
                }
            }
            // all marked copies went while they were copied; a copy of them, or a pushed one, may exist now
            if look.marked.is_empty() || self.relist_if_changed(digest, &look.marked).await?.is_none() {
                return Ok(None);
            }
        }
        Err(Error::TooSlow)
    }

    /// Makes sure that a needed digest has a blob copy to rely on. If all copies carry marks, of scrubs that did not
    /// end, it copies the segments of one. Returns whether such a copy exists now.
    ///
    /// # Errors
    /// Those of the store, and [`Error::TooSlow`].
    pub async fn mend(&self, digest: &Digest, by: &Actor) -> Result<bool> {
        let attempt = self.core.begin(by).await?;
        let found = self.ensure_sound_copy(Referenced::before(digest), by).await?.is_some();
        // scrub may have freed the new segments before their record was written: then a later run copies again
        Ok(found && !attempt.was_slow_by_reads().await?)
    }

    /// Copies the segments of a blob copy into one segment under a new id. Returns `None` if they went away meanwhile,
    /// or are not `digest`.
    ///
    /// The new copy replaces its source. So bytes that were read wrong make no copy.
    async fn copy(&self, digest: &Digest, copy: &BlobCopy) -> Result<Option<BlobCopy>> {
        let id = UploadId::random();
        let segment = Segment { offset: 0, size: copy.size, attempt: Suffix::random() };
        if copy.size == 0 {
            return Ok(Some(BlobCopy { id, size: 0, segments: Vec::new() }));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut writer = self.core.store.writer(segment.key(&id), Some(copy.size));
        for from in &copy.segments {
            // a missing segment is an answer; a store that cannot answer is an error
            let gone =
                |error: StorageError| if error.kind == FaultKind::Damaged { Ok(None) } else { Err(error.into()) };
            let mut stream = match self.core.store.read(&from.key(&copy.id), 0..from.size).await {
                Ok(stream) => stream,
                Err(error) => return gone(error),
            };
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => {
                        hasher.update(&chunk);
                        writer.write(chunk).await?;
                    }
                    Err(error) => return gone(error),
                }
            }
        }
        writer.close().await?;
        if hasher.finish() != *digest {
            tracing::warn!(%digest, key = Prefix::Data(&copy.id).to_string(), "bytes were not copied: they came as another digest");
            self.core.store.delete(&segment.key(&id)).await?;
            return Ok(None);
        }
        Ok(Some(BlobCopy { id, size: copy.size, segments: vec![segment] }))
    }
}
