//! Uploads as requests name them.

use std::str::FromStr;

use super::{Action, ActionError};
use crate::oci::Name;

/// An upload's id: the UUID in its location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(uuid::Uuid);

impl UploadId {
    /// Generates a random id.
    #[must_use]
    pub fn random() -> Self {
        #[cfg(test)]
        if let (Some(high), Some(low)) = (super::seeded::draw(), super::seeded::draw()) {
            return Self(uuid::Uuid::from_u64_pair(high, low));
        }
        Self(uuid::Uuid::new_v4())
    }
}

impl FromStr for UploadId {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        // only the hyphenated lower-case form: one id, one spelling, since it is part of keys
        let id = uuid::Uuid::try_parse(text).map_err(|_| ActionError::UploadId)?;
        if id.hyphenated().to_string() == text { Ok(Self(id)) } else { Err(ActionError::UploadId) }
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// An upload, and the last of its states that the client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The session.
    pub id: UploadId,
    /// The state named by the location that the client used; a hint that saves a look at the store, no more.
    pub state: Option<u32>,
}

impl Action {
    /// Returns the upload that the action is about, and its repository.
    #[must_use]
    pub const fn upload(&self) -> Option<(&Name, &Upload)> {
        match self {
            Self::GetUpload { name, upload, .. }
            | Self::UpdateUpload { name, upload, .. }
            | Self::CompleteUpload { name, upload, .. }
            | Self::CancelUpload { name, upload, .. } => Some((name, upload)),
            _ => None,
        }
    }

    /// Returns who began that upload; empty for somebody anonymous, for an unknown upload, and before anybody looked.
    #[must_use]
    pub fn upload_owner(&self) -> &str {
        match self {
            Self::GetUpload { owner, .. }
            | Self::UpdateUpload { owner, .. }
            | Self::CompleteUpload { owner, .. }
            | Self::CancelUpload { owner, .. } => owner,
            _ => "",
        }
    }

    /// Notes who began that upload, for policy and for the record.
    pub fn set_upload_owner(&mut self, began: &str) {
        match self {
            Self::GetUpload { owner, .. }
            | Self::UpdateUpload { owner, .. }
            | Self::CompleteUpload { owner, .. }
            | Self::CancelUpload { owner, .. } => *owner = began.into(),
            _ => {}
        }
    }
}
