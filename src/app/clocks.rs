//! Watches whether this host's clock differs from the store's.

use std::time::Duration;

use tokio::sync::watch::Receiver;

use crate::storage::Store;

/// The time between two looks. Pulls and pushes are written down by the store's clock, so nothing depends on it but the
/// warning.
const EVERY: Duration = Duration::from_secs(10);

/// Warns when this host's clock begins to differ from the store's by more than a minute, until `stop` turns true.
pub(super) async fn watch(store: Store, mut stop: Receiver<bool>) {
    let mut differs = false;
    while !*stop.borrow() {
        differs = warn(&store, differs).await;
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
