//! Finds the caller of a request, by its connection and its `Authorization`, and answers 401 with a challenge.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderValue, StatusCode, header, request::Parts};
use secrecy::ExposeSecret as _;

use super::{
    failure::Failure,
    forwarded::{self, Origin},
    mirrored::Asked,
    peer::Peer,
    service::Service,
};
use crate::{
    action::Action,
    credentials::{self, Authorization, Claims, LoginError},
    identity::{Identity, User},
    oci::ErrorCode,
    snapshot::Snapshot,
};

/// The proven facts about the client of a request.
#[derive(Debug)]
pub(super) struct Caller {
    /// All facts together.
    pub(super) identity: Identity,
    /// The facts that the connection alone proves. Only these count outside of the token's scope.
    without_token: Option<Identity>,
    /// The token of the request.
    token: Option<Arc<Claims>>,
    /// The client's words for the repository, where it means one of another name.
    pub(super) asked: Option<Asked>,
}

/// The reason why a request's credentials are not accepted.
#[derive(Debug)]
pub(super) enum Rejected {
    /// The password is wrong, or there is no such user.
    Login {
        /// The claimed name.
        username: String,
    },
    /// Too many passwords are being verified.
    Busy,
    /// The token is invalid or no longer valid; in words.
    Token(String),
    /// The header is not understood.
    Malformed(String),
    /// The connection's certificate is no longer trusted, or one is needed; in words.
    Certificate(String),
}

impl Caller {
    /// Verifies the credentials of a request. An error comes with the facts that were proven before it.
    pub(super) async fn of(
        service: &Service,
        snapshot: &Snapshot,
        peer: &Peer,
        client_ip: IpAddr,
        parts: &Parts,
    ) -> Result<Self, (Rejected, Identity)> {
        let mut caller =
            Self { identity: Identity::anonymous(client_ip), without_token: None, token: None, asked: None };
        match caller.prove(service, snapshot, peer, parts).await {
            Ok(()) => Ok(caller),
            Err(rejected) => Err((rejected, caller.without_token.unwrap_or(caller.identity))),
        }
    }

    /// Adds the facts that the request proves, until one proof fails.
    async fn prove(
        &mut self,
        service: &Service,
        snapshot: &Snapshot,
        peer: &Peer,
        parts: &Parts,
    ) -> Result<(), Rejected> {
        self.identity.certificate = peer.certificate(snapshot).map_err(|why| {
            peer.close();
            Rejected::Certificate(why.0)
        })?;
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else { return Ok(()) };
        // credentials are ignored while no login is configured; a client may send those of another registry
        let Some(signer) = snapshot.signer() else { return Ok(()) };
        match credentials::parse_authorization(value).map_err(|error| Rejected::Malformed(error.to_string()))? {
            Authorization::Basic { .. } if snapshot.accounts().is_empty() => {}
            // clients without a login send both empty
            Authorization::Basic { username, password } if is_nobody(&username, password.expose_secret()) => {}
            Authorization::Basic { username, password } => {
                // boxed: most requests have a token or nothing
                let user =
                    Box::pin(verify(service, snapshot, self.identity.client_ip, &username, password.expose_secret()))
                        .await?;
                self.identity.user = Some(user);
            }
            Authorization::Bearer(token) => {
                let claims = signer.verify(&token).map_err(|error| Rejected::Token(error.to_string()))?;
                self.without_token = Some(self.identity.clone());
                self.add(snapshot, &claims)?;
                self.token = Some(claims);
            }
        }
        Ok(())
    }

    /// Drops the token and the facts that it proved.
    pub(super) fn forget_token(&mut self) {
        if let Some(without) = self.without_token.take() {
            self.identity = without;
        }
        self.token = None;
    }

    /// Adds the facts of a token, after checking that its account and certificate are still valid.
    fn add(&mut self, snapshot: &Snapshot, claims: &Claims) -> Result<(), Rejected> {
        if let Some((id, version)) = &claims.account {
            let account = snapshot.accounts().user(id).filter(|account| account.version() == version);
            let account = account.ok_or_else(|| {
                Rejected::Token("its identity was removed or has another password now; log in again".to_owned())
            })?;
            self.identity.user = Some(Arc::clone(&account.user));
        }
        if !claims.certificates.is_empty() {
            let certificate = snapshot.certificate_of_token(&claims.certificates);
            let certificate =
                certificate.map_err(|error| Rejected::Token(format!("the certificate it was given for: {error}")))?;
            self.identity.certificate.get_or_insert(certificate);
        }
        Ok(())
    }

    /// Returns the identity that counts for `action`, and true if the token's scope covers the action. Outside of the scope
    /// the token is ignored, so a token never takes a right away.
    pub(super) fn effective_identity(&self, action: &Action) -> (&Identity, bool) {
        match (&self.token, &self.without_token) {
            (Some(token), Some(without)) if !self.covers(token, action) => (without, false),
            _ => (&self.identity, true),
        }
    }

