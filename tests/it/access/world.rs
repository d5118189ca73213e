//! Support for the tests of access: one server with a user, an authority, and repositories for each kind of rule.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use simple_registry::credentials::{Claims, Scopes, Signer, hash_password};
use simple_registry::memory::Memory;

use crate::shared::certificates::{Authority, Leaf};
use crate::support::client::{Client, Request};
use crate::support::server::{Backend, Server};

pub(super) const PASSWORD: &str = "a password of ana";

/// A server with one user, one authority, and repositories for each kind of rule.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) authority: Authority,
    pub(super) ci: Leaf,
    pub(super) revoked: Leaf,
    pub(super) expired: Leaf,
    pub(super) foreign: Authority,
    pub(super) foreign_ci: Leaf,
}

pub(super) const POLICIES: &str = r#"
access_policy.default_allow = false
access_policy.rules = ["request.access in ['admin', 'list'] && request.namespace == '' && identity.username == 'ana'"]
repository."*".access_policy.default_allow = false
repository.everyone.access_policy.default_allow = true
repository.nobody.access_policy.default_allow = false
repository.people.access_policy.default_allow = false
repository.people.access_policy.rules = ["identity.username == 'ana' && identity.groups.contains('staff')"]
repository.ci.access_policy.default_allow = false
repository.ci.access_policy.rules = ["identity.certificate.organizations.contains('ci')"]
repository.both.access_policy.default_allow = false
repository.both.access_policy.rules = ["identity.username == 'ana' && identity.certificate.organizations.contains('ci')"]
repository.tagged.access_policy.default_allow = true
repository.tagged.access_policy.rules = ["request.reference.startsWith('v') && identity.username != 'ana'",
    "size(request.tags) > 3", "request.upload_owner != '' && request.upload_owner != identity.username"]
repository.not-ci.access_policy.default_allow = true
repository.not-ci.access_policy.rules = ["identity.certificate.organizations.contains('ci')"]
"#;

pub(super) static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    pub(super) fn new() -> Self {
        let (authority, foreign) = (Authority::new("ours"), Authority::new("another's"));
        let (ci, revoked) = (authority.client_of("build-7", &["ci"]), authority.client_of("build-6", &["ci"]));
        let expired = authority.expired_client("build-5");
        let foreign_ci = foreign.client_of("build-7", &["ci"]);
        let directory = tempfile::tempdir().expect("a directory").keep();
        let (certificate, key) = authority.server().write(&directory, "server");
        let (bundle, list) = (directory.join("authority.pem"), directory.join("revoked.pem"));
        std::fs::write(&bundle, authority.pem()).expect("write");
        std::fs::write(&list, authority.revoked(&[&revoked])).expect("write");
        let settings = format!(
            "{POLICIES}\n[server.tls]\nserver_certificate_bundle = {certificate:?}\nserver_private_key = {key:?}\nclient_ca_bundle = {bundle:?}\n\
             client_crl = {list:?}\n[identity.ana]\nusername = \"ana\"\npassword = {:?}\ngroups = [\"staff\"]\n[token]\nsigning_key = {:?}\n\
             [audit]\nfile = {:?}\n",
            hash_password(PASSWORD).expect("a hash"),
            directory.join("token.key"),
            directory.join("audit.jsonl"),
        );
        let server = Server::start_plain(Backend::Directory, &settings);
        Self { server, authority, ci, revoked, expired, foreign, foreign_ci }
    }

    pub(super) fn anonymous(&self) -> Client {
        self.server.client().with_tls(self.authority.client_config(None))
    }

    pub(super) fn with(&self, certificate: &Leaf) -> Client {
        self.server.client().with_tls(self.authority.client_config(Some(certificate)))
    }

    pub(super) fn setting(&self, table: &str, key: &str) -> String {
        let config: toml::Table = std::fs::read_to_string(self.server.configuration_file()).unwrap().parse().unwrap();
        config[table][key].as_str().unwrap().to_owned()
    }

    /// Returns a token of ana that expired an hour ago, signed with the server's own key. Its scope covers all requests.
    pub(super) fn expired_token(&self) -> String {
        // the key is there since the server started
        let signer = Signer::load_or_create(self.setting("token", "signing_key").as_ref(), &Memory::new(0))
            .expect("the server's key");
        let valid = self.anonymous().with_password("ana", PASSWORD).send(Request::get("/token")).expect(200);
        let claims = signer.verify(valid.json()["token"].as_str().unwrap()).expect("a token of this server");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let scopes = Scopes::parse(SCOPES.iter().copied()).expect("scopes");
        signer.issue(&Claims {
            account: claims.account.clone(),
            certificates: Vec::new(),
            scopes,
            issued: now - 7200,
            expires: now - 3600,
        })
    }
}

pub(super) const SCOPES: [&str; 8] = [
    "repository:everyone/app:*",
    "repository:nobody/app:*",
    "repository:people/app:*",
    "repository:ci/app:*",
    "repository:both/app:*",
    "repository:not-ci/app:*",
    "registry:catalog:*",
    "registry:metrics:*",
];

pub(super) fn token(client: &Client) -> String {
    let scopes: Vec<String> = SCOPES.iter().map(|scope| format!("scope={scope}")).collect();
    let answer = client.send(Request::get(format!("/token?service=x&{}", scopes.join("&")))).expect(200).json();
    assert_eq!(answer["token"], answer["access_token"]);
    assert!(answer["expires_in"].as_u64().unwrap() >= 60);
    answer["token"].as_str().unwrap().to_owned()
}
