//! Frees bytes: writes a mark, looks again, frees exactly the keys that it saw, and the mark last.

use super::{
    super::{Reason, Removal, Result, What},
    Context, State,
    copies::{Copy, look},
    facts::Suspect,
};
use crate::{
    action::UploadId,
    oci::Digest,
    storage::{
        Entry, layout,
        mutation::{Mutation, mutated},
    },
};

impl Context<'_> {
    /// Frees all copies of an unneeded digest that are old enough.
    pub(super) async fn free_unneeded(&self, suspect: &Suspect) -> Result<()> {
        let places = self.run.store.list_all(&layout::places(&suspect.digest)).await?;
        let mut what = What::Blob;
        for (entry, id) in places.into_iter().filter_map(|entry| layout::place_id(&entry.key).map(|id| (entry, id))) {
            if !self.ages.is_past_grace(&entry) || self.table.is_needed(&id) {
                continue;
            }
            let alone = [suspect.digest];
            let digests = self.found.shared.get(&id).map_or(&alone[..], Vec::as_slice);
            // scrub frees bytes that several digests name with the first of them
            if digests.first() != Some(&suspect.digest) {
                continue;
            }
            let reason = if suspect.deleted.is_some() { Reason::Deleted } else { Reason::Unreferenced };
            let removal = Removal {
                digest: Some(suspect.digest),
                deleted: suspect.deleted.as_deref().cloned(),
                ..Removal::new(what, reason)
            };
            if self.free_bytes(&id, digests, removal).await? {
                what = What::Copy;
            }
        }
        Ok(())
    }

    /// Frees bytes and the blob copies of all digests that name them, unless something needs one of the digests by now.
    /// Returns whether the bytes were freed.
    async fn free_bytes(&self, id: &UploadId, digests: &[Digest], removal: Removal) -> Result<bool> {
        let mark = layout::mark(id, &self.run.id);
        self.run.put(&mark, Vec::new()).await?;
        let mut facts = Vec::with_capacity(digests.len());
        for digest in digests {
            let needed =
                !self.run.options.dry_run && !self.run.store.list(&layout::holders(digest), None, 1).await?.is_empty();
            let needed = needed && !mutated(Mutation::NoSecondLookByScrub);
            let key = layout::place(digest, id);
            let place = self.run.store.list(&key, None, 1).await?.into_iter().find(|entry| entry.key == key);
            let Some(place) = place.filter(|place| !needed && self.ages.is_past_grace(place)) else {
                self.run.free(&mark, 0).await?;
                return Ok(false);
            };
            facts.push(place);
        }
        self.remove(&facts, id, &mark, removal).await?;
        Ok(true)
    }

    /// Frees a duplicate copy after checking `survivor` again.
    pub(super) async fn free_copy(&self, digest: &Digest, copy: &Copy, survivor: &Copy) -> Result<()> {
        let mark = layout::mark(&copy.id, &self.run.id);
        self.run.put(&mark, Vec::new()).await?;
        let again = look(self.run, self.ages, survivor.entry.clone()).await?;
        let stays = again.is_some_and(|again| again.state == State::Sound) || mutated(Mutation::SurvivorNotLookedAt);
        if !stays {
            return self.run.free(&mark, 0).await;
        }
        let removal = Removal { digest: Some(*digest), ..Removal::new(What::Copy, Reason::Duplicate) };
        self.remove(std::slice::from_ref(&copy.entry), &copy.id, &mark, removal).await
    }

    /// Reports the removal. Then removes blob copies, bytes, notes, marks of scrubs that ended long ago, and the own
    /// mark.
    async fn remove(&self, facts: &[Entry], id: &UploadId, mark: &str, removal: Removal) -> Result<()> {
        let keys = self.run.store.list_all(&layout::data(id)).await?;
        let (marks, bytes): (Vec<_>, Vec<_>) = keys.into_iter().partition(|entry| layout::is_mark(id, &entry.key));
        let size = bytes.iter().map(|entry| entry.size).sum();
        if let Err(error) = self.run.tell(Removal { size, ..removal }) {
            self.run.free(mark, 0).await?;
            return Err(error);
        }
        for (at, entry) in facts.iter().chain(&bytes).enumerate() {
            if at == facts.len() && mutated(Mutation::MarkGoesBeforeTheBytes) {
                self.run.free(mark, 0).await?;
            }
            self.run.free(&entry.key, entry.size).await?;
        }
        // a young mark stays, since its scrub may be at work
        for entry in marks.iter().filter(|entry| entry.key != mark && self.ages.is_old(entry)) {
            self.run.free(&entry.key, entry.size).await?;
        }
        self.run.free(mark, 0).await
    }
}
