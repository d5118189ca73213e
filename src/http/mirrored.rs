//! Answers clients that ask as if this registry were another one.

use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};

use super::{endpoint::Endpoint, failure::Failure};
use crate::{
    action::{Access, Action, ActionError},
    config::NotMirrored,
    oci::{ErrorCode, Name},
    snapshot::Snapshot,
};

const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The words of a client for the repository that it means.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The name in the request.
    pub(super) name: Name,
    /// The name here.
    pub(super) means: Name,
    /// The registry that the client named.
    pub(super) host: Option<String>,
}

impl Asked {
    /// Puts the repository that the client means into a read. Writes keep their name.
    ///
    /// # Errors
    /// 404 if the name means no repository here.
    pub(super) fn find(
        snapshot: &Snapshot,
        parts: &Parts,
        endpoint: &mut Result<Endpoint, ActionError>,
    ) -> Result<Option<Self>, Failure> {
        let mirrors = snapshot.mirrors();
        let Ok(Endpoint::Action(action)) = endpoint else { return Ok(None) };
        let is_read = matches!(action.row().access, Access::Pull | Access::List);
        let Some(name) = action.name().filter(|_| is_read && !mirrors.is_empty()).cloned() else { return Ok(None) };
        let host = Action::asked_registry(parts.uri.query())?;
        let unknown = |error: NotMirrored| {
            // for the log: nobody has logged in yet
            let known = mirrors.hosts().collect::<Vec<_>>().join(", ");
            let failure = Failure::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, error.to_string());
            failure.caused_by(format!("{error}; the configuration serves {known}"))
        };
        let meant = mirrors.meant(&name, host.as_deref()).map_err(unknown)?;
        Ok(meant.map(|meant| {
            action.set_name(meant.name.clone());
            Self { name, means: meant.name, host: meant.host }
        }))
    }

    /// Tells the client that the registry that it named counted.
    pub(super) fn tell<B>(&self, response: &mut Response<B>) {
        if let Some(host) = self.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok()) {
            response.headers_mut().insert(OCI_NAMESPACE, host);
        }
    }
}
