//! One upstream: sends requests, logs in, follows redirects.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Client, Response, Url};
use tokio::time::timeout;

use super::{
    addresses::{Guard, REFUSED, Resolver, host_of},
    failure::{Reason, cause},
    health::{Ask, Health},
    login::{Challenge, Credentials, Token, Tokens, may_see_credentials, scope, token_url},
    rests::retry_after,
    settings::{Settings, Unusable, client},
};
use crate::{
    memory::Memory,
    oci::{Digest, Name},
};

/// The largest answer of a realm, in bytes.
const LARGEST_TOKEN: u64 = 256 * 1024;

/// One upstream. It remembers tokens, limits and failures.
pub struct Upstream {
    settings: Settings,
    /// The client of the upstream. It has the client certificate.
    own: Client,
    /// The client of hosts that may see the credentials. It has the client certificate.
    related: Client,
    /// The client of all other hosts.
    strangers: Client,
    guard: Arc<Guard>,
    tokens: Tokens,
    /// Set once the upstream asked for Basic.
    basic: OnceLock<HeaderValue>,
    pub(super) health: Arc<Health>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A request to an upstream.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) ask: Ask,
    /// The repository, as the upstream names it.
    pub(super) repository: &'a Name,
    /// The path after the repository.
    pub(super) tail: &'a str,
    pub(super) query: Option<&'a str>,
    /// Headers beside `Authorization`.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Upstream {
    /// Prepares an upstream, which remembers tokens in `memory`. It asks nothing.
    ///
    /// # Errors
    /// [`Unusable`] if the certificates or the key cannot be used.
    pub fn new(settings: Settings, memory: &Arc<Memory>) -> Result<Self, Unusable> {
        let named = settings.redirect_hosts.iter().chain(&settings.token_hosts).cloned().collect();
        let guard = Guard::new(settings.base.root(), named);
        let identity = settings.client_identity.as_ref();
        let own = client(&settings, Resolver::of_the_upstream(&guard), identity)?;
        let strangers = client(&settings, Resolver::of_others(&guard), None)?;
        let related = match identity {
            Some(_) => client(&settings, Resolver::of_others(&guard), identity)?,
            None => strangers.clone(),
        };
        let (tokens, basic, health) = (Tokens::new(memory), OnceLock::new(), Arc::new(Health::new()));
        Ok(Self { settings, own, related, strangers, guard, tokens, basic, health })
    }

    /// Shares limits and failures with the first of these upstreams that asks the same host with the same login.
    #[must_use]
    pub(super) fn sharing<'a>(mut self, mut known: impl Iterator<Item = &'a Arc<Self>>) -> Self {
        if let Some(known) = known.find(|known| known.settings.is_same_client(&self.settings)) {
            self.health = Arc::clone(&known.health);
        }
        self
    }

    /// Notes whether a stream of a blob brought all of its bytes, and the right ones.
    pub fn note_stream(&self, blob: &Digest, is_good: bool) {
        self.health.note_stream(blob, is_good, Instant::now());
    }

    /// Returns the settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns whether everybody on the way can read the credentials.
    pub(super) fn sends_credentials_in_the_open(&self) -> bool {
        self.settings.credentials.is_some() && self.settings.base.root().scheme() == "http"
    }

    /// Returns the host, for messages, logs and metrics.
    #[must_use]
    pub fn host(&self) -> &str {
        self.settings.base.host()
    }

    /// Returns the requests that are left until the upstream refuses more, as it said last.
    #[must_use]
    pub fn remaining_requests(&self) -> Option<u64> {
        self.health.remaining()
    }

    /// Returns whether the upstream is left alone, since it failed too often.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.health.is_resting()
    }

    /// Returns the upstream's name for a repository. See [`Base::repository`].
    #[must_use]
    pub fn repository(&self, rest: &str) -> Option<Name> {
        self.settings.base.repository(rest)
    }

    /// Sends a request, and returns the answer with its status 2xx, whose body is still to come.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response, Reason> {
        let turn = self.health.begin(request.ask, Instant::now())?;
        let outcome = match timeout(self.settings.timeout, self.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Reason::Silent(self.settings.timeout)),
        };
        turn.note(&outcome, Instant::now());
        outcome
    }

    /// Sends a request, and logs in if the upstream asks for that. It logs in once, whatever the upstream says then.
    async fn exchange(&self, request: &Request<'_>) -> Result<Response, Reason> {
        let mut url = self.settings.base.url(&format!("{}/{}", request.repository, request.tail));
        url.set_query(request.query);
        let remembered = self.tokens.get(request.repository).or_else(|| self.basic.get().cloned());
        let first = self.follow(request, url.clone(), remembered.clone()).await?;
        // a host behind a redirect has no say in the login
        let wants_login = |answer: &Response| answer.status() == StatusCode::UNAUTHORIZED && self.is_own(answer.url());
        if !wants_login(&first) {
            return self.classify(first);
        }
        self.tokens.forget(request.repository);
        let challenge = Challenge::of(first.headers())?;
        drop(first);
        let (authorization, is_basic) = match challenge {
            Challenge::Basic => match self.settings.credentials.as_ref().and_then(Credentials::header) {
                None => return Err(Reason::Denied(401)),
                Some(header) if remembered.as_ref() == Some(&header) => return Err(Reason::CredentialsRefused),
                Some(header) => (header, true),
            },
            Challenge::Bearer { realm, service, scope: asked } => {
                let scope = scope(request.repository, asked.as_deref());
                let token = self.token(&realm, service.as_deref(), &scope).await?;
                let header = token.header();
                self.tokens.keep(request.repository, token);
                (header, false)
            }
        };
        let second = self.follow(request, url, Some(authorization.clone())).await?;
        if wants_login(&second) {
            self.tokens.forget(request.repository);
            return Err(if is_basic { Reason::CredentialsRefused } else { Reason::Denied(401) });
        }
        if is_basic {
            let _ = self.basic.set(authorization);
        }
        self.classify(second)
    }

    /// Gets a token of a realm, with the configured login if there is one.
    async fn token(&self, realm: &Url, service: Option<&str>, scope: &str) -> Result<Token, Reason> {
        let credentials = self.settings.credentials.as_ref();
        let own = self.settings.base.root();
        if is_less_safe(own, realm) {
            return Err(Reason::WithoutTls(host_of(realm)));
        }
        let is_trusted = may_see_credentials(realm, own, &self.settings.token_hosts);
        if credentials.is_some() && !is_trusted {
            return Err(Reason::Realm(host_of(realm)));
        }
        let url = token_url(realm, service, scope, credentials.map(|login| login.username.as_str()));
        if !self.guard.allows_url(&url) {
            return Err(Reason::Address(host_of(&url)));
        }
        let client = match is_trusted {
            true if self.is_own(&url) => &self.own,
            true => &self.related,
            false => &self.strangers,
        };
        let mut request = client.get(url.clone());
        if let Some(header) = credentials.and_then(Credentials::header) {
            request = request.header(header::AUTHORIZATION, header);
        }
        let answer = request.send().await.map_err(|error| self.connection(&error, &url))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if credentials.is_some() => {
                return Err(Reason::CredentialsRefused);
            }
            status => {
                let refusal = Self::refusal(status, answer.headers());
                if let Reason::Limited { retry_after } = refusal {
                    self.health.limit_all(retry_after, Instant::now());
                }
                return Err(refusal);
            }
        }
        let answer = self.whole(answer, LARGEST_TOKEN).await?;
        Token::read(&answer).ok_or_else(|| Reason::WrongAnswer("no token".to_owned()))
    }

    /// Sends a request, and follows redirects. Another origin than the upstream's gets no `Authorization`, and no client
    /// certificate.
    async fn follow(
        &self,
        request: &Request<'_>,
        mut url: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, Reason> {
        for _ in 0..=self.settings.max_redirect {
            if !self.guard.allows_url(&url) {
                return Err(Reason::Address(host_of(&url)));
            }
            let is_own = self.is_own(&url);
            let client = if is_own { &self.own } else { &self.strangers };
            let mut asked = client.request(request.method.clone(), url.clone());
            for (name, value) in &request.headers {
                asked = asked.header(name, value);
            }
            if let Some(authorization) = authorization.clone().filter(|_| is_own) {
                asked = asked.header(header::AUTHORIZATION, authorization);
            }
            let answer = asked.send().await.map_err(|error| self.connection(&error, &url))?;
            if is_own {
                self.health.note_limit(answer.headers(), Instant::now());
            }
            let Some(next) = redirect(&answer) else { return Ok(answer) };
            // an answer by tag has no digest to prove it, so the way must not become less safe
            if is_less_safe(&url, &next) {
                return Err(Reason::WithoutTls(host_of(&next)));
            }
            url = next;
        }
        Err(Reason::Redirects(self.settings.max_redirect))
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.settings.base.root().origin()
    }

    /// Returns the answer if its status is 2xx.
    fn classify(&self, answer: Response) -> Result<Response, Reason> {
        match answer.status() {
            status if status.is_success() => Ok(answer),
            // the upstream showed the way, so it has what another host refuses
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) if !self.is_own(answer.url()) => {
                Err(Reason::Status(status.as_u16()))
            }
            StatusCode::TOO_MANY_REQUESTS if !self.is_own(answer.url()) => {
                Err(Reason::LimitedBehind { host: host_of(answer.url()), retry_after: retry_after(answer.headers()) })
            }
            status => Err(Self::refusal(status, answer.headers())),
        }
    }

    fn refusal(status: StatusCode, headers: &HeaderMap) -> Reason {
        match status {
            StatusCode::NOT_FOUND => Reason::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Reason::Denied(status.as_u16()),
            StatusCode::TOO_MANY_REQUESTS => Reason::Limited { retry_after: retry_after(headers) },
            status => Reason::Status(status.as_u16()),
        }
    }

    /// Reads an answer whole, up to a limit.
    pub(super) async fn whole(&self, mut answer: Response, most: u64) -> Result<Bytes, Reason> {
        if answer.content_length().is_some_and(|length| length > most) {
            return Err(Reason::TooLarge(most));
        }
        let read = async {
            let mut bytes = BytesMut::new();
            let url = answer.url().clone();
            while let Some(chunk) = answer.chunk().await.map_err(|error| self.connection(&error, &url))? {
                if (bytes.len() + chunk.len()) as u64 > most {
                    return Err(Reason::TooLarge(most));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes.freeze())
        };
        // a drip of bytes is no silence, but a document is short
        let outcome = timeout(self.settings.timeout, read).await.unwrap_or(Err(Reason::Silent(self.settings.timeout)));
        self.health.note_document(&outcome, Instant::now());
        outcome
    }

    fn connection(&self, error: &reqwest::Error, url: &Url) -> Reason {
        let cause = cause(error);
        if error.is_timeout() {
            Reason::Silent(self.settings.timeout)
        } else if cause.ends_with(REFUSED) {
            Reason::Address(host_of(url))
        } else {
            Reason::Connection(cause)
        }
    }
}

/// Returns whether the way from one URL to the next one loses TLS.
fn is_less_safe(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// Returns the place that an answer redirects to.
fn redirect(answer: &Response) -> Option<Url> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let place = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let next = answer.url().join(place).ok()?;
    matches!(next.scheme(), "https" | "http").then_some(next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::base::Base, *};

    #[tokio::test]
    async fn a_realm_without_tls_is_not_asked_by_an_upstream_with_tls() {
        let settings = Settings {
            base: Base::parse("https://registry.example/v2/").unwrap(),
            max_redirect: 5,
            server_ca_bundle: None,
            client_identity: None,
            credentials: None,
            timeout: Duration::from_secs(1),
            token_hosts: Vec::new(),
            redirect_hosts: Vec::new(),
        };
        let upstream = Upstream::new(settings, &Memory::new(0)).unwrap();
        let realm = Url::parse("http://127.0.0.1:1/token").unwrap();
        let refused = upstream.token(&realm, None, "repository:a:pull").await.err();
        assert_eq!(refused, Some(Reason::WithoutTls("127.0.0.1".to_owned())));
    }
}
