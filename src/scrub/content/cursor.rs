//! The place where a check stopped, from which the next one goes on.

use serde::{Deserialize, Serialize};

use super::super::{Result, run::Run};
use crate::{
    records::{
        json,
        key::{Key, Prefix, Suffix},
    },
    storage::Entry,
};

/// The body of a cursor.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// The last key that was looked at.
    after: String,
}

/// A range of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) prefix: Prefix<'static>,
    /// The key after which the range begins.
    pub(super) after: Option<String>,
    /// The last key of the range.
    pub(super) until: Option<String>,
}

/// Returns ranges that cover all keys once, from behind `after` around to it.
pub(super) fn parts(after: Option<String>) -> Vec<Part> {
    let whole = |prefix| Part { prefix, after: None, until: None };
    let behind = |prefix, after: &str| Part { after: Some(after.to_owned()), ..whole(prefix) };
    let up_to = |prefix, until: String| Part { until: Some(until), ..whole(prefix) };
    let (blobs, manifests) = (Prefix::Blobs, Prefix::Repositories);
    match after {
        Some(after) if blobs.has(&after) => vec![behind(blobs, &after), whole(manifests), up_to(blobs, after)],
        Some(after) if manifests.has(&after) => vec![behind(manifests, &after), whole(blobs), up_to(manifests, after)],
        _ => vec![whole(blobs), whole(manifests)],
    }
}

/// Returns all cursors, and the key in the newest one that can be read.
pub(super) async fn read(run: &Run<'_>) -> Result<(Vec<Entry>, Option<String>)> {
    let cursors = run.store.list_all(&Prefix::Cursors.to_string()).await?;
    for entry in &cursors {
        let content = run.store.get(&entry.key).await?;
        if let Some(cursor) = content.and_then(|content| serde_json::from_slice::<Cursor>(&content).ok()) {
            return Ok((cursors, Some(cursor.after)));
        }
    }
    Ok((cursors, None))
}

pub(super) async fn write(run: &Run<'_>, now: u64, after: &str) -> Result<()> {
    let cursor = Cursor { after: after.to_owned() };
    run.put(&Key::Cursor(now, Suffix::random()).to_string(), json(&cursor)).await
}

/// Frees cursors that were read and are not needed any more.
pub(super) async fn free(run: &Run<'_>, cursors: &[Entry]) -> Result<()> {
    for entry in cursors {
        run.free(&entry.key, entry.size).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(after: Option<&str>) -> Vec<String> {
        let part = |part: Part| {
            format!("{}..{} of {}", part.after.unwrap_or_default(), part.until.unwrap_or_default(), part.prefix)
        };
        parts(after.map(str::to_owned)).into_iter().map(part).collect()
    }

    #[test]
    fn a_check_goes_on_where_the_last_one_was_and_comes_around() {
        assert_eq!(told(None), [".. of blobs/", ".. of repos/"]);
        assert_eq!(told(Some("blobs/b")), ["blobs/b.. of blobs/", ".. of repos/", "..blobs/b of blobs/"]);
        assert_eq!(told(Some("repos/r")), ["repos/r.. of repos/", ".. of blobs/", "..repos/r of repos/"]);
        assert_eq!(told(Some("other")), told(None));
    }
}
