//! Decides which addresses a connection may go to.
//!
//! A redirect or a realm is what an upstream says. Without a rule, an upstream could make this server ask machines that
//! only this server reaches. So a host that the configuration does not name must have a public address, after the name
//! was resolved. The connection goes to the addresses that were looked at, and to no others.
//!
//! An upstream in a private network may lead to its neighbours, but only if no stranger can own its name. The owner of a
//! public name decides which address the name has.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// The reach of an address: from where it can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Anybody may have it.
    Public,
    /// Loopback, a private network, or another one that is not the Internet's.
    Private,
    /// The link's own, or another one where clouds answer questions about a machine's credentials.
    Machine,
}

/// The addresses outside of the link's own where clouds answer their machines: those of Azure, Alibaba, Oracle and Amazon.
const CLOUDS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

impl Reach {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if CLOUDS.contains(&address) => Self::Machine,
            IpAddr::V4(address) if address.is_link_local() => Self::Machine,
            IpAddr::V4(address) if is_public_v4(address) => Self::Public,
            IpAddr::V6(address) if address.is_unicast_link_local() => Self::Machine,
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => Self::of(inner.into()),
                None if is_public_v6(address) => Self::Public,
                None => Self::Private,
            },
            IpAddr::V4(_) => Self::Private,
        }
    }
}

/// Returns whether the registry of special addresses (RFC 6890) has no entry for an address.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // RFC 6598, behind a carrier's translation
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !is_special
}

/// Returns whether an address is one of the Internet's: global unicast (RFC 4291, section 2.4), no documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b == 0xdb8 || b < 0x200))
}

/// Returns the IPv4 address that an address of 6to4 (RFC 3056) or NAT64 (RFC 6052) leads to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

/// The hosts that an upstream may lead to.
#[derive(Debug)]
pub(super) struct Guard {
    /// The upstream's own host and port.
    own: (String, Option<u16>),
    /// Hosts that the configuration names: `redirect_hosts` and `token_hosts`.
    named: Vec<String>,
    /// Set if the upstream leads to its neighbours in a private network.
    is_private: bool,
}

impl Guard {
    pub(super) fn new(own: &Url, named: Vec<String>) -> Arc<Self> {
        let host = host_of(own);
        let is_private = host.parse().map_or_else(|_| is_private_name(&host), |own| Reach::of(own) == Reach::Private);
        Arc::new(Self { own: (host, own.port_or_known_default()), named, is_private })
    }

    /// Returns whether a connection to a host may go to this address. `is_own` says that it goes to the upstream's port.
    fn allows(&self, host: &str, is_own: bool, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.is_private || (is_own && host == self.own.0) || self.names(host),
            Reach::Machine => false,
        }
    }

    /// Returns whether the configuration names a host.
    fn names(&self, host: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(host))
    }

    /// Returns whether a URL may be asked, as far as can be told before its host is resolved: an address in place of a
    /// name is never resolved.
    pub(super) fn allows_url(&self, url: &Url) -> bool {
        let host = host_of(url);
        let is_own = url.port_or_known_default() == self.own.1;
        host.parse().map_or(true, |address| self.allows(&host, is_own, address))
    }
}

/// Returns whether a name is of a private network: the public suffix list does not know its top-level domain.
fn is_private_name(host: &str) -> bool {
    !psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known())
}

/// Returns the host of a URL, an IPv6 address without brackets.
pub(super) fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase()
}

/// Resolves names to the addresses that the guard allows. A resolver is not told the port of a connection, so the
/// upstream's own port has a client of its own.
pub(super) struct Resolver {
    guard: Arc<Guard>,
    is_own: bool,
}

impl Resolver {
    /// Resolves the upstream's host for connections to the upstream's port.
    pub(super) fn of_the_upstream(guard: &Arc<Guard>) -> Self {
        Self { guard: Arc::clone(guard), is_own: true }
    }

    /// Resolves hosts for connections to all other ports, and to other hosts.
    pub(super) fn of_others(guard: &Arc<Guard>) -> Self {
        Self { guard: Arc::clone(guard), is_own: false }
    }
}

/// The message of a name that has only addresses that the guard refuses.
pub(super) const REFUSED: &str = "it has no address that may be asked";

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, is_own) = (Arc::clone(&self.guard), self.is_own);
        Box::pin(async move {
            let host = name.as_str().to_ascii_lowercase();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|found| guard.allows(&host, is_own, found.ip())).collect();
            if allowed.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, REFUSED).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Reach {
        Reach::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_public_private_or_the_machines() {
        for public in ["1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert_eq!(reach(public), Reach::Public, "{public}");
        }
        let private = [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "2001:db8::1",
            "2001::1",
        ];
        for private in private {
            assert_eq!(reach(private), Reach::Private, "{private}");
        }
        let machine = [
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.1.1",
            "64:ff9b::a9fe:a9fe",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "::ffff:168.63.129.16",
        ];
        for link in machine {
            assert_eq!(reach(link), Reach::Machine, "{link}");
        }
    }

    fn guard(own: &str, named: &[&str]) -> Arc<Guard> {
        Guard::new(&Url::parse(own).unwrap(), named.iter().map(|&named| named.to_owned()).collect())
    }

    #[test]
    fn a_stranger_must_be_public_and_the_links_own_address_is_never_asked() {
        let at = |guard: &Guard, host: &str, address: &str| guard.allows(host, true, address.parse().unwrap());
        let one = guard("https://registry.example.com/v2/", &["store.example.com"]);
        assert!(at(&one, "cdn.example.com", "1.1.1.1"));
        assert!(!at(&one, "cdn.example.com", "10.0.0.1"));
        assert!(at(&one, "store.example.com", "10.0.0.1"));
        assert!(!at(&one, "store.example.com", "169.254.169.254"));
    }

    #[test]
    fn an_upstream_leads_to_its_neighbours_only_if_no_stranger_can_own_its_name() {
        let private: IpAddr = "10.0.0.1".parse().unwrap();
        for own in ["registry", "registry.corp", "registry.local", "registry.ns.svc.cluster.local", "10.0.0.2"] {
            assert!(guard(&format!("http://{own}/v2/"), &[]).allows("store.corp", false, private), "{own}");
        }
        for own in ["registry.thief.com", "registry.github.io", "1.1.1.1"] {
            let one = guard(&format!("http://{own}/v2/"), &[]);
            // the name may have a private address, and others have none by that
            assert!(one.allows(own, true, private), "{own}");
            assert!(!one.allows(own, false, private), "{own} on another port");
            assert!(!one.allows("store.thief.com", true, private), "{own}");
            assert!(!one.allows(own, true, "169.254.169.254".parse().unwrap()), "{own}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_looked_at_as_well() {
        let allows = |guard: &Guard, url: &str| guard.allows_url(&Url::parse(url).unwrap());
        let one = guard("https://registry.example.com/v2/", &[]);
        assert!(allows(&one, "https://cdn.example.com/a"));
        assert!(allows(&one, "https://1.1.1.1/a"));
        // a number and an octal number are ways to write an address
        for refused in
            ["http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0177.0.0.1/", "http://[fe80::1]/"]
        {
            assert!(!allows(&one, refused), "{refused}");
        }
        assert!(allows(&guard("http://127.0.0.1:5000/v2/", &[]), "http://127.0.0.1:6000/"));
        assert!(!allows(&guard("http://127.0.0.1:5000/v2/", &[]), "http://169.254.169.254/"));
    }
}
