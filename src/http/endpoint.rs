//! Tells an action of the API from a request for a token.

use http::request::Parts;

use crate::{
    action::{Action, ActionError},
    oci::Name,
};

/// The endpoint that a request is for.
#[allow(clippy::large_enum_variant, reason = "nearly every request is an action")]
pub(super) enum Endpoint {
    /// An action, which policy decides about.
    Action(Action),
    /// A token, which anybody may ask for.
    Token,
}

impl Endpoint {
    /// The name of `/token` in logs, metrics and records.
    const TOKEN: &'static str = "get-token";

    /// Finds the endpoint of a request, at an address that may have metrics and tokens.
    pub(super) fn parse(parts: &Parts, has_metrics: bool, has_tokens: bool) -> Result<Self, ActionError> {
        match parts.uri.path() {
            "/metrics" if !has_metrics => Err(ActionError::NotFound),
            "/token" if has_tokens => Ok(Self::Token),
            path => Action::parse(parts.method.as_str(), path, parts.uri.query()).map(Self::Action),
        }
    }

    /// Returns the name in logs, metrics and records.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Action(action) => action.as_str(),
            Self::Token => Self::TOKEN,
        }
    }

    /// Returns the repository in the path, if there is one.
    pub(super) const fn name(&self) -> Option<&Name> {
        match self {
            Self::Action(action) => action.name(),
            Self::Token => None,
        }
    }
}
