//! Builds and parses the keys of upload sessions, as a part of [`super`].

use super::LAST;
use crate::action::UploadId;

/// The prefix of all upload sessions.
///
/// An answer 201 promises nothing under this prefix, so a directory need not sync it. If a power cut removes states of
/// a session, the client learns that from the status of the upload, or begins again.
pub const UPLOADS: &str = "uploads/";

/// Returns the prefix of an upload's states and signs of life.
#[must_use]
pub fn upload(id: &UploadId) -> String {
    format!("{UPLOADS}{id}/")
}

/// Returns the key of state number `sequence` of an upload. The newest state sorts first.
#[must_use]
pub fn upload_state(id: &UploadId, sequence: u32) -> String {
    format!("{}{:08x}", upload(id), u32::MAX - sequence)
}

/// Returns the number of the state in a key of [`upload_state`].
#[must_use]
pub fn upload_sequence(id: &UploadId, key: &str) -> Option<u32> {
    u32::from_str_radix(key.strip_prefix(&upload(id))?, 16).ok().map(|inverse| u32::MAX - inverse)
}

/// Returns whether a key under [`upload`] is a state, and not a sign of life.
#[must_use]
pub fn is_upload_state(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&upload(id)).is_some_and(|rest| !rest.starts_with(LAST))
}

/// Returns the key of a sign of life of an upload.
#[must_use]
pub fn upload_alive(id: &UploadId, attempt: &str) -> String {
    format!("{}{LAST}{attempt}", upload(id))
}

/// Returns the upload of a key under [`UPLOADS`].
#[must_use]
pub fn upload_id(key: &str) -> Option<UploadId> {
    key.strip_prefix(UPLOADS)?.split_once('/')?.0.parse().ok()
}
