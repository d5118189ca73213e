//! The server reads a store of each layout that it knows, as an earlier build wrote it.

use std::fs;
use std::path::Path;

use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::server::{Backend, Server};

const IMAGE: &str = "sha256:7e7ef8098094a16f919c46e91a4699948d25131d13b1086340c788f8c6617951";
const INDEX: &str = "sha256:ac623b6efaee1f4fe87db3579827dfd864f8f8d9afc9296d00fd1d76dc1d06bb";
const SIGNATURE: &str = "sha256:18052212d151269deaf891f68159f3ed620eaa0920e4665451d5858a04eaa523";
const GONE: &str = "sha256:3bb5fe21890dd87e911131d10a300354bffa26c86b44a6a3a338b24de5725b95";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_server_reads_a_store_of_layout_2() {
    let mut server = Server::start(Backend::Directory);
    server.kill();
    fs::remove_dir_all(server.root()).unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/layout-2"), &server.root());
    server.restart();
    let app = server.repo("library/app");
    assert_eq!(app.pull_image("v1"), IMAGE);
    assert_eq!(app.pull_image("multi"), INDEX);
    assert_eq!(app.pull_image("stable"), INDEX, "the newest meaning of a tag counts");
    assert_eq!(app.tags(""), ["multi", "stable", "v1"]);
    let referrers = app.send(Request::get(app.path(&format!("referrers/{IMAGE}")))).expect(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], SIGNATURE);
    let gone = server.repo("library/gone");
    gone.get_manifest("v1").expect_error(404, "MANIFEST_UNKNOWN");
    gone.get_manifest(GONE).expect_error(404, "MANIFEST_UNKNOWN");
    let catalog = server.client().send(Request::get("/v2/_catalog")).expect(200).json();
    assert_eq!(catalog["repositories"], serde_json::json!(["library/app", "library/gone"]));
    // and it goes on
    let image = Image::new(&[100]);
    let pushed = app.push_image("stable", &image);
    assert_eq!(app.pull_image("stable"), pushed);
}