    /// Returns true if the request's token is for an action.
    pub(super) fn has_token_for(&self, action: &Action) -> bool {
        self.token.as_ref().is_some_and(|token| self.covers(token, action))
    }

    /// Returns whether a token's scope covers an action, under the repository's name or the client's name for it.
    fn covers(&self, token: &Claims, action: &Action) -> bool {
        let asked = self.asked.as_ref().filter(|asked| action.name() == Some(&asked.means));
        token.scopes.covers(action) || asked.is_some_and(|asked| token.scopes.covers_as(action, &asked.name))
    }

    /// Returns true if the request has no certificate, no password and no token.
    pub(super) const fn has_no_credentials(&self) -> bool {
        self.identity.is_anonymous() && self.token.is_none()
    }

    /// Returns the connection's certificates, for a token of this caller.
    pub(super) fn certificates(&self, peer: &Peer) -> Vec<Vec<u8>> {
        match self.identity.certificate {
            Some(_) => peer.chain().iter().map(|certificate| certificate.as_ref().to_vec()).collect(),
            None => Vec::new(),
        }
    }
}

/// Returns true for the credentials of a client that has none.
pub(super) const fn is_nobody(username: &str, password: &str) -> bool {
    username.is_empty() && password.is_empty()
}

/// Verifies a password.
pub(super) async fn verify(
    service: &Service,
    snapshot: &Snapshot,
    client: IpAddr,
    username: &str,
    password: &str,
) -> Result<Arc<User>, Rejected> {
    service.logins.verify(snapshot.accounts(), client, username, password).await.map_err(|error| match error {
        LoginError::Wrong => {
            // bounded, so that a client cannot flood the log
            Rejected::Login { username: username.chars().take(64).collect() }
        }
        LoginError::Busy => Rejected::Busy,
    })
}

/// Returns the realm for the challenge of this request, and the host: the configured realm, or `/token` at the scheme and
/// host that the client used.
fn realm(snapshot: &Snapshot, peer: &Peer, parts: &Parts) -> (String, String) {
    let config = snapshot.config();
    let Origin { is_https, host } = forwarded::origin(config, peer, parts);
    let bound = || SocketAddr::new(config.server.bind_address, config.server.port).to_string();
    let host = host.map_or_else(bound, Cow::into_owned);
    let realm = config.token.realm.clone();
    let realm = realm.unwrap_or_else(|| format!("{}://{host}/token", if is_https { "https" } else { "http" }));
    (realm, host)
}

/// Returns the challenge of RFC 6750 section 3, in the form of Docker's token authentication.
pub(super) fn challenge(
    snapshot: &Snapshot,
    peer: &Peer,
    parts: &Parts,
    scope: Option<&str>,
    error: Option<&'static str>,
) -> HeaderValue {
    let (realm, service) = realm(snapshot, peer, parts);
    let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
    for (name, value) in [("scope", scope), ("error", error)] {
        if let Some(value) = value {
            challenge.extend([",", name, "=\"", value, "\""]);
        }
    }
    HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// Returns 401 with a challenge.
pub(super) fn unauthorized(message: impl Into<String>, challenge: HeaderValue) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message).header(header::WWW_AUTHENTICATE, challenge)
}

impl Rejected {
    /// Returns the answer for the client.
    pub(super) fn failure(self, snapshot: &Snapshot, peer: &Peer, parts: &Parts) -> Failure {
        let challenge = |error| challenge(snapshot, peer, parts, None, error);
        match self {
            Self::Login { .. } => unauthorized("the username or the password is wrong; log in again", challenge(None)),
            Self::Busy => Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "more passwords are being verified than the registry takes at once; try again in a moment",
            )
            .retry_later(),
            Self::Token(why) => {
                unauthorized(format!("the token is not valid: {why}"), challenge(Some("invalid_token")))
            }
            Self::Malformed(why) => {
                unauthorized(format!("the Authorization header is not understood: {why}"), challenge(None))
            }
            Self::Certificate(why) => {
                let message = format!("the client certificate is not accepted: {why}; connect again with one that is");
                let failure = unauthorized(message, challenge(None));
                if peer.has_one_request_at_a_time() {
                    failure.header(header::CONNECTION, HeaderValue::from_static("close"))
                } else {
                    failure
                }
            }
        }
    }

    /// Returns the reason for the record of decisions.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Login { username } => format!("wrong password for {username:?}, or no such user"),
            Self::Busy => "too many passwords are being verified".to_owned(),
            Self::Token(why) => format!("invalid token: {why}"),
            Self::Malformed(why) => format!("malformed Authorization: {why}"),
            Self::Certificate(why) => format!("client certificate: {why}"),
        }
    }
}
