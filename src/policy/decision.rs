//! What policy said, and why.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What policy said about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub effect: Effect,
    /// The policy that decided. None: no policy says anything about the request, or nothing covers it.
    pub by: Option<Arc<Origin>>,
    /// The rule of it that decided. None: a default did.
    pub rule: Option<Arc<str>>,
    /// The rule's message; where the rule failed, how.
    pub message: Option<Arc<str>>,
    /// Whether no rule decided, but a default.
    pub default: bool,
    /// The tag for which this was decided, where the request changes tags beside the one in its path.
    pub tag: Option<Arc<str>>,
}

/// What policy can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Yes.
    Allow,
    /// No.
    #[default]
    Deny,
    /// Yes, and a policy that is not enforced would have said no.
    WouldDeny,
    /// Nothing covers the repository, so that it does not exist.
    NotCovered,
}

impl Effect {
    /// Its name in records and tests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::NotCovered => "not_covered",
        }
    }

    /// Whether the request goes on.
    #[must_use]
    pub const fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::WouldDeny)
    }
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of its file, or its table in the configuration: `[repository."team".access_policy]`.
    pub policy: String,
    /// The SHA-256 in hex of the file's text; of a table, of the JSON of what it says.
    pub sha256: String,
}

impl Decision {
    /// Whether the request goes on.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.effect.allows()
    }

    /// Why not, as a sentence for the client: the rule's own message if it has one.
    #[must_use]
    pub fn reason(&self, action: &str) -> String {
        let reason = match (self.effect, &self.message, &self.rule) {
            (Effect::NotCovered, ..) => "there is no such repository: no policy covers its name".to_owned(),
            (_, Some(message), _) => message.to_string(),
            (_, None, Some(rule)) => format!("{action} is not allowed: the rule {rule} denies it"),
            (_, None, None) => format!("{action} is not allowed: no rule allows it"),
        };
        match &self.tag {
            Some(tag) => format!("tag {tag}: {reason}"),
            None => reason,
        }
    }

    pub(super) const fn not_covered() -> Self {
        Self { effect: Effect::NotCovered, by: None, rule: None, message: None, default: false, tag: None }
    }

    /// What a default says.
    pub(super) const fn by_default(allow: bool, by: Option<Arc<Origin>>) -> Self {
        let effect = if allow { Effect::Allow } else { Effect::Deny };
        Self { effect, by, rule: None, message: None, default: true, tag: None }
    }
}
