//! Frees wishes for a lease that have run out.

use super::super::{Reason, Result, ages::AgeThresholds, run::Run};
use crate::{records::key::Prefix, registry::InForce, storage::mutation::wishes};

/// Frees the wishes that have run out, and no others.
pub(super) async fn free(run: &Run<'_>, ages: AgeThresholds) -> Result<()> {
    if !wishes() {
        return Ok(());
    }
    for entry in run.store.list_all(&Prefix::Leases.to_string()).await? {
        if InForce::of(&entry).is_some_and(|wish| wish.until_ms <= ages.at()) {
            run.housekeeping(Reason::Expired);
            run.free(&entry.key, entry.size).await?;
        }
    }
    Ok(())
}
