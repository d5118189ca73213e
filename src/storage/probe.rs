//! Tries a bucket for the guarantees that servers and scrub rely on, and that some S3 servers lack.

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use opendal::{ErrorKind, Operator, Result};

use super::{PROBES, Suffix, answers};

/// A guarantee that a bucket lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacks {
    /// Several writers that created one object were each told that they succeeded.
    ExclusiveCreate,
    /// A listing is out of order, incomplete, or does not begin after the given key.
    Order,
    /// A read of a range returns other bytes.
    Ranges,
}

/// The number of writers that create one object at the same time.
const RACERS: usize = 4;
/// The object that these writers create.
const RACED: &str = "a0";
/// The objects of the trial in the order of a listing: by their bytes, with capitals first and `!` before `/`.
const KEYS: [&str; 4] = ["B/x", "a!/x", "a/x", RACED];

/// Tries a bucket with a few objects, and deletes them. Returns the first guarantee that the bucket lacks, if any.
pub(super) async fn probe(operator: &Operator) -> Result<Option<Lacks>> {
    let prefix = format!("{PROBES}{}/", Suffix::random());
    let lacks = attempt(operator, &prefix).await;
    for key in KEYS {
        // an object that stays is small and harmless; scrub frees it after a lease
        let _ = operator.delete(&format!("{prefix}{key}")).await;
    }
    lacks
}

async fn attempt(operator: &Operator, prefix: &str) -> Result<Option<Lacks>> {
    let raced = format!("{prefix}{RACED}");
    let contents: Vec<String> = (0..RACERS).map(|racer| format!("{racer}-{}", Suffix::random())).collect();
    let created = join_all(contents.iter().map(|content| create(operator, &raced, content))).await;
    let created = created.into_iter().collect::<Result<Vec<bool>>>()?;
    let winners: Vec<&String> =
        contents.iter().zip(created).filter(|(_, won)| *won).map(|(content, _)| content).collect();
    let late = create(operator, &raced, "too late").await?;
    let found = operator.read(&raced).await?.to_bytes();
    // a retry after a lost answer may have told the winner that it lost
    let is_one = contents.iter().any(|content| content.as_bytes() == found);
    if late || winners.len() > 1 || winners.iter().any(|winner| winner.as_bytes() != found) || !is_one {
        return Ok(Some(Lacks::ExclusiveCreate));
    }
    for key in KEYS.iter().rev().filter(|key| **key != RACED) {
        operator.write(&format!("{prefix}{key}"), *key).await?;
    }
    // list in pages, to try the step from page to page as well
    if list(operator, prefix, None).await? != KEYS || list(operator, prefix, Some(KEYS[1])).await? != KEYS[2..] {
        return Ok(Some(Lacks::Order));
    }
    match operator.read_with(&raced).range(3..9).await {
        Ok(part) if part.to_bytes() == found.slice(3..9) => Ok(None),
        Ok(_) => Ok(Some(Lacks::Ranges)),
        Err(error) if error.to_string().contains(answers::IGNORES_RANGE) => Ok(Some(Lacks::Ranges)),
        Err(error) => Err(error),
    }
}

async fn create(operator: &Operator, key: &str, content: &str) -> Result<bool> {
    match operator.write_with(key, content.to_owned()).if_not_exists(true).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lists the keys under the prefix, without the prefix. Stops after twice the expected number, in case a listing does
/// not end.
async fn list(operator: &Operator, prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
    let mut listing = operator.lister_with(prefix).recursive(true).limit(2);
    let after = after.map(|after| format!("{prefix}{after}"));
    if let Some(after) = &after {
        listing = listing.start_after(after);
    }
    let files = listing.await?.try_filter(|entry| std::future::ready(entry.metadata().is_file()));
    let keys = files.map_ok(|entry| entry.path().strip_prefix(prefix).unwrap_or(entry.path()).to_owned());
    keys.take(2 * KEYS.len()).try_collect().await
}
