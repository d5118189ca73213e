//! Makes the id of a request, which its answer, log lines, records and spans share.

use std::fmt;

use http::HeaderValue;

/// The id of one request: the client's own, or a fresh random one.
///
/// Cheap to clone. Safe to log and to send back as it is: 1 to 128 characters of `[A-Za-z0-9._:/+=-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The header that an id comes in and goes out with, in lower case as HTTP/2 writes it.
    pub const HEADER: &'static str = "x-request-id";
    /// The most characters that an id from a client may have.
    pub const MAX_LEN: usize = 128;

    /// Returns the value of `X-Request-Id` if it is acceptable, and otherwise a fresh id.
    ///
    /// An id that is too long, or has other characters, is replaced. The request does not fail for it.
    #[must_use]
    pub fn from_header(value: Option<&HeaderValue>) -> Self {
        match value {
            Some(value) if is_acceptable(value.as_bytes()) => Self(value.clone()),
            _ => Self::fresh(),
        }
    }

    /// Generates a random id: a version 4 UUID (RFC 9562, section 5.4) as text.
    ///
    /// The thread's own generator makes the id without a system call. The id is a name, not a secret.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the claim cannot fail")]
    pub fn fresh() -> Self {
        let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let mut text = uuid::Uuid::encode_buffer();
        let text = uuid.hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).expect("the text of a UUID is hexadecimal digits and hyphens"))
    }

    /// Returns the id as text.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the claim cannot fail")]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("both constructors take visible ASCII alone")
    }

    /// Returns the id as the value of a header.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_acceptable(id: &[u8]) -> bool {
    (1..=RequestId::MAX_LEN).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(byte))
}
