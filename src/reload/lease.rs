//! Hands the lease of the configuration to the registry.

use jiff::{SignedDuration, Timestamp};

use crate::{
    registry::{self, Registry},
    snapshot::Live,
};

/// Lets the registry use the lease of the snapshot in force, if it is another one, and tells so.
///
/// # Errors
/// Those of the store: then the lease stays as it was.
pub async fn hand_over(registry: &Registry, live: &Live) -> registry::Result<()> {
    let (before, wanted) = (registry.lease().wished(), live.current().config().scrub.upload_expiry);
    if before == wanted {
        return Ok(());
    }
    registry.lease().change(wanted).await?;
    tracing::info!(
        seconds = wanted.as_secs(),
        before = before.as_secs(),
        "scrub.upload_expiry has changed: a longer lease holds at once, a shorter one when the wish for the one before has run out"
    );
    say(registry).await;
    Ok(())
}

/// Tells of the lease in force if it is longer than the one of this server.
pub async fn say(registry: &Registry) {
    match registry.lease().longer_in_force().await {
        Ok(Some(longer)) => {
            let until = i64::try_from(longer.until_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let lease = SignedDuration::from_millis(i64::try_from(longer.lease_ms).unwrap_or(i64::MAX));
            tracing::info!(
                seconds = lease.as_secs(), own = registry.lease().wished().as_secs(), until = %until.unwrap_or(Timestamp::MAX),
                "the lease in force is longer than scrub.upload_expiry: another server wishes it, or it was configured before; scrubs keep to it"
            );
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the wishes for a lease could not be read"),
    }
}
