//! Frees small objects of passing use.

use futures::StreamExt;

use super::super::{Reason, Result, ages::AgeThresholds, run::Run};
use crate::records::key::Prefix;

/// Frees small objects of passing use that are older than a lease. Every server has heard old damage reports by now.
/// Processes write the others to learn the store's time or to try a bucket, and leave them behind only when they die.
pub(super) async fn free(run: &Run<'_>, ages: AgeThresholds) -> Result<()> {
    for (prefix, reason) in
        [(Prefix::Corrupt, Reason::Superseded), (Prefix::Clocks, Reason::Expired), (Prefix::Probes, Reason::Expired)]
    {
        let mut entries = std::pin::pin!(run.store.scan(&prefix.to_string()));
        while let Some(entry) = entries.next().await.transpose()? {
            run.go_on()?;
            if ages.is_old(&entry) {
                run.housekeeping(reason);
                run.free(&entry.key, entry.size).await?;
            }
        }
    }
    Ok(())
}
