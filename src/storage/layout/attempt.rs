//! Makes the suffixes that keep the keys of attempts apart.

/// Returns a fresh random suffix for the keys of one attempt: 16 hexadecimal digits. No two attempts share a key that
/// scrub may delete.
#[must_use]
pub fn attempt() -> String {
    #[cfg(test)]
    if let Some(drawn) = crate::action::seeded::draw() {
        return format!("{drawn:016x}");
    }
    format!("{:016x}", rand::random::<u64>())
}

/// Returns a fresh suffix that sorts before the attempt at the end of `key`. A version with the fresh suffix counts
/// instead of the version under `key`.
#[must_use]
pub fn attempt_before(key: &str) -> String {
    let last = key.rsplit_once('.').map_or("", |(_, attempt)| attempt);
    let than = u64::from_str_radix(last, 16).unwrap_or(u64::MAX);
    let drawn = u64::from_str_radix(&attempt(), 16).unwrap_or_default();
    format!("{:016x}", drawn % than.max(1))
}
