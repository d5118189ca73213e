//! Reads what trusted proxies say about a request: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, or else `Forwarded`
//! (RFC 7239).
//!
//! Each proxy adds its word on the right. So this reads from the right, as long as the speaker is a trusted proxy. The word
//! of the last trusted proxy counts: it alone saw the client. A header with fewer words than proxies was written by the
//! outer ones, so its first word counts then.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::peer::Peer;
use crate::config::Config;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The longest name of a host, with its port.
const LONGEST_HOST: usize = 300;

/// The words of the proxies about one fact, the outermost first. A word is in bytes: one that is no text must not hide the
/// words behind it.
type Words<'a> = Vec<Option<&'a [u8]>>;

/// The words about each fact.
struct Said<'a> {
    clients: Words<'a>,
    protocols: Words<'a>,
    hosts: Words<'a>,
    ports: Words<'a>,
}

/// The address of the registry as the client wrote it.
pub(super) struct Origin<'a> {
    /// True if the client speaks TLS to the registry, or to the outermost trusted proxy.
    pub(super) is_https: bool,
    /// The host, with its port if that is not the usual one. `None` if the request names none that could be.
    pub(super) host: Option<Cow<'a, str>>,
}

/// Returns the client's address: by the words of trusted proxies, or else the connection's other end.
pub(super) fn client_ip(config: &Config, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !is_trusted(config, peer) {
        return peer;
    }
    follow(config, peer, &Said::of(headers).clients).1
}

/// Returns the address of the registry as the client wrote it.
pub(super) fn origin<'a>(config: &Config, peer: &Peer, parts: &'a Parts) -> Origin<'a> {
    let own = parts.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let own = parts.uri.authority().map(|authority| authority.as_str().as_bytes()).or(own);
    if !is_trusted(config, peer.address) {
        return Origin { is_https: peer.is_secure, host: own.and_then(plain).map(Cow::Borrowed) };
    }
    let said = Said::of(&parts.headers);
    let (proxies, _) = follow(config, peer.address, &said.clients);
    let protocol = word(&said.protocols, proxies);
    let is_https = peer.is_secure || protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"https"));
    let host = word(&said.hosts, proxies).and_then(plain).or_else(|| own.and_then(plain)).map(Cow::Borrowed);
    let port = word(&said.ports, proxies).and_then(|port| str::from_utf8(port).ok()?.parse::<u16>().ok());
    let usual = if is_https { 443 } else { 80 };
    let host = host.map(|host| match port.filter(|port| *port != usual) {
        Some(port) if port_of(&host).is_none() => format!("{host}:{port}").into(),
        _ => host,
    });
    Origin { is_https, host }
}

/// Returns the word of the outermost of so many proxies.
fn word<'a>(words: &Words<'a>, proxies: usize) -> Option<&'a [u8]> {
    words.get(words.len().saturating_sub(proxies)).copied().flatten()
}

/// Returns true if an address is that of a trusted proxy.
pub(super) fn is_trusted(config: &Config, address: IpAddr) -> bool {
    config.server.trusted_proxies.iter().any(|network| network.contains(&address))
}

/// Returns the number of trusted proxies, and the client's address. A word that is no address ends the way, since nothing
/// further left can be trusted.
fn follow(config: &Config, peer: IpAddr, clients: &Words<'_>) -> (usize, IpAddr) {
    let (mut proxies, mut speaker) = (1, peer);
    for word in clients.iter().rev() {
        let Some(address) = word.and_then(address) else { break };
        speaker = address;
        if !is_trusted(config, address) {
            break;
        }
        proxies += 1;
    }
    (proxies, speaker)
}

/// Parses an address, with or without a port: `10.0.0.1`, `10.0.0.1:80`, `::1`, `[::1]`, `[::1]:80`.
fn address(word: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(word).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()))?;
    Some(address.to_canonical())
}

/// Returns a host of which each character may stand in a quoted header.
fn plain(host: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte);
    let host = str::from_utf8(host).ok()?;
    (!host.is_empty() && host.len() <= LONGEST_HOST && host.as_bytes().iter().all(is_plain)).then_some(host)
}

/// Returns the port behind a host.
pub(super) fn port_of(host: &str) -> Option<&str> {
    let (before, port) = host.rsplit_once(':')?;
    let is_port = !before.contains(':') || before.ends_with(']');
    (is_port && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

impl<'a> Said<'a> {
    /// Reads the headers. `Forwarded` counts only without any `X-Forwarded-` header: a proxy that writes the one passes on
    /// what a client sends as the other.
    fn of(headers: &'a HeaderMap) -> Self {
        let list = |name: &HeaderName| {
            let lines = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
            lines.map(|word| Some(word.trim_ascii())).collect()
        };
        if [FOR, PROTO, HOST, PORT].iter().any(|name| headers.contains_key(name)) {
            return Self { clients: list(&FOR), protocols: list(&PROTO), hosts: list(&HOST), ports: list(&PORT) };
        }
        let elements: Words<'a> = list(&header::FORWARDED);
        let of = |name: &[u8]| elements.iter().map(|element| element.and_then(|element| pair(element, name))).collect();
        Self { clients: of(b"for"), protocols: of(b"proto"), hosts: of(b"host"), ports: Vec::new() }
    }
}

/// Returns the value of a pair in an element of `Forwarded`, without quotes.
fn pair<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    element.split(|byte| *byte == b';').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        name.eq_ignore_ascii_case(wanted).then_some(value)
    })
}
