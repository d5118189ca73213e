//! Logs in to an upstream: the challenge of a 401, and the tokens that were got for it.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{addresses::host_of, failure::Reason};
use crate::{
    memory::{Memory, Part},
    oci::Name,
};

/// The lifetime of a token whose answer names none (Distribution token authentication, "Requesting a Token").
const DEFAULT_LIFETIME: u64 = 60;
/// The longest time for which a token is kept.
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);

/// A user name and a password. `Debug` leaves the password out.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for Credentials {}

impl Credentials {
    /// Returns the value of `Authorization` (RFC 7617).
    pub(super) fn header(&self) -> Option<HeaderValue> {
        sensitive(&http_auth::basic::encode_credentials(&self.username, self.password.expose_secret()))
    }
}

/// The login that an upstream asks for with 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user name and a password.
    Basic,
    /// A token of this realm.
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads the challenges of an answer. Bearer counts before Basic.
    ///
    /// # Errors
    /// [`Reason::Challenge`] if none of them is spoken here.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Reason> {
        let mut found = None;
        for value in headers.get_all(header::WWW_AUTHENTICATE) {
            let text = value.to_str().unwrap_or_default();
            for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
                let param = |name: &str| {
                    let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                    Some(value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
                    let Some(realm) = realm.filter(|realm| matches!(realm.scheme(), "https" | "http")) else {
                        continue;
                    };
                    return Ok(Self::Bearer { realm, service: param("service"), scope: param("scope") });
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    found = Some(Self::Basic);
                }
            }
        }
        found.ok_or(Reason::Challenge)
    }
}

/// Returns the URL of a request for a token, with the parameters that the challenge asks for.
pub(super) fn token_url(realm: &Url, service: Option<&str>, scope: &str, account: Option<&str>) -> Url {
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    if let Some(account) = account {
        query.append_pair("account", account);
    }
    query.append_pair("scope", scope);
    drop(query);
    url
}

/// Returns the scope to ask for. A challenge may name another one than usual, but none that gives more than pulls.
pub(super) fn scope(repository: &Name, asked: Option<&str>) -> String {
    let gives_pulls = |scope: &&str| scope.starts_with("repository") && scope.ends_with(":pull");
    let asked = asked.filter(|scope| !scope.contains(' ')).filter(gives_pulls);
    asked.map_or_else(|| format!("repository:{repository}:pull"), ToOwned::to_owned)
}

/// Returns whether a realm may see the credentials of an upstream: it is on the same registrable domain (by the public
/// suffix list), or named in `token_hosts`, and no less safe on the way.
pub(super) fn may_see_credentials(realm: &Url, upstream: &Url, token_hosts: &[String]) -> bool {
    let (realm_host, own_host) = (host_of(realm), host_of(upstream));
    let is_safe = realm.scheme() == "https" || upstream.scheme() == "http";
    let named = token_hosts.iter().any(|host| host.eq_ignore_ascii_case(&realm_host));
    let is_own = realm_host == own_host;
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
    let is_related = || {
        !is_address(&realm_host)
            && !is_address(&own_host)
            && psl::domain_str(&realm_host).is_some_and(|domain| psl::domain_str(&own_host) == Some(domain))
    };
    is_safe && (is_own || named || is_related())
}

/// The answer of a realm.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

/// A token, and the time for which it is used.
#[derive(Clone, Debug)]
pub(super) struct Token {
    header: HeaderValue,
    lasts: Duration,
}

impl Token {
    /// Reads the answer of a realm. A token is used for nine tenths of its lifetime, so that it does not end on the way.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        let answer: TokenAnswer = serde_json::from_slice(answer).ok()?;
        let token =
            answer.token.into_iter().chain(answer.access_token).find(|token| !token.expose_secret().is_empty())?;
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFETIME));
        let header = sensitive(&format!("Bearer {}", token.expose_secret()))?;
        Some(Self { header, lasts: (lifetime.min(2 * LONGEST_LIFETIME) * 9 / 10).min(LONGEST_LIFETIME) })
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// Makes a value that `Debug` leaves out.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The tokens of one upstream, by repository.
pub(super) struct Tokens(Part<Name, Token>);

