//! Frees bytes that no blob copy names, and sessions, once they have been silent for a lease.

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use super::{
    super::{Pass, Reason, Removal, Result, What, ages::Ages, notes::Notes, run::Run},
    AT_A_TIME, Context,
    table::Table,
};
use crate::{
    action::UploadId,
    oci::Name,
    registry::facts::split_line,
    storage::{Entry, layout},
};

/// Counts the objects under `data/`.
pub(super) async fn count(run: &Run<'_>, ages: Ages, notes: &Notes) -> Result<Table> {
    let mut table = Table::default();
    let mut entries = std::pin::pin!(run.store.scan(layout::DATA));
    while let Some(entry) = entries.next().await.transpose()? {
        run.go_on()?;
        match layout::data_id(&entry.key) {
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
async fn open(run: &Run<'_>, id: &UploadId, session: &[Entry]) -> Result<Option<(Name, u64)>> {
    // the newest state comes first
    let Some(newest) = session.iter().find(|entry| layout::is_upload_state(id, &entry.key)) else { return Ok(None) };
    let content = run.store.get(&newest.key).await?;
    let state = content.and_then(|content| serde_json::from_slice::<SessionState>(&split_line(&content).0).ok());
    Ok(state.filter(|state| state.end.is_none()).map(|state| {
        let kept = state.kept.map_or(0, |kept| state.offset.saturating_sub(kept.offset));
        (state.repository, kept)
    }))
}

/// Returns the keys of the session and of the bytes of an upload, if all of them are old. Leaves out the own mark.
async fn silent(context: &Context<'_>, id: &UploadId) -> Result<Option<(Vec<Entry>, Vec<Entry>)>> {
    let store = &context.run.store;
    let session = store.list_all(&layout::upload(id)).await?;
    let bytes = store.list_all(&layout::data(id)).await?;
    let own = layout::mark(id, &context.run.id);
    let bytes: Vec<Entry> = bytes.into_iter().filter(|entry| entry.key != own).collect();
    let old = session.iter().chain(&bytes).all(|entry| context.ages.is_old(entry));
    Ok(old.then_some((session, bytes)))
}

/// Frees the bytes of an upload, and its session with them.
async fn free_bytes(context: &Context<'_>, id: UploadId) -> Result<()> {
    let run = context.run;
    run.go_on()?;
    let Some((_, bytes)) = silent(context, &id).await? else { return Ok(()) };
    if bytes.is_empty() {
        return Ok(());
    }
    let mark = layout::mark(&id, &run.id);
    run.put(&mark, Vec::new()).await?;
    let Some((session, bytes)) = silent(context, &id).await? else {
        run.free(&mark, 0).await?;
        return Ok(());
    };
    let (marks, bytes): (Vec<_>, Vec<_>) = bytes.into_iter().partition(|entry| layout::is_mark(&id, &entry.key));
    let size = bytes.iter().map(|entry| entry.size).sum();
    let removal = if let Some((repository, kept)) = open(run, &id, &session).await? {
        Some(expired(repository, &id, size + kept))
    } else {
        let bytes = Removal::new(What::Blob, Reason::Unreferenced);
        (size > 0).then(|| Removal { reference: Some(id.to_string()), size, ..bytes })
    };
    match removal.map(|removal| run.tell(removal)) {
        None => run.housekeeping(Reason::Unreferenced),
        Some(Ok(())) => {}
        Some(Err(error)) => {
            run.free(&mark, 0).await?;
            return Err(error);
        }
    }
    // marks after the bytes, then the session; its newest state goes last, since it shows that there was an upload
    for entry in bytes.iter().chain(&marks) {
        run.free(&entry.key, entry.size).await?;
    }
    run.free(&mark, 0).await?;
    for entry in session.iter().rev() {
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}

fn expired(repository: Name, id: &UploadId, size: u64) -> Removal {
    let repository = Some(repository);
    Removal { repository, reference: Some(id.to_string()), size, ..Removal::new(What::Upload, Reason::Expired) }
}

/// Walks over all sessions, and frees the silent ones.
async fn sessions(context: &Context<'_>) -> Result<()> {
    let mut entries = std::pin::pin!(context.run.store.scan(layout::UPLOADS));
    let (mut of_one, mut current): (Vec<Entry>, Option<UploadId>) = (Vec::new(), None);
    let (mut young, mut seen) = (false, 0);
    while let Some(entry) = entries.next().await.transpose()? {
        context.run.go_on()?;
        let Some(id) = layout::upload_id(&entry.key) else {
            context.notes.unknown(context.run, &entry.key).await?;
            continue;
        };
        if current.as_ref() != Some(&id) {
            if let Some(id) = current.filter(|_| !young) {
                end_session(context, &id, std::mem::take(&mut of_one)).await?;
            }
            of_one.clear();
            (current, young) = (Some(id), false);
            seen += 1;
        }
        young |= !context.ages.is_old(&entry);
        of_one.push(entry);
    }
    if let Some(id) = current.filter(|_| !young) {
        end_session(context, &id, of_one).await?;
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
    match open(run, id, &session).await? {
        Some((repository, kept)) if context.table.get(id).is_none() => run.tell(expired(repository, id, kept))?,
        _ => run.housekeeping(Reason::Expired),
    }
    for entry in session.iter().rev() {
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}
