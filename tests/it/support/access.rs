//! The access of the tests: open, or over TLS with a password or a certificate, by `SIMPLE_REGISTRY_TEST_ACCESS`.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::ClientConfig;
use simple_registry::credentials::hash_password;
use toml::{Table, toml};

use super::client::Client;
use crate::shared::certificates::{Authority, Leaf};

/// The way in which a server lets its clients in, unless the test configures that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Plain HTTP, everything allowed to everyone.
    Open,
    /// TLS, everything allowed to one user with a password.
    Password,
    /// TLS, everything allowed to the certificates of one organization.
    Certificate,
}

const USERNAME: &str = "tester";
const PASSWORD: &str = "correct horse battery staple";

struct World {
    authority: Authority,
    server: Leaf,
    hash: String,
    tls: Arc<ClientConfig>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::new("the tests' authority");
    let client = authority.client_of("a test", &["testers"]);
    let own = (Access::chosen() == Access::Certificate).then_some(&client);
    let tls = authority.client_config(own);
    World { server: authority.server(), hash: hash_password(PASSWORD).expect("a hash"), tls, authority }
});

impl Access {
    /// Returns the access that the environment names.
    pub(crate) fn chosen() -> Self {
        match std::env::var("SIMPLE_REGISTRY_TEST_ACCESS").as_deref() {
            Ok("password") => Self::Password,
            Ok("certificate") => Self::Certificate,
            Ok("" | "open") | Err(_) => Self::Open,
            Ok(other) => panic!("SIMPLE_REGISTRY_TEST_ACCESS is open, password or certificate, not {other:?}"),
        }
    }

    /// Returns the part of a configuration for this access. Writes its files into `directory`.
    pub(crate) fn configuration(self, directory: &Path) -> Table {
        if self == Self::Open {
            return toml! {
                [access_policy]
                default_allow = true

                [repository."*".access_policy]
                default_allow = true
            };
        }
        let (certificate, key) = WORLD.server.write(directory, "server");
        let authority = directory.join("authority.pem");
        std::fs::write(&authority, WORLD.authority.pem()).expect("write the authority");
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let (authority, hash) = (authority.display().to_string(), WORLD.hash.clone());
        let token_key = directory.join("token.key").display().to_string();
        toml! {
            [server.tls]
            server_certificate_bundle = certificate
            server_private_key = key
            client_ca_bundle = authority

            [identity.tester]
            username = "tester"
            password = hash

            [token]
            signing_key = token_key

            [access_policy]
            default_allow = false
            rules = ["identity.username == 'tester' || identity.certificate.organizations.contains('testers')"]

            [repository."*".access_policy]
            default_allow = false
        }
    }

    /// Returns a client that is let in.
    pub(crate) fn client(self, address: &str) -> Client {
        let client = Client::new(address);
        match self {
            Self::Open => client,
            Self::Certificate => client.with_tls(Arc::clone(&WORLD.tls)),
            Self::Password => client.with_tls(Arc::clone(&WORLD.tls)).with_password(USERNAME, PASSWORD),
        }
    }
}