impl Tokens {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self(Part::new(memory, |name, token| name.as_str().len() + token.header.len()))
    }

    pub(super) fn get(&self, repository: &Name) -> Option<HeaderValue> {
        self.0.get(repository).map(|token| token.header())
    }

    pub(super) fn keep(&self, repository: &Name, token: Token) {
        let lasts = Some(token.lasts);
        self.0.insert_for(repository.clone(), token, lasts);
    }

    pub(super) fn forget(&self, repository: &Name) {
        self.0.remove(repository);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Result<Challenge, Reason> {
        let values = values.iter().map(|value| (header::WWW_AUTHENTICATE, value.parse().unwrap()));
        Challenge::of(&values.collect())
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_challenge_is_read_in_each_form_that_registries_send() {
        let bearer = |service: Option<&str>, scope: Option<&str>| {
            let own = |text: Option<&str>| text.map(ToOwned::to_owned);
            Ok(Challenge::Bearer { realm: url("https://auth.example/token"), service: own(service), scope: own(scope) })
        };
        let scope = "repository:library/nginx:pull";
        let whole = format!("Bearer realm=\"https://auth.example/token\",service=\"a, b\",scope=\"{scope}\"");
        assert_eq!(challenge(&[&whole]), bearer(Some("a, b"), Some(scope)));
        assert_eq!(challenge(&["bearer Realm=\"https://auth.example/token\""]), bearer(None, None));
        assert_eq!(challenge(&["Basic realm=\"a\", Bearer realm=\"https://auth.example/token\""]), bearer(None, None));
        assert_eq!(
            challenge(&["Basic realm=\"a\"", "Bearer realm=\"https://auth.example/token\""]),
            bearer(None, None)
        );
        assert_eq!(challenge(&["Basic realm=\"a\""]), Ok(Challenge::Basic));
        for none in [&[][..], &["Negotiate"], &["Bearer realm=\"file:///etc/passwd\""], &["Bearer"], &["\"\"\",,="]] {
            assert_eq!(challenge(none), Err(Reason::Challenge), "{none:?}");
        }
    }

    #[test]
    fn credentials_go_to_the_registrable_domain_and_to_named_hosts_alone() {
        let may =
            |realm: &str, upstream: &str| may_see_credentials(&url(realm), &url(upstream), &["sso.example".to_owned()]);
        assert!(may("https://auth.docker.io/token", "https://registry-1.docker.io/v2/"));
        assert!(may("https://registry.corp.example/token", "https://registry.corp.example/v2/"));
        assert!(may("https://sso.example/token", "https://registry.corp.test/v2/"));
        assert!(may("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/v2/"));
        assert!(!may("https://docker.io.thief.example/token", "https://registry-1.docker.io/v2/"));
        assert!(!may("https://b.github.io/token", "https://a.github.io/v2/"));
        assert!(!may("https://thief.co.uk/token", "https://registry.co.uk/v2/"));
        assert!(!may("http://auth.docker.io/token", "https://registry-1.docker.io/v2/"));
        assert!(!may("https://10.0.0.1/token", "https://10.0.0.2/v2/"));
    }

    #[test]
    fn a_scope_gives_pulls_and_nothing_else() {
        let name: Name = "library/nginx".parse().unwrap();
        assert_eq!(scope(&name, None), "repository:library/nginx:pull");
        assert_eq!(scope(&name, Some("repository(plugin):other/name:pull")), "repository(plugin):other/name:pull");
        for more in ["repository:a:pull,push", "registry:catalog:*", "repository:a:pull repository:b:push"] {
            assert_eq!(scope(&name, Some(more)), "repository:library/nginx:pull");
        }
    }

    #[test]
    fn a_token_is_read_and_debug_does_not_show_it() {
        let token = Token::read(br#"{"token":"secret","expires_in":100}"#).unwrap();
        assert_eq!((token.header().to_str().unwrap(), token.lasts), ("Bearer secret", Duration::from_secs(90)));
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(Token::read(br#"{"token":"","access_token":"a"}"#).unwrap().header(), "Bearer a");
        let endless = Token::read(br#"{"token":"a","expires_in":18446744073709551615}"#).unwrap();
        assert_eq!(endless.lasts, LONGEST_LIFETIME);
        for none in [&b"{}"[..], b"<html>", br#"{"token":"a\nb"}"#] {
            assert!(Token::read(none).is_none());
        }
    }
}
