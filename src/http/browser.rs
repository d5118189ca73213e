//! Refuses requests that a website makes with the browser of somebody who may use the registry.
//!
//! A browser tells where a request comes from, in `Sec-Fetch-Site` and `Origin`. No client of a registry sends either. A
//! website may also take a name of its own and point it at 127.0.0.1. A server that is open to everyone on its machine
//! therefore answers only to names that it knows.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderName, Method, StatusCode, header, request::Parts};

use super::{failure::Failure, forwarded, peer::Peer, purpose::Purpose};
use crate::{oci::ErrorCode, snapshot::Snapshot};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks that no website makes this request.
pub(super) fn check(snapshot: &Snapshot, peer: &Peer, parts: &Parts) -> Result<(), Failure> {
    let origin = forwarded::origin(snapshot.config(), peer, parts);
    let host = origin.host.unwrap_or_default();
    if !is_known(snapshot, peer, &host) {
        return Err(denied(format!(
            "this registry is open to everyone on its machine, and does not answer to the name {:?}; use localhost or an \
             address, or add the name to server.hosts",
            name_of(&host)
        )));
    }
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let foreign_site = |site: &[u8]| matches!(site, b"cross-site" | b"same-site");
    let foreign_origin = |origin: &[u8]| !str::from_utf8(origin).is_ok_and(|origin| is_own(origin, &host));
    let headers = &parts.headers;
    if headers.get_all(SEC_FETCH_SITE).iter().any(|value| foreign_site(value.as_bytes()))
        || headers.get_all(header::ORIGIN).iter().any(|value| foreign_origin(value.as_bytes()))
    {
        let message = "a website may change nothing here: the browser says that this request comes from another origin";
        return Err(denied(message.to_owned()));
    }
    Ok(())
}

fn denied(message: String) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
}

/// Returns true if the origin of a page is the registry itself, at `host`.
fn is_own(origin: &str, host: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let bare = |place: &str| place.strip_suffix(usual).unwrap_or(place).to_ascii_lowercase();
    !host.is_empty() && bare(place) == bare(host)
}

/// Returns true if the registry answers to this host. One with TLS or identities answers to every name, and so does one
/// that listens to other machines.
fn is_known(snapshot: &Snapshot, peer: &Peer, host: &str) -> bool {
    let config = snapshot.config();
    let is_open = snapshot.tls().is_none() && config.identity.is_empty() && config.server.bind_address.is_loopback();
    if !is_open || peer.purpose != Purpose::Main || forwarded::is_trusted(config, peer.address) {
        return true;
    }
    let name = name_of(host);
    // a request of HTTP/1.0 may name no host, and no browser speaks that
    name.is_empty()
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || config.server.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name))
        || own_names().iter().any(|known| known.eq_ignore_ascii_case(&name))
}

/// Returns the name in a host, in lower case, without port and without the dot of a complete name.
fn name_of(host: &str) -> Cow<'_, str> {
    let name = match forwarded::port_of(host) {
        Some(port) => &host[..host.len() - port.len() - 1],
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// Returns the name of this machine, and the name's first part.
fn own_names() -> Vec<String> {
    let system = rustix::system::uname();
    let Ok(name) = system.nodename().to_str() else { return Vec::new() };
    let first = name.split('.').next().unwrap_or(name);
    [name, first].into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
