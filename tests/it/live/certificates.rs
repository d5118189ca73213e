//! Certificates, keys and revocation lists, replaced under connections that stay open.

use std::fs;
use std::path::PathBuf;

use super::{LIST, REFUSED, RELOADED, rename_over};
use crate::shared::certificates::{Authority, Leaf};
use crate::support::client::{Client, Request};
use crate::support::server::{Backend, Server};

/// A server over TLS whose certificates may be replaced.
struct Secure {
    server: Server,
    directory: PathBuf,
    authority: Authority,
    lines: usize,
}

impl Secure {
    fn new(more: &str) -> Self {
        let authority = Authority::new("ours");
        let directory = tempfile::tempdir().expect("a directory").keep();
        authority.server().write(&directory, "server");
        fs::write(directory.join("authority.pem"), authority.pem()).unwrap();
        fs::write(directory.join("revoked.pem"), authority.revoked(&[])).unwrap();
        let settings = format!(
            "{more}\nrepository.\"*\".access_policy.default_allow = false\n\
             repository.\"*\".access_policy.rules = [\"identity.certificate.organizations.contains('ci') || identity.username == 'ana'\"]\n\
             [token]\nsigning_key = {:?}\n\
             [server.tls]\nserver_certificate_bundle = {:?}\nserver_private_key = {:?}\nclient_ca_bundle = {:?}\nclient_crl = {:?}\n",
            directory.join("token.key"),
            directory.join("server.pem"),
            directory.join("server.key"),
            directory.join("authority.pem"),
            directory.join("revoked.pem"),
        );
        let server = Server::start_plain(Backend::Directory, &settings);
        let lines = server.log().len();
        Self { server, directory, authority, lines }
    }

    fn client(&self, own: Option<&Leaf>) -> Client {
        self.server.client().with_tls(self.authority.client_config(own))
    }

    #[track_caller]
    fn wait(&mut self, words: &[&str]) {
        self.lines = self.server.wait_for_line(self.lines, words);
    }
}

#[test]
fn a_certificate_and_its_key_are_replaced_one_after_the_other() {
    let mut world = Secure::new("");
    let ci = world.authority.client_of("build-1", &["ci"]);
    world.client(Some(&ci)).send(Request::get(LIST)).expect(404);
    let another = Authority::new("the next");
    let server = another.server();
    rename_over(&world.directory.join("server.pem"), &server.pem);
    world.wait(REFUSED);
    // what was in force still is
    world.client(Some(&ci)).send(Request::get(LIST)).expect(404);
    rename_over(&world.directory.join("server.key"), &server.key.serialize_pem());
    world.wait(RELOADED);
    assert!(world.client(Some(&ci)).try_send(Request::get(LIST)).is_err(), "the old authority vouches for the new one");
    let client = world.server.client().with_tls(another.client_config(None));
    client.send(Request::get("/v2/")).expect(200);
}

#[test]
fn an_open_connection_is_held_to_the_revocation_list_in_force() {
    let mut world = Secure::new("");
    let (stays, goes) = (world.authority.client_of("build-1", &["ci"]), world.authority.client_of("build-2", &["ci"]));
    let mut connections = [&stays, &goes].map(|own| world.client(Some(own)).connect().expect("connect"));
    let list = Request::get(LIST);
    for connection in &mut connections {
        connection.write_request(&list).unwrap();
        connection.read_response(&list).unwrap().expect(404);
    }
    let token = world.client(Some(&goes)).send(Request::get("/token?scope=repository:app:pull")).expect(200).json();
    let token = world.client(None).with_token(token["token"].as_str().unwrap());
    token.send(list.clone()).expect(404);

    rename_over(&world.directory.join("revoked.pem"), &world.authority.revoked(&[&goes]));
    world.wait(RELOADED);
    let [still, no_longer] = &mut connections;
    still.write_request(&list).unwrap();
    still.read_response(&list).unwrap().expect(404);
    no_longer.write_request(&list).unwrap();
    let refused = no_longer.read_response(&list).unwrap();
    assert_eq!(refused.header("connection"), Some("close"));
    refused.expect_error(401, "UNAUTHORIZED");
    let again = no_longer.write_request(&list).and_then(|()| no_longer.read_response(&list));
    assert!(again.is_err(), "the connection stayed open");
    assert!(world.client(Some(&goes)).try_send(list.clone()).is_err(), "a new connection is refused in the handshake");
    token.send(list).expect(401);
}
