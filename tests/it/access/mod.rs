//! Access: every kind of sender, every action, every kind of rule, and the messages of refusals.

mod replayed;
mod tokens;
mod uploads;
mod world;

use base64::Engine as _;

use self::world::{PASSWORD, WORLD, token};
use crate::support::client::{Client, Request, Response};
use crate::support::content::{Image, unique};
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

/// A sender of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anonymous,
    AnonymousToken,
    WrongPassword,
    Password,
    Token,
    ExpiredToken,
    ForgedToken,
    Certificate,
    CertificateToken,
    ForeignCertificate,
    ExpiredCertificate,
    RevokedCertificate,
    Both,
}

const EVERYBODY: [Who; 13] = [
    Who::Anonymous,
    Who::AnonymousToken,
    Who::WrongPassword,
    Who::Password,
    Who::Token,
    Who::ExpiredToken,
    Who::ForgedToken,
    Who::Certificate,
    Who::CertificateToken,
    Who::ForeignCertificate,
    Who::ExpiredCertificate,
    Who::RevokedCertificate,
    Who::Both,
];

impl Who {
    fn client(self) -> Client {
        let world = &*WORLD;
        let anonymous = world.anonymous();
        match self {
            Self::Anonymous => anonymous,
            Self::AnonymousToken => anonymous.clone().with_token(&token(&anonymous)),
            Self::WrongPassword => anonymous.with_password("ana", "not her password"),
            Self::Password => anonymous.with_password("ana", PASSWORD),
            Self::Token => {
                let token = token(&anonymous.clone().with_password("ana", PASSWORD));
                anonymous.with_token(&token)
            }
            Self::ExpiredToken => anonymous.with_token(&world.expired_token()),
            Self::ForgedToken => {
                let valid = token(&anonymous.clone().with_password("ana", PASSWORD));
                let (signed, _) = valid.rsplit_once('.').unwrap();
                anonymous.with_token(&format!("{signed}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
            }
            Self::Certificate => world.with(&world.ci),
            // what a token says of a certificate holds on a connection without one
            Self::CertificateToken => anonymous.with_token(&token(&world.with(&world.ci))),
            Self::ForeignCertificate => {
                // it trusts our server, and shows what another authority gave it
                assert!(!world.foreign.pem().is_empty());
                world.with(&world.foreign_ci)
            }
            Self::ExpiredCertificate => world.with(&world.expired),
            Self::RevokedCertificate => world.with(&world.revoked),
            Self::Both => world.with(&world.ci).with_password("ana", PASSWORD),
        }
    }

    const fn is_refused_in_the_handshake(self) -> bool {
        matches!(self, Self::ForeignCertificate | Self::ExpiredCertificate | Self::RevokedCertificate)
    }

    const fn has_bad_credentials(self) -> bool {
        matches!(self, Self::WrongPassword | Self::ExpiredToken | Self::ForgedToken)
    }

    const fn is_ana(self) -> bool {
        matches!(self, Self::Password | Self::Token | Self::Both)
    }

    const fn is_ci(self) -> bool {
        matches!(self, Self::Certificate | Self::CertificateToken | Self::Both)
    }

    /// Returns whether the rules of a namespace let a sender in.
    fn may(self, namespace: &str) -> bool {
        match namespace {
            "everyone" => true,
            "people" | "" => self.is_ana(),
            "ci" => self.is_ci(),
            "both" => self.is_ana() && self.is_ci(),
            "not-ci" => !self.is_ci(),
            _ => false,
        }
    }
}

/// Returns a request for every action on repositories. None changes anything, since the things named are not there.
fn actions(namespace: &str) -> Vec<(&'static str, Request)> {
    let (repository, digest) = (format!("/v2/{namespace}/app"), format!("sha256:{}", "0".repeat(64)));
    let upload = format!("{repository}/blobs/uploads/2f1b1f3e-6a0f-4d6c-9f43-0a6a5a4b7c11");
    let manifest = format!("{repository}/manifests/{digest}");
    vec![
        ("list-tags", Request::get(format!("{repository}/tags/list"))),
        ("get-tag-history", Request::get(format!("{repository}/_history/v1"))),
        ("get-manifest", Request::get(&manifest)),
        ("get-manifest", Request::head(&manifest)),
        ("put-manifest", Request::put(&manifest).body("{}")),
        ("delete-manifest", Request::delete(&manifest)),
        ("get-referrers", Request::get(format!("{repository}/referrers/{digest}"))),
        ("get-blob", Request::get(format!("{repository}/blobs/{digest}"))),
        ("delete-blob", Request::delete(format!("{repository}/blobs/{digest}"))),
        ("start-upload", Request::post(format!("{repository}/blobs/uploads/"))),
        ("mount-blob", Request::post(format!("{repository}/blobs/uploads/?mount={digest}&from={namespace}/app"))),
        ("get-upload", Request::get(&upload)),
        ("update-upload", Request::patch(&upload).body("x")),
        ("complete-upload", Request::put(format!("{upload}?digest={digest}")).body("x")),
        ("cancel-upload", Request::delete(&upload)),
    ]
}

#[track_caller]
fn check(who: Who, namespace: &str, action: &str, answer: &Response) {
    let context = format!("{who:?} {action} {namespace}\n{answer:?}");
    let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
    if who.has_bad_credentials() {
        assert_eq!(answer.status, 401, "{context}");
        assert!(challenge.starts_with("Bearer realm=\"https://"), "{context}");
    } else if who.may(namespace) {
        assert!(!matches!(answer.status, 401 | 403 | 500..), "{context}");
    } else if matches!(who, Who::Anonymous | Who::AnonymousToken) {
        assert_eq!(answer.status, 401, "{context}");
        assert!(challenge.contains("/token\",service=\""), "{context}");
        assert!(challenge.contains("scope=\""), "{context}");
    } else {
        assert_eq!(answer.status, 403, "{context}");
        if !answer.body.is_empty() {
            assert_eq!(answer.json()["errors"][0]["code"], "DENIED", "{context}");
        }
    }
}

#[test]
fn every_action_is_decided_by_the_rules_for_every_identity() {
    for who in EVERYBODY {
        let client = who.client();
        if who.is_refused_in_the_handshake() {
            assert!(client.try_send(Request::get("/v2/")).is_err(), "{who:?} was let in");
            continue;
        }
        for namespace in ["everyone", "nobody", "people", "ci", "both", "not-ci"] {
            for (action, request) in actions(namespace) {
                check(who, namespace, action, &client.send(request));
            }
        }
        for (action, path) in [("list-catalog", "/v2/_catalog"), ("get-metrics", "/metrics")] {
            check(who, "", action, &client.send(Request::get(path)));
        }
        // the ping asks who nobody has asked yet, and no one else
        let expected = if who.has_bad_credentials() || who == Who::Anonymous { 401 } else { 200 };
        assert_eq!(client.send(Request::get("/v2/")).status, expected, "{who:?}");
        let health = client.send(Request::get("/healthz"));
        assert_eq!(health.status, 200, "health asks nobody: {who:?}");
    }
}

#[test]
fn a_mount_without_its_blob_begins_an_upload_only_if_policy_allows_one() {
    let settings = "repository.\"*\".access_policy.default_allow = true\n\
                    repository.\"*\".access_policy.rules = [\"request.action == 'start-upload'\"]\n";
    let server = Server::start_plain(Backend::Directory, settings);
    let mount = format!("/v2/app/blobs/uploads/?mount=sha256:{}&from=other", "0".repeat(64));
    server.client().send(Request::post(mount)).expect_error(403, "DENIED");
}

#[test]
fn only_a_trusted_proxy_names_the_clients_address() {
    let ask = |trusted: &str, headers: &[(&str, &str)]| {
        let settings = format!(
            "server.trusted_proxies = [{trusted}]\nrepository.\"*\".access_policy.default_allow = false\n\
             repository.\"*\".access_policy.rules = [\"identity.client_ip == '192.0.2.7'\"]\n"
        );
        let server = Server::start_plain(Backend::Directory, &settings);
        let request = headers
            .iter()
            .fold(Request::get("/v2/app/tags/list"), |request, (name, value)| request.header(name, value));
        server.client().send(request).status
    };
    let (name, us) = ("x-forwarded-for", "\"127.0.0.1\"");
    assert_eq!(ask("", &[(name, "192.0.2.7")]), 403, "nobody is trusted");
    assert_eq!(ask(us, &[(name, "192.0.2.7")]), 404);
    assert_eq!(ask(us, &[(name, "192.0.2.7, 198.51.100.1")]), 403, "what stands left of the client is hearsay");
    assert_eq!(ask(us, &[(name, "198.51.100.1"), (name, "192.0.2.7")]), 404);
    assert_eq!(ask("\"127.0.0.0/8\", \"10.0.0.0/8\"", &[(name, "198.51.100.1, 192.0.2.7, 10.1.2.3")]), 404);
    assert_eq!(ask(us, &[(name, "\u{ff}, 192.0.2.7")]), 404, "what is no text hides nothing right of it");
    assert_eq!(ask(us, &[(name, "192.0.2.7, nonsense")]), 403);
}

#[test]
fn a_certificate_refused_in_the_handshake_is_recorded() {
    assert!(WORLD.with(&WORLD.revoked).try_send(Request::get("/v2/")).is_err());
    let file = WORLD.setting("audit", "file");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let record = std::fs::read_to_string(&file).unwrap();
        if record.lines().any(|line| line.contains("\"handshake\"") && line.contains("\"login\"")) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{record}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_catalog_shows_only_repositories_that_the_caller_may_list() {
    let everything = WORLD.with(&WORLD.ci).with_password("ana", PASSWORD);
    for namespace in ["people", "both", "everyone"] {
        Repo::new(everything.clone(), format!("{namespace}/listed")).push_image("v1", &Image::new(&[10]));
    }
    let listed = |client: &Client| client.send(Request::get("/v2/_catalog?n=1000")).expect(200).json().to_string();
    let ana = listed(&WORLD.anonymous().with_password("ana", PASSWORD));
    assert!(ana.contains("people/listed") && ana.contains("everyone/listed"), "{ana}");
    assert!(!ana.contains("both/listed"), "{ana}");
    assert!(listed(&everything).contains("both/listed"));
}

#[test]
fn a_mount_needs_the_right_to_pull_from_its_source() {
    let ana = WORLD.anonymous().with_password("ana", PASSWORD);
    let both = WORLD.with(&WORLD.ci).with_password("ana", PASSWORD);
    let layer = Repo::new(both.clone(), "both/source").push_blob(&unique(100));
    for from in ["&from=both/source", ""] {
        ana.send(Request::post(format!("/v2/people/target/blobs/uploads/?mount={layer}{from}"))).expect(202);
    }
    both.send(Request::post(format!("/v2/people/target/blobs/uploads/?mount={layer}&from=both/source"))).expect(201);
}

#[test]
fn every_kind_of_wrong_credentials_is_401() {
    let encode = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let long = encode(&format!("ana:{}", "x".repeat(20_000)));
    for value in [
        "Basic",
        "Basic !!!",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Negotiate abc",
        "",
        &encode("ana"),
        &encode(":"),
        &encode("nobody:x"),
        &encode("ana:"),
        &long,
    ] {
        let answer = WORLD.anonymous().send(Request::get("/v2/everyone/app/tags/list").header("authorization", value));
        assert_eq!(answer.status, 401, "{value:?}: {answer:?}");
        let errors = answer.expect_error(401, "UNAUTHORIZED");
        assert!(!errors[0].to_string().contains("xxxx"), "nothing of it comes back");
    }
}
