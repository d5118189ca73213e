//! Refuses a head that a proxy in front of the server could read otherwise than the server does (RFC 9112, sections 3.2 and
//! 6.3; RFC 9113, section 8.3.1).

use http::{HeaderName, HeaderValue, StatusCode, Version, header, request::Parts, uri::Authority};

use super::failure::Failure;
use crate::oci::ErrorCode;

/// Headers of which a request has at most one.
const ONCE: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::RANGE,
];

/// Checks the head of a request.
pub(super) fn check(parts: &Parts) -> Result<(), Failure> {
    let Err(message) = examine(parts) else { return Ok(()) };
    let failure = Failure::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message);
    // where the next request begins may be as unclear
    let one_at_a_time = parts.version <= Version::HTTP_11;
    Err(if one_at_a_time { failure.header(header::CONNECTION, HeaderValue::from_static("close")) } else { failure })
}

fn examine(parts: &Parts) -> Result<(), String> {
    let headers = &parts.headers;
    for name in ONCE {
        let lines = headers.get_all(&name).iter().count();
        if lines > 1 {
            return Err(format!("the header {name} is there {lines} times; send it once"));
        }
    }
    let host = headers.get(header::HOST);
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err("a request of HTTP/1.1 has a Host header, and this one has none".to_owned());
    }
    if host.is_some_and(|host| !is_host(host)) {
        return Err("the Host header names no host; write a name or an address, with or without a port".to_owned());
    }
    let authority = parts.uri.authority().map(Authority::as_str);
    if let (Version::HTTP_2, Some(host), Some(authority)) = (parts.version, host, authority)
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        return Err("the Host header and :authority differ; send one of them, or the same in both".to_owned());
    }
    // hyper drops a Content-Length beside it, and closes the connection after the answer
    match headers.get(header::TRANSFER_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Err("the only transfer coding of this server is chunked, once".to_owned())
        }
        _ => Ok(()),
    }
}

/// Returns true for what a `Host` header may have. It is empty if the target has no host.
fn is_host(value: &HeaderValue) -> bool {
    value.is_empty() || (!value.as_bytes().contains(&b'@') && Authority::try_from(value.as_bytes()).is_ok())
}
