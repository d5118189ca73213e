//! The reasons for which an upstream gave no answer.

use std::{fmt, time::Duration};

use crate::oci::Digest;

/// The reason for which one upstream gave no answer that counts. Another upstream may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The upstream does not have it.
    #[error("404")]
    NotFound,
    /// The upstream refuses this repository: 401 or 403. Some say that of names that do not exist.
    #[error("{0}, no access to this repository")]
    Denied(u16),
    /// The upstream refuses the credentials that the configuration gives.
    #[error("it refuses the configured credentials")]
    CredentialsRefused,
    /// The upstream wants a token of a host that gets no credentials.
    #[error("it sends the credentials to {0}; name that host in token_hosts if that is right")]
    Realm(String),
    /// The upstream wants a login of a kind that is not spoken here.
    #[error("it asks for a login that is neither Basic nor Bearer")]
    Challenge,
    /// Too many requests.
    #[error("429, too many requests")]
    Limited {
        /// The time after which the upstream may be asked again.
        retry_after: Duration,
    },
    /// Too many requests for another host, which the upstream redirects to. The upstream itself has no part in it.
    #[error("it leads to {host}, which says 429, too many requests")]
    LimitedBehind {
        /// The other host.
        host: String,
        /// The time after which that host may be asked again.
        retry_after: Duration,
    },
    /// The upstream was not asked, since the time of all questions of a pull was over.
    #[error("not asked, since the time for all upstreams was over")]
    NotAsked,
    /// The upstream was not asked, since it failed or refused too often a moment ago.
    #[error("not asked, since it {} a moment ago", if *.was_silent { "was silent" } else { "failed" })]
    Resting {
        /// Set if the last failure was silence.
        was_silent: bool,
    },
    /// Another status that is no answer.
    #[error("{0}")]
    Status(u16),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Bytes that come so slowly that others wait for their place.
    #[error("its bytes come too slowly")]
    TooSlow,
    /// No connection, or a broken one.
    #[error("no connection: {0}")]
    Connection(String),
    /// A redirect, or a realm, to an address that is not asked.
    #[error("it leads to {0}, which may not be asked; name that host in redirect_hosts if that is right")]
    Address(String),
    /// A redirect, or a realm, that is less safe on the way than the upstream.
    #[error("it leads to {0} without TLS")]
    WithoutTls(String),
    /// More redirects than `max_redirect`.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// The bytes are not those of the digest.
    #[error("its bytes have the digest {0}")]
    WrongDigest(Digest),
    /// An answer that is not what was asked for.
    #[error("its answer is {0}")]
    WrongAnswer(String),
    /// A blob of another size than the one that readers were told.
    #[error("its blob has another size than was said before")]
    WrongSize,
    /// A stream that ended well before the size that is known.
    #[error("its bytes ended too early")]
    CutShort,
    /// No memory for its answer, which too many others have.
    #[error("not read, since this registry has no memory left for it")]
    NoMemory,
    /// An answer that is larger than its limit.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(u64),
}

impl Reason {
    /// Returns one word for metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Denied(_) => "denied",
            Self::CredentialsRefused => "credentials-refused",
            Self::Limited { .. } | Self::LimitedBehind { .. } => "limited",
            Self::Resting { .. } | Self::NotAsked => "resting",
            Self::Status(_) => "status",
            Self::Silent(_) | Self::TooSlow => "silent",
            Self::Connection(_) | Self::CutShort => "connection",
            Self::NoMemory => "no-memory",
            Self::Realm(_) | Self::Challenge | Self::Address(_) | Self::WithoutTls(_) | Self::Redirects(_) => "refused",
            Self::WrongDigest(_) | Self::WrongAnswer(_) | Self::WrongSize | Self::TooLarge(_) => "wrong",
        }
    }

    /// Returns whether the upstream may be broken, so that it counts for its breaker.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Silent(_) | Self::Connection(_) => true,
            Self::Status(status) => *status >= 500,
            _ => false,
        }
    }

    /// Returns whether the upstream says that it has no such thing, or does not show it.
    fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound | Self::Denied(_))
    }

    /// Returns whether the upstream gave no answer in time, now or when it was last asked.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Resting { was_silent: true } | Self::NotAsked)
    }

    fn is_limit(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::LimitedBehind { .. })
    }
}

/// The longest text of a reason in a message, in characters. Parts of it are what an upstream says.
const LONGEST: usize = 300;

