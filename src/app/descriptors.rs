//! Divides the file descriptors of the process between connections and the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The most connections at once, however many descriptors there are.
const MOST_CONNECTIONS: u64 = 20_000;
/// The descriptors for all but connections, requests and transfers.
const OTHERS: u64 = 256;
/// The limit to ask for where the system has none.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit to the hard one. Returns the number of connections that leave enough descriptors for the store, and
/// logs the numbers.
pub(super) fn fit(config: &Config) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(UNLIMITED);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "the limit of file descriptors could not be raised to {wanted}");
            current.unwrap_or(UNLIMITED)
        }
    };
    let (requests, transfers) = (config.max_concurrent_requests as u64, config.max_concurrent_transfers as u64);
    let (connections, store) = divide(limit, requests, transfers);
    tracing::info!(
        "file descriptors: {limit} (the limit was {}), {store} of them for the store; at most {connections} connections",
        current.map_or("none".to_owned(), |current| current.to_string())
    );
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// Returns the number of connections, and of descriptors for all else.
fn divide(limit: u64, requests: u64, transfers: u64) -> (u64, u64) {
    let needed = OTHERS.saturating_add(requests.saturating_mul(2)).saturating_add(transfers);
    let store = needed.min(limit / 2);
    ((limit - store).clamp(1, MOST_CONNECTIONS), store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_store() {
        assert_eq!(divide(1 << 20, 50, 1000), (20_000, 1356));
        assert_eq!(divide(4096, 50, 1000), (2740, 1356));
        assert_eq!(divide(1024, 50, 1000), (512, 512));
        assert_eq!(divide(1, 50, 1000), (1, 0));
    }
}
