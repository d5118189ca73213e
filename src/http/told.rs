//! Tells the message of a failure where clients look that ask with `HEAD`, whose answer has no body: in the reason phrase of
//! HTTP/1.1 and in a `Warning` header.
//!
//! A refusal is told alone. To look for something that is not there is part of each push, and a challenge is part of each
//! login: a client that printed those would alarm people for nothing.

use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::ext::ReasonPhrase;

use super::body::Body;

/// The most bytes of a message in a header.
const LONGEST: usize = 1000;

/// Adds the message of a failure to the head of its answer.
pub(super) fn in_head(response: &mut Response<Body>, message: &str, version: Version) {
    let status = response.status();
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
        return;
    }
    let text = plain(message);
    if version <= Version::HTTP_11
        && let Ok(phrase) = ReasonPhrase::try_from(text.clone().into_bytes())
    {
        response.extensions_mut().insert(phrase);
    }
    if status != StatusCode::UNAUTHORIZED
        && let Ok(warning) = HeaderValue::try_from(format!("299 - \"{}\"", quoted(&text)))
    {
        response.headers_mut().insert(header::WARNING, warning);
    }
}

/// Returns a message in one line of printable ASCII.
pub(super) fn plain(message: &str) -> String {
    let line = message.chars().map(|letter| match letter {
        ' '..='~' => letter,
        letter if letter.is_whitespace() => ' ',
        _ => '?',
    });
    line.take(LONGEST).collect()
}

/// Escapes text for a quoted string (RFC 9110, section 5.6.4).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