/// The outcome where no upstream gave an answer that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// The host of each upstream that was asked, in order, and its reason.
    pub reasons: Vec<(String, Reason)>,
}

/// The kind of an outcome without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every upstream that answered says that there is no such thing, and at least one answered.
    NotFound,
    /// The configuration is wrong: an upstream refuses its credentials.
    Configuration,
    /// An upstream had too many requests, and no other one has it.
    Limited,
    /// This registry had no memory for the answer.
    Busy,
    /// No upstream answered in time.
    Silent,
    /// Anything else: the upstreams cannot answer now.
    Unavailable,
}

impl Unanswered {
    /// Returns the kind of this outcome. Refused credentials count before everything else, since only people can mend
    /// them. An upstream that could not say keeps the others' absence from being the answer.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let reasons = || self.reasons.iter().map(|(_, reason)| reason);
        if reasons().any(|reason| matches!(reason, Reason::CredentialsRefused | Reason::Realm(_))) {
            return Kind::Configuration;
        }
        if reasons().any(|reason| *reason == Reason::NoMemory) {
            return Kind::Busy;
        }
        if !self.reasons.is_empty() && reasons().all(Reason::is_absence) {
            return Kind::NotFound;
        }
        if !self.reasons.is_empty() && reasons().all(|reason| reason.is_absence() || reason.is_limit()) {
            return Kind::Limited;
        }
        if !self.reasons.is_empty() && reasons().all(Reason::is_silence) {
            return Kind::Silent;
        }
        Kind::Unavailable
    }
}

impl Unanswered {
    /// Returns whether an upstream answered with a status that is none of the usual ones.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        self.reasons.iter().any(|(_, reason)| *reason == Reason::Status(status))
    }

    /// Returns whether an upstream was left alone for a while.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.reasons.iter().any(|(_, reason)| matches!(reason, Reason::Resting { .. }))
    }

    /// Returns the shortest time after which an upstream that had too many requests may be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let limited = self.reasons.iter().filter_map(|(_, reason)| match reason {
            Reason::Limited { retry_after } | Reason::LimitedBehind { retry_after, .. } => Some(*retry_after),
            _ => None,
        });
        limited.min()
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("no upstream was asked in time");
        }
        for (at, (host, reason)) in self.reasons.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            let reason: String = reason.to_string().chars().take(LONGEST).collect();
            write!(f, "{comma}{host}: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unanswered {}

/// Returns the innermost cause of an error, which has no URL in it.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(reasons: &[Reason]) -> Kind {
        Unanswered { reasons: reasons.iter().map(|reason| ("a".to_owned(), reason.clone())).collect() }.kind()
    }

    #[test]
    fn absence_is_the_answer_only_if_every_upstream_says_so() {
        let silent = Reason::Silent(Duration::from_secs(10));
        assert_eq!(kind(&[Reason::NotFound, Reason::Denied(401)]), Kind::NotFound);
        assert_eq!(kind(&[Reason::NotFound, silent.clone()]), Kind::Unavailable);
        assert_eq!(kind(&[silent.clone(), Reason::Resting { was_silent: true }]), Kind::Silent);
        assert_eq!(kind(&[Reason::Resting { was_silent: false }]), Kind::Unavailable);
        assert_eq!(kind(&[silent, Reason::Status(502)]), Kind::Unavailable);
        assert_eq!(kind(&[Reason::NotFound, Reason::CredentialsRefused]), Kind::Configuration);
        assert_eq!(kind(&[]), Kind::Unavailable);
        assert_eq!(kind(&[Reason::NoMemory, Reason::NotFound]), Kind::Busy);
        let limited = Reason::Limited { retry_after: Duration::from_secs(1) };
        assert_eq!(kind(&[Reason::NotFound, limited.clone()]), Kind::Limited);
        assert_eq!(kind(&[Reason::Status(502), limited]), Kind::Unavailable);
    }

    #[test]
    fn the_message_says_what_each_upstream_answered() {
        let reasons = vec![("a.example".to_owned(), Reason::NotFound), ("b.example".to_owned(), Reason::Denied(401))];
        assert_eq!(Unanswered { reasons }.to_string(), "a.example: 404; b.example: 401, no access to this repository");
        let reasons = vec![("a.example".to_owned(), Reason::Address("a".repeat(100_000)))];
        assert_eq!(Unanswered { reasons }.to_string().len(), "a.example: ".len() + LONGEST);
    }
}
