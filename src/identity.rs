//! Who asks.

use std::{fmt, net::IpAddr};

/// The facts that are known of a request's sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The address that the connection comes from.
    pub client_ip: IpAddr,
}

impl Identity {
    /// Somebody of whom nothing but the address is known.
    #[must_use]
    pub const fn anonymous(client_ip: IpAddr) -> Self {
        Self { client_ip }
    }
}

impl fmt::Display for Identity {
    /// The name under which records and logs know this identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anonymous")
    }
}
