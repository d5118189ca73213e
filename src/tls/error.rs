//! Describes faults in the files of `[server.tls]` to a person.

use std::fmt;
use std::path::Path;

/// All faults of the files that `[server.tls]` names.
///
/// `Display` names for each fault the configuration's key, the file, the broken rule and the next step. It shows
/// nothing of a private key, so it may be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsError {
    problems: Vec<Problem>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The key of the configuration, the file and the rule.
    says: String,
    /// The next step.
    help: String,
}

impl Problem {
    /// `says` goes on where the name of the file ends: `holds no certificate`.
    pub(super) fn of_file(key: &str, file: &Path, says: impl fmt::Display, help: impl Into<String>) -> Self {
        Self { says: format!("server.tls.{key}: {} {says}", file.display()), help: help.into() }
    }

    /// Makes a problem of a key, whatever is in the files.
    pub(super) fn of_key(key: &str, says: impl fmt::Display, help: impl Into<String>) -> Self {
        Self { says: format!("server.tls.{key}: {says}"), help: help.into() }
    }
}

impl TlsError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { says, help }) in self.problems.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "error: {says}\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for TlsError {}

/// The reason why a client's certificate is not accepted. `Display` is for logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The certificate, or one that it hangs on, is no longer valid.
    #[error("the client certificate, or one between it and its authority, has expired")]
    Expired,
    /// The certificate is not valid yet.
    #[error("the client certificate, or one between it and its authority, is not valid yet")]
    NotYetValid,
    /// A revocation list names it.
    #[error("the client certificate, or one between it and its authority, is revoked")]
    Revoked,
    /// No authority of `client_ca_bundle` vouches for it, or no client certificate is accepted at all.
    #[error("no authority of server.tls.client_ca_bundle has signed the client certificate")]
    UnknownIssuer,
    /// Anything else, in words.
    #[error("the client certificate is not acceptable: {0}")]
    Invalid(String),
}
