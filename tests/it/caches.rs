//! Repositories that are caches of other registries.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shared::certificates::Authority;
use crate::support::client::Request;
use crate::support::content::Image;
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

/// A cache of everything below `hub`, but for `hub/own`. The upstream cannot be asked, since nothing listens there.
const HUB: &str = "
[[repository.hub.upstream]]
url = 'http://127.0.0.1:1/v2/library'
[repository.'hub/own']
upstream = []
[repository.'*'.access_policy]
default_allow = true
";

const UPLOAD: &str = "/v2/hub/app/blobs/uploads/5f6bd4b0-6d5b-4f39-9f4b-4d9a2b7a8a00";
const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn every_push_to_a_cache_is_refused_with_the_reason_and_its_siblings_take_pushes() {
    let server = Server::start_plain(Backend::Directory, HUB);
    let client = server.client();
    let uploads = "/v2/hub/app/blobs/uploads/";
    let manifest = || Request::put("/v2/hub/app/manifests/v1").header("Content-Type", "a/b").body("{}");
    for (request, allow) in [
        (Request::post(uploads), ""),
        (Request::post(format!("{uploads}?digest={EMPTY}")).body("wrong"), ""),
        (Request::post(format!("{uploads}?mount={EMPTY}&from=other")), ""),
        (Request::patch(UPLOAD).body("bytes"), "GET, HEAD, DELETE"),
        (Request::put(format!("{UPLOAD}?digest={EMPTY}")), "GET, HEAD, DELETE"),
        (manifest(), "GET, HEAD, DELETE"),
    ] {
        let response = client.send(request);
        assert_eq!(response.required("allow"), allow);
        let errors = response.expect_error(405, "UNSUPPORTED");
        let message = "hub/app is a cache of 127.0.0.1 and takes no pushes; push to a repository outside of hub";
        assert_eq!(errors[0]["message"], message);
    }
    for pushed in ["hub/own/app", "hubs"] {
        server.repo(pushed).push_image("v1", &Image::new(&[5]));
    }
    client.send(Request::delete("/v2/hub/app/manifests/v1")).expect_error(404, "MANIFEST_UNKNOWN");
    server.wait_for_line(0, &["; caches hub/ from 127.0.0.1"]);
}

#[test]
fn the_start_line_does_not_say_that_anyone_may_push_to_a_cache() {
    let open = |namespace: &str| format!("[repository.{namespace}.access_policy]\ndefault_allow = true\n");
    let hub = "[[repository.hub.upstream]]\nurl = 'http://127.0.0.1:1/v2'\n";
    let server = Server::start_plain(Backend::Directory, &format!("{hub}{}{}", open("hub"), open("team")));
    server.wait_for_line(0, &["; anyone may push to every repository, team/; ", "; caches hub/ from 127.0.0.1"]);
}

#[test]
fn policy_decides_about_a_push_before_the_cache_refuses_it() {
    let server = Server::start_plain(
        Backend::Directory,
        &HUB.replace("default_allow = true", "default_allow = false\nrules = ['request.access == \"pull\"']"),
    );
    let refused = server.client().send(Request::post("/v2/hub/app/blobs/uploads/"));
    refused.expect_error(403, "DENIED");
}

#[test]
fn a_repository_becomes_a_cache_and_is_pushed_again_while_the_server_runs() {
    let mut server = Server::start_plain(Backend::Directory, "");
    let repo = server.repo("hub/app");
    repo.push_image("v1", &Image::new(&[5]));
    let open = repo.start_upload();
    let lines = server.log().len();
    server.edit(HUB);
    let lines = server.wait_for_line(lines, &["reloaded:"]);
    repo.send(Request::patch(open.clone()).body("bytes")).expect_error(405, "UNSUPPORTED");
    repo.send(Request::post(repo.path("blobs/uploads/"))).expect_error(405, "UNSUPPORTED");
    server.edit("");
    server.wait_for_line(lines, &["reloaded:"]);
    repo.send(Request::patch(open).body("bytes")).expect(202);
}

fn check(directory: &Path, text: &str) -> (Option<i32>, String) {
    fs::write(directory.join("config.toml"), text).expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_simple-registry"))
        .args(["config", "check"])
        .current_dir(directory)
        .output()
        .expect("the command runs");
    assert_eq!(output.stdout, b"");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn config_check_says_what_the_server_would_say_and_writes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    let hub =
        "[[repository.hub.upstream]]\nurl = \"http://hub.example/v2\"\nusername = \"ana\"\npassword = \"hunter2\"\n";
    let warning = "warning: repository.hub.upstream[0]: the credentials travel to hub.example in plain text, since its `url` \
                   begins with http://; use https://\n";
    assert_eq!(check(folder, ""), (Some(0), String::new()));
    assert_eq!(check(folder, hub), (Some(0), warning.to_owned()));
    let (code, told) = check(folder, &hub.replace("/v2", "/library"));
    assert_eq!(code, Some(1));
    assert!(told.starts_with("error: `repository.hub.upstream[0].url` is no address of an upstream"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let written: Vec<_> = fs::read_dir(folder).expect("a directory").collect();
    assert_eq!(written.len(), 1, "{written:?}");
}
