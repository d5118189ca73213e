//! Makes and verifies tokens: JSON Web Tokens (RFC 7519), signed with HMAC-SHA256 (RFC 7515, RFC 7518 section 3.2).
//! Clients treat them as plain text.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key_file::{self, KeyError};
use super::scopes::Scopes;
use crate::memory::{Memory, Part};

/// The maker and the audience of tokens: this registry, and only this kind of token.
const ISSUER: &str = "simple-registry";
const AUDIENCE: &str = "simple-registry:v2";
/// The longest token, in bytes. A chain of certificates takes some KiB.
const LONGEST: usize = 64 * 1024;

/// Makes tokens, and knows its own.
pub struct Signer {
    sign: EncodingKey,
    check: DecodingKey,
    validation: Validation,
    warning: Option<String>,
    /// Tokens that were found good, by their SHA-256, until they expire.
    good: Part<[u8; 32], Arc<Claims>>,
}

/// The content of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The account whose password the token was given for: its id, and its version at that time.
    pub account: Option<(String, String)>,
    /// The chain of certificates that it was given for, DER, the client's first; to be verified anew at each use.
    pub certificates: Vec<Vec<u8>>,
    /// The limit of the token's use.
    pub scopes: Scopes,
    /// The time of issue, in seconds since 1970.
    pub issued: u64,
    /// The time of expiry, in seconds since 1970.
    pub expires: u64,
}

/// The reason why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is no token of this registry.
    #[error("it is not a token of this registry")]
    Malformed,
    /// Another key has signed the token, or somebody has changed it.
    #[error("its signature is wrong")]
    Signature,
    /// The token has expired.
    #[error("it has expired")]
    Expired,
}

/// The claims as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    /// The id and the version of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<(String, String)>,
    /// Base64 of the DER, as in the header of that name (RFC 7515, section 4.1.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
}

impl Signer {
    /// Builds a signer with the key of a file, and makes the file if there is none. It remembers good tokens in `memory`.
    pub fn load_or_create(path: &Path, memory: &Arc<Memory>) -> Result<Self, KeyError> {
        let (key, warning) = key_file::load_or_create(path)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_exp = false; // done here, to the second, for remembered tokens too
        let weigh = |_: &[u8; 32], claims: &Arc<Claims>| {
            claims.certificates.iter().map(|der| der.len() + 24).sum::<usize>() + claims.scopes.weight() + 100
        };
        Ok(Self {
            sign: EncodingKey::from_secret(key.as_slice()),
            check: DecodingKey::from_secret(key.as_slice()),
            validation,
            warning,
            good: Part::new(memory, weigh),
        })
    }

    /// Returns a fault of the key's file that does not prevent its use.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Returns a token with this content.
    ///
    /// # Panics
    /// It does not: claims can always be written and signed.
    #[must_use]
    pub fn issue(&self, claims: &Claims) -> String {
        let written = Written {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: claims.issued,
            exp: claims.expires,
            account: claims.account.clone(),
            x5c: claims.certificates.iter().map(|der| STANDARD.encode(der)).collect(),
            scope: claims.scopes.to_string(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &written, &self.sign)
            .expect("claims of text and numbers can be written as JSON, and HMAC signs everything")
    }

    /// Returns the content of a token, if it is one of this signer's and not expired.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let key: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.good.get(&key);
        let is_new = remembered.is_none();
        let claims = match remembered {
            Some(claims) => claims,
            None => Arc::new(self.read(token)?),
        };
        if now() >= claims.expires {
            return Err(TokenError::Expired);
        }
        if is_new {
            let left = Duration::from_secs(claims.expires.saturating_sub(now()));
            self.good.insert_for(key, Arc::clone(&claims), Some(left));
        }
        Ok(claims)
    }

    fn read(&self, token: &str) -> Result<Claims, TokenError> {
        let data =
            jsonwebtoken::decode::<Written>(token, &self.check, &self.validation).map_err(|error| {
                match error.kind() {
                    ErrorKind::InvalidSignature => TokenError::Signature,
                    _ => TokenError::Malformed,
                }
            })?;
        let Written { iat, exp, account, x5c, scope, .. } = data.claims;
        let certificates = x5c.iter().map(|text| STANDARD.decode(text)).collect::<Result<_, _>>();
        Ok(Claims {
            account,
            certificates: certificates.map_err(|_| TokenError::Malformed)?,
            scopes: own_scopes(&scope)?,
            issued: iat,
            expires: exp,
        })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("warning", &self.warning).finish_non_exhaustive()
    }
}

/// Seconds since 1970; 0 before.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads the scopes of a token, which this registry has written: nothing in them is left out.
fn own_scopes(text: &str) -> Result<Scopes, TokenError> {
    let scopes = Scopes::parse(std::iter::once(text)).map_err(|_| TokenError::Malformed)?;
    if scopes.to_string() == text { Ok(scopes) } else { Err(TokenError::Malformed) }
}
