//! What makes keys of one attempt its own.

/// A fresh suffix for keys of one attempt: no two attempts share a key that scrub may delete.
#[must_use]
pub fn attempt() -> String {
    #[cfg(test)]
    if let Some(drawn) = crate::action::seeded::draw() {
        return format!("{drawn:016x}");
    }
    format!("{:016x}", rand::random::<u64>())
}

/// Returns a fresh attempt whose key sorts before `key`, which ends in an attempt: a version beside another that counts in
/// its place.
#[must_use]
pub fn attempt_before(key: &str) -> String {
    let last = key.rsplit_once('.').map_or("", |(_, attempt)| attempt);
    let than = u64::from_str_radix(last, 16).unwrap_or(u64::MAX);
    let drawn = u64::from_str_radix(&attempt(), 16).unwrap_or_default();
    format!("{:016x}", drawn % than.max(1))
}
