//! A store whose clock goes further than the server's: what was under way is old by it, and scrub frees it.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::Request;
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::finish;
use crate::support::s3::Fault;
use crate::support::server::Server;

const SETTINGS: &str = "[scrub]\nupload_expiry = \"1h\"\ngrace = \"0s\"\n";
const TWO_LEASES: Duration = Duration::from_hours(2);

/// Scrubs the store of a server beside it.
fn scrub(server: &Server) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let done = command.arg("-c").arg(server.configuration_file()).arg("scrub").output().expect("run scrub");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn an_upload_that_is_old_by_the_stores_clock_is_unknown_when_it_ends() {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("ends");
    // so much that it is no part of an upload's state
    let (data, other) = (unique(100_000), unique(100_000));
    let location = repo.send(Request::patch(repo.start_upload()).body(data.clone())).expect(202).location();
    let begun = repo.send(Request::patch(repo.start_upload()).body(other.clone())).expect(202).location();
    server.s3().step_clock(TWO_LEASES);
    scrub(&server);
    repo.send(finish(&location, &sha256(&data))).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.get_blob(&sha256(&data)).expect(404);
    // bytes that come with the last request are no substitute for those that went
    let last = Request::put(format!("{begun}&digest={}", sha256(&[other, vec![1]].concat()))).body(vec![1]);
    repo.send(last).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.push_blob(&data);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

#[test]
fn a_manifest_that_comes_long_after_its_pins_by_the_stores_clock_is_refused_or_whole() {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("held");
    let image = Image::new(&[1000]);
    repo.push_blobs(&image);
    let (held, holds) = mpsc::channel();
    let mut first = true;
    server.s3().fail(move |operation, key| {
        let holds = first && operation == "PutObject" && key.contains("/manifests/");
        if holds {
            first = false;
            held.send(()).expect("the test waits");
        }
        holds.then_some(Fault::Hold)
    });
    std::thread::scope(|scope| {
        let put = scope.spawn(|| repo.send(repo.put_manifest("v1", &image.manifest)));
        holds.recv().expect("the manifest is about to be written");
        server.s3().step_clock(TWO_LEASES);
        scrub(&server);
        server.s3().release();
        put.join().expect("the push ends").expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    });
    repo.get_manifest("v1").expect(404);
    repo.push_image("v1", &image);
    repo.pull_image("v1");
}

#[test]
fn a_blob_that_was_made_sure_of_long_ago_by_the_stores_clock_is_looked_at_again() {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("sure");
    let image = Image::new(&[1000]);
    repo.push_blobs(&image);
    server.s3().step_clock(TWO_LEASES);
    scrub(&server);
    repo.send(repo.put_manifest("v1", &image.manifest)).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    repo.push_image("v1", &image);
    repo.pull_image("v1");
}
