//! Frees wishes for a lease that have run out.

use super::super::{Reason, Result, ages::Ages, run::Run};
use crate::{
    registry::InForce,
    storage::{layout, mutation::wishes},
};

/// Frees the wishes that have run out, and no others.
pub(super) async fn free(run: &Run<'_>, ages: Ages) -> Result<()> {
    if !wishes() {
        return Ok(());
    }
    for entry in run.store.list_all(layout::LEASES).await? {
        if InForce::of(&entry).is_some_and(|wish| wish.until_ms <= ages.at()) {
            run.housekeeping(Reason::Expired);
            run.free(&entry.key, entry.size).await?;
        }
    }
    Ok(())
}
