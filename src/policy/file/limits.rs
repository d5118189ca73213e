//! The limits of one policy file.

/// Largest policy file in bytes.
pub const MAX_FILE: u64 = 256 * 1024;
/// Most rules of one policy, and most tests.
pub const MAX_RULES: usize = 200;
/// Most images in all tests of one policy: its tests are run at each reload.
pub const MAX_IMAGES: usize = 1000;
