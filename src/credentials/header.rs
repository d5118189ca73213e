//! Parses the `Authorization` header: RFC 9110 (section 11.6.2), Basic by RFC 7617, Bearer by RFC 6750 (section 2.1).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderValue;
use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest value, in bytes: that of a token with a long chain of certificates.
const LONGEST: usize = 64 * 1024 + 16;
/// The longest username and password in base64, in bytes, generously: longer ones than can be right are told so elsewhere.
const LONGEST_BASIC: usize = 8 * 1024;

/// Clients disagree about the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The credentials of a request. `Debug` leaves secrets out.
pub enum Authorization {
    /// A username and a password.
    Basic {
        /// The username, which may be empty, and may be anything.
        username: String,
        /// The password, which may be empty too.
        password: SecretString,
    },
    /// A token.
    Bearer(String),
}

/// The reason why an `Authorization` header proves nothing. No reason shows a part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// The header is longer than any password or token of this registry.
    #[error("the Authorization header is too long")]
    TooLong,
    /// Another scheme, or none.
    #[error("the Authorization header is neither Basic nor Bearer")]
    Scheme,
    /// Basic, and not as RFC 7617 has it.
    #[error("the Basic credentials are not base64 of <username>:<password> in UTF-8 without control characters")]
    Basic,
    /// Bearer, and not as RFC 6750 has it.
    #[error("the Bearer token has characters that no token has, or none at all")]
    Bearer,
}

/// Reads the header's value.
pub fn parse_authorization(value: &HeaderValue) -> Result<Authorization, AuthorizationError> {
    let value = value.as_bytes();
    if value.len() > LONGEST {
        return Err(AuthorizationError::TooLong);
    }
    let end = value.iter().position(|byte| *byte == b' ').ok_or(AuthorizationError::Scheme)?;
    let (scheme, rest) = value.split_at(end);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"basic") {
        basic(rest)
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        bearer(rest)
    } else {
        Err(AuthorizationError::Scheme)
    }
}

fn basic(encoded: &[u8]) -> Result<Authorization, AuthorizationError> {
    if encoded.len() > LONGEST_BASIC {
        return Err(AuthorizationError::TooLong);
    }
    let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| AuthorizationError::Basic)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| AuthorizationError::Basic)?;
    let (username, password) = text.split_once(':').ok_or(AuthorizationError::Basic)?;
    if text.contains(char::is_control) {
        return Err(AuthorizationError::Basic);
    }
    Ok(Authorization::Basic { username: username.to_owned(), password: password.into() })
}

fn bearer(token: &[u8]) -> Result<Authorization, AuthorizationError> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let length = token.iter().position(|byte| *byte == b'=').unwrap_or(token.len());
    let (body, padding) = token.split_at(length);
    let is_token = !body.is_empty() && body.iter().all(is_part) && padding.iter().all(|byte| *byte == b'=');
    let text = is_token.then(|| std::str::from_utf8(token).ok()).flatten();
    text.map(|text| Authorization::Bearer(text.to_owned())).ok_or(AuthorizationError::Bearer)
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish_non_exhaustive(),
            Self::Bearer(_) => f.debug_tuple("Bearer").finish_non_exhaustive(),
        }
    }
}
