//! Repositories that are caches of other registries.

use std::fs;

use crate::shared::certificates::Authority;
use crate::support::server::{Backend, Server};

#[test]
fn an_edited_file_of_an_upstream_comes_into_force_and_a_broken_one_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let bundle = folder.path().join("ca.crt");
    fs::write(&bundle, Authority::new("one").pem()).expect("write");
    let server = Server::start_plain(
        Backend::Directory,
        &format!("[[repository.hub.upstream]]\nurl = \"https://registry.example/v2\"\nserver_ca_bundle = {bundle:?}\n"),
    );
    let lines = server.log().len();
    fs::write(&bundle, "no certificate").expect("write");
    let words = ["not reloaded", "repository.hub.upstream[0].server_ca_bundle", "no usable certificate"];
    let lines = server.wait_for_line(lines, &words);
    fs::write(&bundle, Authority::new("two").pem()).expect("write");
    server.wait_for_line(lines, &["reloaded: configuration"]);
}
