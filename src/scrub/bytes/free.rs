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
    records::key::{BlobKey, DataKey, Key, Prefix},
    storage::{
        Entry,
        mutation::{Mutation, mutated},
    },
};

/// The mark of this run on the segments of an upload. Only a look after the mark makes segments [`Freeable`].
#[must_use]
pub(super) struct Mark<'a> {
    context: &'a Context<'a>,
    id: UploadId,
    key: String,
}

/// Segments that were looked at again after the mark, with exactly the keys that the look saw.
#[must_use]
pub(super) struct Freeable<'a> {
    mark: Mark<'a>,
    /// The blob copies that name the segments. Scrub frees them first.
    copies: Vec<Entry>,
    /// The segments, and the corruption notes beside them.
    bytes: Vec<Entry>,
    /// The marks of scrubs that ended long ago. A young mark stays, since its scrub may be at work.
    marks: Vec<Entry>,
    /// The session of the upload. Scrub frees it last.
    session: Vec<Entry>,
}

impl<'a> Mark<'a> {
    /// Writes the mark.
    pub(super) async fn write(context: &'a Context<'a>, id: UploadId) -> Result<Self> {
        let key = DataKey::Mark(context.run.id).of(&id);
        context.run.put(&key, Vec::new()).await?;
        Ok(Self { context, id, key })
    }

    async fn withdraw(self) -> Result<()> {
        self.context.run.free(&self.key, 0).await
    }

    /// Looks again at digests that name the segments. Withdraws the mark if something needs one of them by now.
    async fn recheck_unneeded(self, digests: &[Digest]) -> Result<Option<Freeable<'a>>> {
        let Context { run, ages, .. } = self.context;
        let mut copies = Vec::with_capacity(digests.len());
        for digest in digests {
            let links = Prefix::AllLinks(digest).to_string();
            let needed = !run.options.dry_run && !run.store.list(&links, None, 1).await?.is_empty();
            let needed = needed && !mutated(Mutation::NoSecondLookByScrub);
            let key = BlobKey::Copy(self.id.clone()).of(digest);
            let copy = run.store.list(&key, None, 1).await?.into_iter().find(|entry| entry.key == key);
            let Some(copy) = copy.filter(|copy| !needed && ages.is_past_grace(copy)) else {
                self.withdraw().await?;
                return Ok(None);
            };
            copies.push(copy);
        }
        self.freeable(copies).await.map(Some)
    }

    /// Looks again at the copy that stays in place of this one. Withdraws the mark if that copy is not sound by now.
    async fn recheck_duplicate(self, copy: &Copy, survivor: &Copy) -> Result<Option<Freeable<'a>>> {
        let again = look(self.context.run, self.context.ages, survivor.entry.clone()).await?;
        let stays = again.is_some_and(|again| again.state == State::Sound) || mutated(Mutation::SurvivorNotLookedAt);
        if !stays {
            self.withdraw().await?;
            return Ok(None);
        }
        self.freeable(vec![copy.entry.clone()]).await.map(Some)
    }

    /// Looks again at a silent upload. Withdraws the mark if a key of the upload is young by now.
    pub(super) async fn recheck_silent(self) -> Result<Option<Freeable<'a>>> {
        let Some((session, bytes)) = self.context.silent(&self.id).await? else {
            self.withdraw().await?;
            return Ok(None);
        };
        let (marks, bytes) = bytes.into_iter().partition(|entry| DataKey::is_mark(&entry.key));
        Ok(Some(Freeable { mark: self, copies: Vec::new(), bytes, marks, session }))
    }

    async fn freeable(self, copies: Vec<Entry>) -> Result<Freeable<'a>> {
        let keys = self.context.run.store.list_all(&Prefix::Data(&self.id).to_string()).await?;
        let (mut marks, bytes): (Vec<_>, Vec<_>) = keys.into_iter().partition(|entry| DataKey::is_mark(&entry.key));
        marks.retain(|entry| entry.key != self.key && self.context.ages.is_old(entry));
        Ok(Freeable { mark: self, copies, bytes, marks, session: Vec::new() })
    }
}

impl Freeable<'_> {
    /// Returns the bytes of the segments.
    pub(super) fn size(&self) -> u64 {
        self.bytes.iter().map(|entry| entry.size).sum()
    }

    /// Returns the session of the upload, newest state first.
    pub(super) fn session(&self) -> &[Entry] {
        &self.session
    }

    /// Reports the removal, if there is one to report. Then frees blob copies, bytes, notes, old marks, the own mark and
    /// the session. The newest state goes last, since it shows that there was an upload.
    pub(super) async fn free(self, removal: Option<Removal>) -> Result<()> {
        let run = self.mark.context.run;
        match removal.map(|removal| run.tell(removal)) {
            None => run.housekeeping(Reason::Unreferenced),
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.mark.withdraw().await?;
                return Err(error);
            }
        }
        for (at, entry) in self.copies.iter().chain(&self.bytes).enumerate() {
            if at == self.copies.len() && mutated(Mutation::MarkGoesBeforeTheBytes) {
                run.free(&self.mark.key, 0).await?;
            }
            run.free(&entry.key, entry.size).await?;
        }
        for entry in &self.marks {
            run.free(&entry.key, entry.size).await?;
        }
        self.mark.withdraw().await?;
        for entry in self.session.iter().rev() {
            run.free(&entry.key, entry.size).await?;
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Frees all copies of an unneeded digest that are old enough.
    pub(super) async fn free_unneeded(&self, suspect: &Suspect) -> Result<()> {
        let places = self.run.store.list_all(&Prefix::Copies(&suspect.digest).to_string()).await?;
        let mut what = What::Blob;
        for (entry, id) in places.into_iter().filter_map(|entry| Key::copy(&entry.key).map(|(_, id)| (entry, id))) {
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
            let mark = Mark::write(self, id).await?;
            if let Some(freeable) = mark.recheck_unneeded(digests).await? {
                let size = freeable.size();
                freeable.free(Some(Removal { size, ..removal })).await?;
                what = What::Copy;
            }
        }
        Ok(())
    }

    /// Frees a duplicate copy after checking `survivor` again.
    pub(super) async fn free_copy(&self, digest: &Digest, copy: &Copy, survivor: &Copy) -> Result<()> {
        let mark = Mark::write(self, copy.id.clone()).await?;
        let Some(freeable) = mark.recheck_duplicate(copy, survivor).await? else { return Ok(()) };
        let size = freeable.size();
        freeable
            .free(Some(Removal { digest: Some(*digest), size, ..Removal::new(What::Copy, Reason::Duplicate) }))
            .await
    }
}
