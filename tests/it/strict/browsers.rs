//! Websites that use the browser of somebody who may use the registry.

use simple_registry::credentials::hash_password;

use crate::support::client::{Request, Response};
use crate::support::server::{Backend, Server};

fn ask(server: &Server, host: &str) -> Response {
    let mut connection = server.client().connect().expect("connect");
    connection.write(format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).expect("write");
    connection.read_response(&Request::get("/v2/")).expect("an answer")
}

#[test]
fn a_website_changes_nothing() {
    let server = Server::start_plain(Backend::Directory, "");
    let own = format!("http://{}", server.address());
    let uploads = "/v2/a/blobs/uploads/";
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("origin", ""),
    ] {
        let digest = format!("sha256:{}", "0".repeat(64));
        for request in [
            Request::post(uploads),
            Request::put("/v2/a/manifests/v1"),
            Request::delete(format!("/v2/a/blobs/{digest}")),
            Request::patch("/v2/a/blobs/uploads/1b4e28ba-2fa1-41d2-883f-0016d3cca427"),
            Request::post("/token"),
        ] {
            let errors = server.client().send(request.header(name, value)).expect_error(403, "DENIED");
            assert!(errors[0]["message"].as_str().unwrap().contains("website"), "{errors:?}");
        }
        let answer = server.client().send(Request::get("/v2/").header(name, value)).expect(200);
        assert_eq!(answer.required("x-content-type-options"), "nosniff");
    }
    for (name, value) in [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", &own)] {
        server.client().send(Request::post(uploads).header(name, value)).expect(202);
    }
}

#[test]
fn a_server_that_is_open_to_its_machine_answers_to_names_of_this_machine_alone() {
    let server = Server::start_plain(Backend::Directory, "server.hosts = [\"registry.lan\"]");
    let machine = rustix::system::uname().nodename().to_str().expect("text").to_owned();
    for host in [
        "localhost",
        "localhost:5000",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1:80",
        "[::1]:80",
        "10.1.2.3",
        "registry.lan:1",
        &machine,
    ] {
        ask(&server, host).expect(200);
    }
    for host in ["rebound.example", "rebound.example:5000", "localhost.example", "notlocalhost", "a.registry.lan"] {
        let errors = ask(&server, host).expect_error(403, "DENIED");
        assert!(errors[0]["message"].as_str().unwrap().contains("server.hosts"), "{errors:?}");
    }
}

#[test]
fn a_server_with_logins_or_behind_a_proxy_answers_to_every_name() {
    let hash = hash_password("a password").unwrap();
    let key = tempfile::tempdir().unwrap().keep().join("token.key");
    let logins = format!("[identity.ana]\nusername = \"ana\"\npassword = {hash:?}\n[token]\nsigning_key = {key:?}\n");
    ask(&Server::start_plain(Backend::Directory, &logins), "any.example").expect(401);
    ask(&Server::start_plain(Backend::Directory, "server.trusted_proxies = [\"127.0.0.1\"]"), "any.example")
        .expect(200);
    ask(&Server::start_plain(Backend::Directory, "server.bind_address = \"0.0.0.0\""), "any.example").expect(200);
}
