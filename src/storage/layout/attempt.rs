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
