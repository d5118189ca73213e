//! Access: every kind of sender, every action, every kind of rule, and the messages of refusals.

mod replayed;
mod tokens;
mod uploads;
mod world;

use base64::Engine as _;

use self::world::{PASSWORD, WORLD, token};
use simple_registry::credentials::hash_password;

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
        ("get-manifest", Request::head(format!("{repository}/manifests/v1"))),
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
    assert_eq!(ask(us, &[(name, "192.0.2.7:4711")]), 404, "some proxies add the port");
    assert_eq!(ask(us, &[("forwarded", "for=\"192.0.2.7:4711\";proto=https")]), 404);
    assert_eq!(ask(us, &[("forwarded", "for=192.0.2.7, for=198.51.100.1")]), 403);
    assert_eq!(
        ask("\"127.0.0.1\", \"2001:db8::/32\"", &[("forwarded", "for=192.0.2.7, for=\"[2001:db8::1]:80\"")]),
        404
    );
    assert_eq!(ask(us, &[("forwarded", "for=192.0.2.7"), (name, "198.51.100.1")]), 403, "one header counts");
}

#[test]
fn a_certificate_refused_in_the_handshake_is_recorded() {
    assert!(WORLD.with(&WORLD.revoked).try_send(Request::get("/v2/")).is_err());
    let file = WORLD.setting("audit", "file");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let record = crate::record::text_of(file.as_ref());
        if record.lines().any(|line| line.contains("\"handshake\"") && line.contains("\"login\"")) {
            return;
        }
        assert!(std::time::Instant::now() < until, "{record}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A client of TLS 1.3 sends its request before it hears that its certificate was refused.
#[test]
fn a_client_whose_certificate_is_refused_reads_the_alert() {
    for _ in 0..20 {
        for certificate in [&WORLD.foreign_ci, &WORLD.revoked] {
            let request = Request::post("/v2/everyone/app/blobs/uploads/").body(vec![0; 100_000]);
            let mut connection = WORLD.with(certificate).connect().expect("a handshake, as the client sees it");
            connection.write_request(&request).expect("the server reads on");
            let error = connection.read_response(&request).expect_err("no answer");
            assert!(error.to_string().contains("fatal alert"), "{error}");
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_told_of_the_authorities_that_count() {
    let refused = WORLD.anonymous().send(Request::get("/v2/ci/app/tags/list")).expect_error(401, "UNAUTHORIZED");
    let message = refused[0]["message"].as_str().unwrap();
    assert!(message.contains("no client certificate was presented; this server accepts those of CN=ours"), "{message}");
    let refused = WORLD.with(&WORLD.ci).send(Request::get("/v2/people/app/tags/list")).expect(403);
    assert!(!refused.json().to_string().contains("was presented"), "{refused:?}");
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
fn an_empty_name_with_an_empty_password_is_nobody() {
    let encode = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let ask = |path: &str| WORLD.anonymous().send(Request::get(path).header("authorization", encode(":")));
    ask("/v2/everyone/app/tags/list").expect_error(404, "NAME_UNKNOWN");
    ask("/v2/people/app/tags/list").expect_error(401, "UNAUTHORIZED");
    assert!(ask("/v2/").expect(401).required("www-authenticate").starts_with("Bearer realm="));
}

#[test]
fn a_mount_that_policy_refuses_goes_on_as_an_upload() {
    let settings = "repository.\"*\".access_policy.default_allow = true\n\
                    repository.\"*\".access_policy.rules = [\"request.action == 'mount-blob'\"]\n";
    let server = Server::start_plain(Backend::Directory, settings);
    let layer = server.repo("other").push_blob(&unique(100));
    server.client().send(Request::post(format!("/v2/app/blobs/uploads/?mount={layer}&from=other"))).expect(202);
}

#[test]
fn the_address_for_tokens_is_the_one_that_the_outermost_trusted_proxy_saw() {
    let hash = hash_password(PASSWORD).unwrap();
    let server = Server::start_plain(
        Backend::Directory,
        &format!(
            "server.trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n[identity.ana]\nusername = \"ana\"\npassword = {hash:?}\n\
             [token]\nsigning_key = {:?}\n",
            tempfile::tempdir().unwrap().keep().join("token.key")
        ),
    );
    let own = server.address().to_owned();
    let two_proxies = ("x-forwarded-for", "192.0.2.7, 10.0.0.1");
    for (headers, realm) in [
        (vec![], format!("http://{own}")),
        (vec![("x-forwarded-proto", "https")], format!("https://{own}")),
        (vec![("x-forwarded-proto", "HTTPS,https")], format!("https://{own}")),
        (vec![("x-forwarded-proto", "https, https")], format!("https://{own}")),
        (vec![("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")], format!("https://{own}")),
        // without addresses, nothing but the last word is of a trusted proxy
        (vec![("x-forwarded-proto", "https, http")], format!("http://{own}")),
        (vec![two_proxies, ("x-forwarded-proto", "https, http")], format!("https://{own}")),
        (vec![two_proxies, ("x-forwarded-proto", "http, https")], format!("http://{own}")),
        (vec![two_proxies, ("x-forwarded-proto", "https")], format!("https://{own}")),
        (vec![two_proxies, ("x-forwarded-proto", "https, http, http")], format!("http://{own}")),
        (
            vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "registry.example.com")],
            "https://registry.example.com".to_owned(),
        ),
        (
            vec![
                two_proxies,
                ("x-forwarded-host", "registry.example.com, inner:5000"),
                ("x-forwarded-port", "8443,5000"),
            ],
            "http://registry.example.com:8443".to_owned(),
        ),
        (
            vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example"), ("x-forwarded-port", "443")],
            "https://a.example".to_owned(),
        ),
        (vec![("x-forwarded-host", "a.example:81"), ("x-forwarded-port", "82")], "http://a.example:81".to_owned()),
        (vec![("x-forwarded-host", "a\" b")], format!("http://{own}")),
        (vec![("forwarded", "for=192.0.2.7;proto=https;host=a.example")], "https://a.example".to_owned()),
        (
            vec![(
                "forwarded",
                "for=192.0.2.7;Proto=https;host=\"a.example:444\", for=\"10.0.0.1:99\";proto=http;host=b.example",
            )],
            "https://a.example:444".to_owned(),
        ),
        // a client can send this through a proxy that writes the other headers
        (
            vec![("forwarded", "proto=https;host=evil.example"), ("x-forwarded-for", "192.0.2.7")],
            format!("http://{own}"),
        ),
    ] {
        let ask = headers.iter().fold(Request::get("/v2/"), |ask, (name, value)| ask.header(name, value));
        let challenge = server.client().send(ask).expect(401).required("www-authenticate").to_owned();
        assert!(challenge.contains(&format!("realm=\"{realm}/token\"")), "{headers:?}: {challenge}, not {realm}");
    }
    for trusted in ["", "\"192.0.2.0/24\""] {
        let rules = format!(
            "server.trusted_proxies = [{trusted}]\nrepository.\"*\".access_policy.default_allow = false\n\
             repository.\"*\".access_policy.rules = [\"identity.client_ip == '192.0.2.7'\"]\n"
        );
        let server = Server::start_plain(Backend::Directory, &rules);
        let ask = Request::get("/v2/app/tags/list").header("forwarded", "for=192.0.2.7");
        server.client().send(ask).expect(403);
    }
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
