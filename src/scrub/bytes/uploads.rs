//! Frees bytes that no blob copy names, and sessions, once they have been silent for a lease.

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::{
    super::{Pass, Reason, Removal, Result, What, ages::AgeThresholds, notes::Notes, run::Run},
    AT_A_TIME, Context,
    free::Mark,
    table::Table,
};
use crate::{
    action::UploadId,
    oci::Name,
    records::{
        Groups,
        key::{DataKey, Owner, Prefix, UploadKey},
        split_line,
    },
    storage::Entry,
};

/// Counts the objects under `data/`.
pub(super) async fn count(run: &Run<'_>, ages: AgeThresholds, notes: &Notes) -> Result<Table> {
    let mut table = Table::default();
    let mut entries = std::pin::pin!(run.store.scan(&Prefix::AllData.to_string()));
    while let Some(entry) = entries.next().await.transpose()? {
        run.go_on()?;
        match Owner::upload(&entry.key) {
            Some(id) => table.add(&id, &entry, ages),
            None => notes.unknown(run, &entry.key).await?,
        }
    }
    Ok(table)
}

/// Frees uploads that went silent: the bytes that no blob copy names, then sessions.
///
/// The session of such an upload is older than a lease. So a quick completion wrote its blob copy before scrub read the
/// clock, and the walk has seen it. A slow completion writes a sign of life after its blob copy, and then looks. Either
/// it sees the mark, or the second look here sees the sign.
pub(super) async fn run(context: &Context<'_>) -> Result<()> {
    if context.does(Pass::Uploads) || context.does(Pass::Garbage) {
        let silent = context.table.silent().map(super::table::Row::id).filter(|id| !context.is_adopted(id));
        let silent = stream::iter(silent).map(|id| free_bytes(context, id).boxed());
        silent.buffer_unordered(AT_A_TIME).try_for_each(|()| std::future::ready(Ok(()))).await?;
    }
    sessions(context).await
}

/// The fields of a session's state that matter here.
#[derive(Deserialize)]
struct SessionState {
    repository: Name,
    offset: u64,
    kept: Option<Kept>,
    end: Option<serde::de::IgnoredAny>,
}

/// The offset at which the chunks that states keep begin.
#[derive(Deserialize)]
struct Kept {
    offset: u64,
}

/// Returns the repository of an upload that is still open, and how many bytes its states keep.
async fn open(run: &Run<'_>, session: &[Entry]) -> Result<Option<(Name, u64)>> {
    // the newest state comes first
    let Some(newest) = session.iter().find(|entry| UploadKey::state(&entry.key).is_some()) else { return Ok(None) };
    let content = run.store.get(&newest.key).await?;
    let state = content.and_then(|content| serde_json::from_slice::<SessionState>(&split_line(&content).0).ok());
    Ok(state.filter(|state| state.end.is_none()).map(|state| {
        let kept = state.kept.map_or(0, |kept| state.offset.saturating_sub(kept.offset));
        (state.repository, kept)
    }))
}

impl Context<'_> {
    /// Returns the keys of the session and of the bytes of an upload, if all of them are old. Leaves out the own mark.
    pub(super) async fn silent(&self, id: &UploadId) -> Result<Option<(Vec<Entry>, Vec<Entry>)>> {
        let session = self.run.store.list_all(&Prefix::Upload(id).to_string()).await?;
        let mut bytes = self.run.store.list_all(&Prefix::Data(id).to_string()).await?;
        let own = DataKey::Mark(self.run.id).of(id);
        bytes.retain(|entry| entry.key != own);
        let old = session.iter().chain(&bytes).all(|entry| self.ages.is_old(entry));
        Ok(old.then_some((session, bytes)))
    }
}

/// Frees the bytes of an upload, and its session with them.
async fn free_bytes(context: &Context<'_>, id: UploadId) -> Result<()> {
    let run = context.run;
    run.go_on()?;
    if context.silent(&id).await?.is_none_or(|(_, bytes)| bytes.is_empty()) {
        return Ok(());
    }
    let mark = Mark::write(context, id.clone()).await?;
    let Some(freeable) = mark.recheck_silent().await? else { return Ok(()) };
    let size = freeable.size();
    let removal = if let Some((repository, kept)) = open(run, freeable.session()).await? {
        Some(expired(repository, &id, size + kept))
    } else {
        let bytes = Removal::new(What::Blob, Reason::Unreferenced);
        (size > 0).then(|| Removal { reference: Some(id.to_string()), size, ..bytes })
    };
    freeable.free(removal).await
}

fn expired(repository: Name, id: &UploadId, size: u64) -> Removal {
    let repository = Some(repository);
    Removal { repository, reference: Some(id.to_string()), size, ..Removal::new(What::Upload, Reason::Expired) }
}

/// Walks over all sessions, and frees the silent ones.
async fn sessions(context: &Context<'_>) -> Result<()> {
    let listing = context.run.store.scan(&Prefix::Uploads.to_string());
    let mut groups = Groups::new(listing, |key| Some(Owner::upload(key)));
    let mut seen = 0;
    while let Some((id, session)) = groups.next().await? {
        context.run.go_on()?;
        let Some(id) = id else {
            for entry in &session {
                context.notes.unknown(context.run, &entry.key).await?;
            }
            continue;
        };
        seen += 1;
        if session.iter().all(|entry| context.ages.is_old(entry)) {
            end_session(context, &id, session).await?;
        }
    }
    context.run.saw("uploads", seen);
    Ok(())
}

/// Frees an old session whose bytes were freed, became a blob, or never existed.
async fn end_session(context: &Context<'_>, id: &UploadId, session: Vec<Entry>) -> Result<()> {
    let run = context.run;
    // [`free_bytes`] frees the session with its bytes
    if (context.table.is_unnamed(id) && !context.is_adopted(id))
        || !(context.does(Pass::Uploads) || context.does(Pass::Garbage))
    {
        return Ok(());
    }
    match open(run, &session).await? {
        Some((repository, kept)) if context.table.get(id).is_none() => run.tell(expired(repository, id, kept))?,
        _ => run.housekeeping(Reason::Expired),
    }
    for entry in session.iter().rev() {
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}
