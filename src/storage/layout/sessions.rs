//! The keys of uploads' sessions: of [`super`], which is the only place that builds or parses one.

use super::LAST;
use crate::action::UploadId;

/// Prefix of all uploads' sessions.
///
/// Nothing that was answered 201 is in here, so a directory need not sync them: what a power cut takes of a session, the
/// client learns from its status, or begins again.
pub const UPLOADS: &str = "uploads/";

/// Prefix of an upload's states and of the facts that it is alive.
#[must_use]
pub fn upload(id: &UploadId) -> String {
    format!("{UPLOADS}{id}/")
}

/// The state number `sequence` of an upload.
#[must_use]
pub fn upload_state(id: &UploadId, sequence: u32) -> String {
    format!("{}{:08x}", upload(id), u32::MAX - sequence)
}

/// The number of the state in a key of [`upload_state`].
#[must_use]
pub fn upload_sequence(id: &UploadId, key: &str) -> Option<u32> {
    u32::from_str_radix(key.strip_prefix(&upload(id))?, 16).ok().map(|inverse| u32::MAX - inverse)
}

/// Whether a key under [`upload`] is a state, and not a sign of life.
#[must_use]
pub fn is_upload_state(id: &UploadId, key: &str) -> bool {
    key.strip_prefix(&upload(id)).is_some_and(|rest| !rest.starts_with(LAST))
}

/// The fact that an upload is alive.
#[must_use]
pub fn upload_alive(id: &UploadId, attempt: &str) -> String {
    format!("{}{LAST}{attempt}", upload(id))
}

/// The upload that a key under [`UPLOADS`] belongs to.
#[must_use]
pub fn upload_id(key: &str) -> Option<UploadId> {
    key.strip_prefix(UPLOADS)?.split_once('/')?.0.parse().ok()
}
