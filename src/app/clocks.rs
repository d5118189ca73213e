//! Watches whether this host's clock differs from the store's, and keeps the wish for a lease fresh.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch::Receiver;

use crate::{registry::Registry, reload, snapshot::Live, storage::Store};

/// The time between two looks. Nothing depends on it: each attempt renews a wish that is too old, and all records are
/// written by the store's clock.
const EVERY: Duration = Duration::from_secs(10);

/// The part of a lease after which a server renews its wish, so that requests need not.
pub(super) const RENEWS: u32 = 16;

/// Warns when this host's clock begins to differ from the store's by more than a minute. Renews the wish for a lease, and
/// warns when that begins to fail. Ends when `stop` turns true.
pub(super) async fn watch(store: Store, registry: Arc<Registry>, live: Arc<Live>, mut stop: Receiver<bool>) {
    let (mut differs, mut fails) = (false, false);
    while !*stop.borrow() {
        differs = warn(&store, differs).await;
        // an edit that the store did not take when the files were read, of which `reload` has warned
        if let Err(error) = reload::hand_over_lease(&registry, &live).await {
            tracing::debug!(%error, "the store does not take the new scrub.upload_expiry yet");
        }
        let renewed = registry.lease().renew_wish(RENEWS).await;
        if let Err(error) = renewed.as_ref()
            && !fails
        {
            tracing::warn!(%error, "the wish for a lease could not be renewed; requests try again");
        }
        fails = renewed.is_err();
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Warns if the clocks differ and did not before. Returns whether they differ.
async fn warn(store: &Store, differed: bool) -> bool {
    if let Err(error) = store.hear_time().await {
        tracing::debug!(%error, "the store does not tell its time");
        return differed;
    }
    let skew = store.clock().skew();
    if let Some(skew) = skew.filter(|_| !differed) {
        let [host, store] = skew.times();
        tracing::warn!(
            %host, %store, difference = %host.duration_since(store),
            "this host's clock differs from the store's clock by more than a minute; retention goes by the store's clock; check that NTP runs on both"
        );
    }
    skew.is_some()
}
