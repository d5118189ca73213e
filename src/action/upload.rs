//! Parses uploads as requests name them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ActionError;

/// An upload's id: the UUID in its location.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl TryFrom<String> for UploadId {
    type Error = ActionError;

    fn try_from(text: String) -> Result<Self, ActionError> {
        text.parse()
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.to_string()
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
    /// The number of the state in the location that the client used. It is a hint that saves a read of the store.
    pub state: Option<u32>,
}
