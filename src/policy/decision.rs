//! A decision about one request, and its reason.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A decision about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The effect.
    pub effect: Effect,
    /// The policy that decided. None: no policy says anything about the request, or nothing covers it.
    pub by: Option<Arc<Origin>>,
    /// The rule that decided. None: a default did.
    pub rule: Option<Arc<str>>,
    /// The rule's message; where the rule failed, how.
    pub message: Option<Arc<str>>,
    /// True if no rule decided, but a default.
    pub default: bool,
    /// The tag for which this was decided, if the request changes more tags than its path names.
    pub tag: Option<Arc<str>>,
    /// True if a rule waits for the age of the image. The request goes on for now, and is decided again.
    pub provisional: bool,
}

/// The effects that a decision can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The request goes on.
    Allow,
    /// The request is refused.
    #[default]
    Deny,
    /// The request goes on, though a policy that is not enforced would refuse it.
    WouldDeny,
    /// No policy covers the repository, so it does not exist.
    NotCovered,
}

impl Effect {
    /// Returns its name in records and tests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::NotCovered => "not_covered",
        }
    }

    /// Returns true if the request goes on.
    #[must_use]
    pub const fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::WouldDeny)
    }
}

/// The origin of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of its file, or its table in the configuration: `[repository."team".access_policy]`.
    pub policy: String,
    /// The SHA-256 in hex of the file's text; of a table, of the JSON of what it says.
    pub sha256: String,
}

impl Decision {
    /// Returns true if the request goes on.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.effect.allows()
    }

    /// Returns the reason of a refusal, as a sentence for the client: the rule's own message if it has one.
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
        Self {
            effect: Effect::NotCovered,
            by: None,
            rule: None,
            message: None,
            default: false,
            tag: None,
            provisional: false,
        }
    }

    /// Returns the decision of a default.
    pub(super) const fn by_default(allow: bool, by: Option<Arc<Origin>>) -> Self {
        let effect = if allow { Effect::Allow } else { Effect::Deny };
        Self { effect, by, rule: None, message: None, default: true, tag: None, provisional: false }
    }
}
