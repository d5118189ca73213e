//! Answers `/token`: gives a bearer token for a password, a client certificate or nothing.
//!
//! `GET` is that of Docker's token authentication, `POST` that of OAuth 2.0 (RFC 6749 section 4.3). A token names the user
//! and limits the scope; policy decides each request anew.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{auth, body::Body, call::Call, endpoint::Endpoint, failure::Failure, lists};
use crate::{
    credentials::{Claims, Scopes},
    identity::User,
    oci::ErrorCode,
};

/// Pairs of names and values, in their order.
type Parameters = Vec<(String, String)>;

/// The most bytes of a form.
const LARGEST_FORM: usize = 40 << 10;
/// The longest time that a form may take to arrive.
const LONGEST_FORM: Duration = Duration::from_secs(10);
/// The most parameters of a query or form.
const MOST_PARAMETERS: usize = 200;

/// Answers a request for a token.
///
/// It takes neither a slot nor a place among the transfers, since it uses no store. It waits only for a password's turn, and
/// for a slow form and its memory. Each has a bound of its own, and none delays other requests.
pub(super) async fn answer(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    // otherwise a leaked token would buy new tokens for ever
    call.caller.forget_token();
    let scopes;
    match call.parts.method {
        Method::GET => {
            let query = parameters(call.parts.uri.query().unwrap_or_default())?;
            scopes = requested(&query)?;
        }
        Method::POST => {
            let _memory = call.service.limits.document(&call.holder, LARGEST_FORM as u64).await?;
            let form = call.body.clone().form(LARGEST_FORM);
            let bytes = tokio::time::timeout(LONGEST_FORM, form)
                .await
                .unwrap_or_else(|_| Err(bad("the form did not come in time")))?;
            let text = String::from_utf8(bytes).map_err(|_| bad("the form is not UTF-8"))?;
            let form = parameters(&text)?;
            scopes = requested(&form)?;
            if let Some(user) = granted(&call, &form).await? {
                call.caller.identity.user = Some(user);
            }
        }
        _ => {
            let message = "a token is asked for with GET, or with the POST of OAuth 2.0";
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message);
            return Err(failure.header(header::ALLOW, HeaderValue::from_static("GET, POST")));
        }
    }
    issue(&call, scopes)
}

/// Issues a token for the caller.
fn issue(call: &Call<'_>, scopes: Scopes) -> Result<Response<Body>, Failure> {
    let Some(signer) = call.snapshot.signer() else { return Err(bad("this registry gives no tokens")) };
    let identity = &call.caller.identity;
    let account = identity.user.as_ref().and_then(|user| {
        let account = call.snapshot.accounts().user(&user.id)?;
        Some((user.id.clone(), account.version().to_owned()))
    });
    let ttl = call.snapshot.config().token.ttl.as_secs();
    let now = SystemTime::now();
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let scope = scopes.to_string();
    let certificates = call.caller.certificates(call.peer);
    let token = signer.issue(&Claims { account, certificates, scopes, issued, expires: issued + ttl });
    if !identity.is_anonymous() {
        call.service.metrics.record_login(true);
    }
    call.decisions.login(identity, &Endpoint::Token, None);
    let issued_at = jiff::Timestamp::try_from(now).map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let answer = json!({
        "token": token,
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": ttl,
        "issued_at": issued_at.unwrap_or_default(),
        "scope": scope,
    });
    let mut response = lists::document("application/json", answer.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Verifies the form's grant and returns its user. A password in the header is verified as well.
async fn granted(call: &Call<'_>, form: &Parameters) -> Result<Option<Arc<User>>, Failure> {
    let value = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match value("grant_type") {
        Some("password") => {
            let (username, password) = (value("username").unwrap_or_default(), value("password").unwrap_or_default());
            if call.snapshot.accounts().is_empty() || auth::is_nobody(username, password) {
                return Ok(None);
            }
            let verified =
                auth::verify(call.service, call.snapshot, call.caller.identity.client_ip, username, password).await;
            verified.map(Some).map_err(|rejected| {
                call.service.metrics.record_login(false);
                call.decisions.login(&call.caller.identity, &Endpoint::Token, Some(rejected.reason()));
                rejected.failure(call.snapshot, call.peer, &call.parts)
            })
        }
        Some("refresh_token") => Err(bad("refresh tokens are not given; log in with a password (grant_type=password)")),
        _ => Err(bad("the form needs grant_type=password, with username and password")),
    }
}

/// Parses the requested scopes.
fn requested(parameters: &Parameters) -> Result<Scopes, Failure> {
    let scopes = parameters.iter().filter(|(name, _)| name == "scope").map(|(_, value)| value.as_str());
    Scopes::parse(scopes).map_err(|error| bad(error.to_string()))
}

/// Parses the pairs of a query or a form (`application/x-www-form-urlencoded`).
fn parameters(text: &str) -> Result<Parameters, Failure> {
    let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).take(MOST_PARAMETERS + 1).collect();
    if pairs.len() > MOST_PARAMETERS {
        return Err(bad(format!("there are more than {MOST_PARAMETERS} parameters")));
    }
    let decoded = |text: &str, what: &str| -> Result<String, Failure> {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| bad(format!("{what} is not UTF-8")))?;
        Ok(decoded.into_owned())
    };
    pairs
        .into_iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, "the name of a parameter")?;
            let value = decoded(value, &format!("the parameter {name:?}"))?;
            Ok((name, value))
        })
        .collect()
}

/// Returns 400.
fn bad(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
}
