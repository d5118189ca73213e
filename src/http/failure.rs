//! Maps every error to the status, code and headers that a client gets. No other file does.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    body::Body,
    headers::{upload_location, upload_range},
    limits::Busy,
    open_uploads::{Full, FullOwner},
};
use crate::{
    action::ActionError,
    config::ImmutableRule,
    mirror,
    oci::{ErrorCode, Name, error_code::ErrorCode as Code},
    registry::Error,
    storage::FaultKind,
    upstream::Kind,
};

/// An error as an answer.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    details: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The cause, for the log alone.
    cause: Option<String>,
}

/// The seconds after which a client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// Creates a failure with a message for the client.
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Vec::new(), headers: Vec::new(), cause: None }
    }

    /// Adds a value for `detail`. Each value becomes an error of its own.
    fn detail(mut self, detail: Value) -> Self {
        self.details.push(detail);
        self
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`.
    pub(super) fn retry_later(self) -> Self {
        self.header(header::RETRY_AFTER, RETRY_AFTER)
    }

    /// Adds the cause for the log. The client does not see it.
    pub(super) fn caused_by(mut self, cause: String) -> Self {
        self.cause = Some(cause);
        self
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) const fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// Returns the cause, for the log.
    pub(super) fn cause(&self) -> &str {
        self.cause.as_deref().unwrap_or(&self.message)
    }

    /// Returns the answer in the specification's form.
    pub(super) fn into_response(self) -> Response<Body> {
        let error = |detail: Option<Value>| {
            let mut error = json!({ "code": self.code.as_str(), "message": self.message });
            if let Some(detail) = detail {
                error["detail"] = detail;
            }
            error
        };
        let errors: Vec<Value> = if self.details.is_empty() {
            vec![error(None)]
        } else {
            self.details.into_iter().map(|detail| error(Some(detail))).collect()
        };
        let text = json!({ "errors": errors }).to_string() + "\n";
        let length = HeaderValue::from(text.len());
        let mut response = Response::new(Body::whole(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, length);
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        let (status, code) = match &error {
            ActionError::NotFound => (StatusCode::NOT_FOUND, Code::Unsupported),
            ActionError::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported),
            ActionError::Name { .. } => (StatusCode::BAD_REQUEST, Code::NameInvalid),
            ActionError::Digest { .. } | ActionError::Query { name: "digest", .. } => {
                (StatusCode::BAD_REQUEST, Code::DigestInvalid)
            }
            ActionError::Tag { .. } => (StatusCode::BAD_REQUEST, Code::TagInvalid),
            ActionError::UploadId => (StatusCode::NOT_FOUND, Code::BlobUploadUnknown),
            ActionError::Query { .. }
            | ActionError::TooManyParameters
            | ActionError::LongParameter
            | ActionError::Encoding(_) => (StatusCode::BAD_REQUEST, Code::Unsupported),
        };
        let failure = Self::new(status, code, error.to_string());
        match error {
            ActionError::Method { allow, .. } => failure
                .header(header::ALLOW, HeaderValue::from_str(&allow).unwrap_or(HeaderValue::from_static("GET, HEAD"))),
            _ => failure,
        }
    }
}

impl From<Busy> for Failure {
    fn from(_: Busy) -> Self {
        let message = "the registry has more requests than it answers at once; try again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, message).retry_later()
    }
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        let (most, next) = (full.most, "complete or cancel one, or try again later");
        let message = match full.owner {
            FullOwner::Address => {
                format!("this address has {most} open uploads, as many as an address may have; log in, {next}")
            }
            FullOwner::Identity => {
                format!("this identity has {most} open uploads, as many as an identity may have; {next}")
            }
            FullOwner::Repository(name) => {
                format!("{name} has {most} open uploads, as many as a repository may have; {next}")
            }
        };
        let seconds = full.retry_after.as_secs().max(1);
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message);
        failure.header(header::RETRY_AFTER, seconds.into())
    }
}

impl Failure {
    /// Maps an error of the registry about the repository `name`.
    pub(super) fn about(name: &Name, error: Error) -> Self {
        match error {
            Error::OutOfOrder { ref id, offset, state } => {
                let status = crate::registry::UploadStatus { id: id.clone(), state, offset };
                let failure = Self::from(error);
                let failure = failure.header(header::LOCATION, upload_location(name, &status));
                failure.header(header::RANGE, upload_range(offset))
            }
            other => other.into(),
        }
    }
}

impl Failure {
    /// Returns 404 for damaged content, so that clients push it again; the message says why. Other errors stay as they are.
    pub(super) fn or_absent(code: ErrorCode, error: Error) -> Self {
        if !error.is_damage() {
            return error.into();
        }
        let message = "it is stored, but what is stored is damaged, and wrong bytes are never served; push it again, or tell \
                       the operator";
        Self::new(StatusCode::NOT_FOUND, code, message).caused_by(error.to_string())
    }

    /// Maps an error of the registry in a repository where `rule` makes tags immutable.
    pub(super) fn under(rule: &ImmutableRule, error: Error) -> Self {
        let (Error::TagImmutable { tag, digest, .. } | Error::TagKept { tag, digest, .. }) = &error else {
            return error.into();
        };
        let detail = json!({ "tag": tag, "digest": digest, "rule": rule.says(tag) });
        Self::from(error).detail(detail)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::BlobUnknown { .. } => (StatusCode::NOT_FOUND, Code::BlobUnknown),
            Error::ManifestUnknown { .. } | Error::GoneForGood { .. } => (StatusCode::NOT_FOUND, Code::ManifestUnknown),
            Error::NameUnknown(_) => (StatusCode::NOT_FOUND, Code::NameUnknown),
            Error::UploadUnknown(_) => (StatusCode::NOT_FOUND, Code::BlobUploadUnknown),
            Error::OutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid),
            Error::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, Code::DigestInvalid),
            Error::SizeMismatch { .. } => (StatusCode::BAD_REQUEST, Code::SizeInvalid),
            Error::TooLarge { what: "manifest", .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ManifestInvalid),
            Error::TooLarge { .. } | Error::TooManyChunks { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
            Error::Body(_) => (StatusCode::BAD_REQUEST, Code::BlobUploadInvalid),
            Error::ManifestInvalid(_) | Error::DescriptorSize { .. } => {
                (StatusCode::BAD_REQUEST, Code::ManifestInvalid)
            }
            Error::Missing { .. } => (StatusCode::NOT_FOUND, Code::ManifestBlobUnknown),
            Error::Needed { .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported),
            Error::Condition { .. } => (StatusCode::PRECONDITION_FAILED, Code::Denied),
            Error::TagImmutable { .. } | Error::TagKept { .. } | Error::TagDenied { .. } => {
                (StatusCode::FORBIDDEN, Code::Denied)
            }
            Error::TooSlow => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Error::Storage(error) => return storage(error),
        };
        let failure = Self::new(status, code, error.to_string());
        match error {
            Error::DigestMismatch { expected, computed } => {
                failure.detail(json!({ "expected": expected, "computed": computed }))
            }
            Error::Missing { missing, .. } => {
                missing.into_iter().fold(failure, |failure, digest| failure.detail(json!({ "digest": digest })))
            }
            Error::Needed { needed_by, .. } => failure
                .detail(json!({ "needed_by": needed_by }))
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
            Error::TooSlow => failure.retry_later(),
            _ => failure,
        }
    }
}

impl Failure {
    /// Maps an error of a cache about a blob.
    pub(super) fn of_blob(error: mirror::Error) -> Self {
        Self::of_cache(Code::BlobUnknown, error)
    }

    /// Maps an error of a cache. `unknown` is the code for what no upstream has.
    pub(super) fn of_cache(unknown: ErrorCode, error: mirror::Error) -> Self {
        let message = error.to_string();
        let unanswered = match error {
            mirror::Error::Registry(error) => {
                return match Arc::try_unwrap(error) {
                    Ok(error) => error.into(),
                    Err(error) => match &*error {
                        Error::Storage(error) => storage(error),
                        Error::TooLarge { .. } => Self::new(StatusCode::BAD_GATEWAY, Code::Unavailable, message),
                        _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message).retry_later(),
                    },
                };
            }
            mirror::Error::Unanswered { unanswered, .. } => unanswered,
            mirror::Error::Held(_) => return Self::new(StatusCode::FORBIDDEN, Code::Denied, message),
            mirror::Error::Busy => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, message).retry_later();
            }
            mirror::Error::WrongDigest { .. } => {
                return Self::new(StatusCode::BAD_GATEWAY, Code::Unavailable, message);
            }
            mirror::Error::Unfinished(_) => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message).retry_later();
            }
        };
        let (status, code) = match unanswered.kind() {
            Kind::NotFound => (StatusCode::NOT_FOUND, unknown),
            Kind::Limited => (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests),
            Kind::Configuration | Kind::Unavailable => (StatusCode::BAD_GATEWAY, Code::Unavailable),
            Kind::Busy => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, message).retry_later();
            }
            Kind::Silent => (StatusCode::GATEWAY_TIMEOUT, Code::Unavailable),
        };
        let failure = Self::new(status, code, message);
        match unanswered.retry_after() {
            None if unanswered.has_rest() => failure.retry_later(),
            None => failure,
            Some(time) => failure.header(header::RETRY_AFTER, time.as_secs().max(1).into()),
        }
    }
}

/// Maps a fault of storage. The log gets its cause; the client learns that the fault is the server's.
fn storage(error: &crate::storage::StorageError) -> Failure {
    let (status, code, message) = match error.kind {
        FaultKind::Damaged => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unknown,
            "what is stored is damaged, and wrong bytes are never served; push the content again, or tell the operator",
        ),
        FaultKind::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            "the registry's storage is full; try again when the operator has made room",
        ),
        FaultKind::Denied | FaultKind::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "the registry's storage does not answer; try again")
        }
    };
    let mut failure = Failure::new(status, code, message);
    failure.cause = Some(error.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE { failure.retry_later() } else { failure }
}
