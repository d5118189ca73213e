//! Maps each action to its handler.

use http::Response;

use super::{blobs, body::Body, call::Call, failure::Failure, health, limits::Slot, lists, manifests, uploads};
use crate::{action::Action, policy::Permit};

/// Calls the handler of a permitted action.
///
/// The handlers of writes are boxed: their futures are large, and a pull should not carry their size.
pub(super) async fn dispatch(call: Call<'_>, permit: Permit, slot: Slot) -> Result<Response<Body>, Failure> {
    match permit.into_action() {
        Action::GetApiVersion => Ok(lists::api_version()),
        Action::GetMetrics => Ok(health::metrics(&call)),
        Action::ListCatalog { page } => Box::pin(lists::catalog(&call, &page)).await,
        Action::ListTags { name, page } => Box::pin(lists::tags(&call, &slot, &name, &page)).await,
        Action::GetTagHistory { name, tag, page } => Box::pin(lists::tag_history(&call, &name, &tag, &page)).await,
        Action::GetReferrers { name, digest, artifact_type, page } => {
            Box::pin(lists::referrers(&call, &slot, &name, &digest, artifact_type.as_deref(), &page)).await
        }
        Action::GetManifest { name, reference, head } => manifests::get(&call, &slot, &name, &reference, head).await,
        Action::PutManifest { name, reference, tags } => {
            Box::pin(manifests::put(call, &slot, &name, reference, tags)).await
        }
        Action::DeleteManifest { name, reference } => Box::pin(manifests::delete(&call, &name, &reference)).await,
        Action::GetBlob { name, digest, head } => blobs::get(&call, &slot, &name, &digest, head).await,
        Action::DeleteBlob { name, digest } => Box::pin(blobs::delete(&call, &name, &digest)).await,
        Action::MountBlob { name, digest, from } => {
            Box::pin(uploads::mount(&call, &name, &digest, from.as_ref())).await
        }
        Action::StartUpload { name, digest: Some(digest), .. } if uploads::has_body(&call) => {
            Box::pin(uploads::put_at_once(call, &slot, &name, &digest)).await
        }
        Action::StartUpload { name, algorithm, .. } => Box::pin(uploads::start(&call, &name, algorithm)).await,
        Action::GetUpload { name, upload, .. } => Box::pin(uploads::status(&call, &name, &upload)).await,
        Action::UpdateUpload { name, upload, .. } => Box::pin(uploads::update(call, &slot, &name, &upload)).await,
        Action::CompleteUpload { name, upload, digest, .. } => {
            Box::pin(uploads::complete(call, &slot, &name, &upload, &digest)).await
        }
        Action::CancelUpload { name, upload, .. } => Box::pin(uploads::cancel(&call, &name, &upload)).await,
    }
}
