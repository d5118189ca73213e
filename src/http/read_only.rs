//! Refuses pushes to repositories that are caches.

use http::{HeaderValue, StatusCode, header};

use super::{call::Call, failure::Failure};
use crate::{action::Action, oci::ErrorCode};

/// Returns 405 for an action that would add content to a cache, or under a name that means another repository. Deletes drop
/// the cached copy, so they stay possible.
pub(super) fn check(call: &Call<'_>, action: &Action) -> Result<(), Failure> {
    let (name, allow) = match action {
        Action::PutManifest { name, .. } | Action::UpdateUpload { name, .. } | Action::CompleteUpload { name, .. } => {
            (name, "GET, HEAD, DELETE")
        }
        Action::StartUpload { name, .. } | Action::MountBlob { name, .. } => (name, ""),
        _ => return Ok(()),
    };
    let refused = |message: String| {
        let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message);
        Err(failure.header(header::ALLOW, HeaderValue::from_static(allow)))
    };
    if let Some(namespace) = call.snapshot.mirrors().claimed(name) {
        return refused(format!(
            "{name} is a name of Docker Hub, and readers of such names get {namespace}/{name} (mirror_of); push to a name whose \
             first part has a dot, such as team.example/app"
        ));
    }
    let Some(cached) = call.snapshot.caches().of(name) else { return Ok(()) };
    let upstreams = cached.namespace.upstreams.hosts().collect::<Vec<_>>().join(", ");
    let next = match name.as_str().strip_suffix(&cached.rest).unwrap_or_default().trim_end_matches('/') {
        "" => "push to another registry: this one is a cache for all names".to_owned(),
        namespace => format!("push to a repository outside of {namespace}"),
    };
    refused(format!("{name} is a cache of {upstreams} and takes no pushes; {next}"))
}
