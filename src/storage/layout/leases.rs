//! Builds and parses the keys of wishes for a lease.

/// The prefix of the wishes for a lease.
pub const LEASES: &str = "leases/";

/// Returns the key of a wish for a lease of `lease_ms` milliseconds.
#[must_use]
pub fn wish(lease_ms: u64, attempt: &str) -> String {
    format!("{LEASES}{lease_ms}.{attempt}")
}

/// Returns the lease in milliseconds that a key of [`wish`] asks for.
#[must_use]
pub fn wished_lease(key: &str) -> Option<u64> {
    let (lease, attempt) = key.strip_prefix(LEASES)?.split_once('.')?;
    let lease_ms = lease.parse().ok()?;
    (wish(lease_ms, attempt) == key).then_some(lease_ms)
}
