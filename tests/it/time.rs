//! A store whose clock differs from the server's: scrub judges by the store's clock, and servers keep to that.

use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::Request;
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::finish;
use crate::support::s3::Fault;
use crate::support::server::Server;

const SETTINGS: &str = "[scrub]\nupload_expiry = \"1h\"\ngrace = \"0s\"\n";
const TWO_LEASES: Duration = Duration::from_hours(2);

/// Runs a command with the configuration of a server, beside it.
fn command(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let done = command.arg("-c").arg(server.configuration_file()).args(arguments).output().expect("run a command");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done
}

fn scrub(server: &Server) {
    command(server, &["scrub"]);
}

/// Holds the first `operation` whose key has `part` in it until the S3 server releases it. Tells when that has come.
fn hold_first(server: &Server, operation: &'static str, part: &'static str) -> mpsc::Receiver<()> {
    let (held, holds) = mpsc::channel();
    let mut first = true;
    server.s3().fail(move |of, key| {
        let holds = first && of == operation && key.contains(part);
        if holds {
            first = false;
            held.send(()).expect("the test waits");
        }
        holds.then_some(Fault::Hold)
    });
    holds
}

#[test]
fn an_upload_that_is_too_old_by_the_stores_clock_is_404_at_its_end() {
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
fn a_manifest_written_long_after_its_pins_by_the_stores_clock_is_refused_or_whole() {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("held");
    let image = Image::new(&[1000]);
    repo.push_blobs(&image);
    let holds = hold_first(&server, "PutObject", "/manifests/");
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
fn a_blob_checked_long_ago_by_the_stores_clock_is_checked_again() {
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

#[test]
fn a_scrub_that_sees_the_stores_clock_set_back_ends_and_frees_nothing_that_came_since() {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("back");
    let image = Image::new(&[1000]);
    repo.push_blobs(&image);
    server.s3().step_clock(TWO_LEASES);
    // scrub has read the time then, and looks at nothing yet
    let holds = hold_first(&server, "DeleteObject", "scrub/clock/");
    let scrubbed = std::thread::scope(|scope| {
        let scrub = scope.spawn(|| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
            command.arg("-c").arg(server.configuration_file()).args(["scrub", "--only", "garbage"]);
            command.output().expect("run scrub")
        });
        holds.recv().expect("scrub reads the time");
        server.s3().step_clock_back(TWO_LEASES);
        repo.push_image("v1", &image);
        server.s3().release();
        scrub.join().expect("scrub ends")
    });
    let said = String::from_utf8_lossy(&scrubbed.stderr);
    assert_eq!(scrubbed.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the store's clock was set back by 7") && said.contains("the next run does the rest"),
        "{said}"
    );
    repo.pull_image("v1");
    scrub(&server);
    repo.pull_image("v1");
}

const DAY: Duration = Duration::from_hours(24);
const WARNING: &str = "this host's clock says ";
const LINE: &str = "this host's clock differs from the store's clock";

#[test]
fn retention_goes_by_the_stores_clock_in_pushes_pulls_and_explanations() {
    let rules = "[repository.\"*\".retention_policy]\nrules = ['image.pushed_at > now() - days(7)', 'image.last_pulled_at > now() - days(3)']\n";
    let mut server = Server::start_on_own_s3(&format!("{SETTINGS}{rules}"));
    let repo = server.repo("retained");
    repo.push_image("unused", &Image::new(&[10]));
    repo.push_image("pulled", &Image::new(&[20]));
    server.s3().step_clock(DAY * 6);
    repo.get_manifest("pulled").expect(200);
    // a server that stops writes down the pulls that it saw
    server.terminate();
    server.restart();
    let repo = server.repo("retained");
    repo.push_image("new", &Image::new(&[30]));
    server.s3().step_clock(DAY * 2);
    let explained = command(&server, &["policy", "explain", "--retention", "--repository", &repo.name]);
    let (text, warnings) = (String::from_utf8_lossy(&explained.stdout), String::from_utf8_lossy(&explained.stderr));
    let says = |tag: &str| text.lines().find(|line| line.starts_with(tag)).unwrap_or_default();
    assert!(says("new").contains("stays") && says("pulled").contains("stays"), "{text}");
    assert!(says("unused").contains("goes: no rule keeps it"), "{text}");
    assert_eq!(warnings.matches(WARNING).count(), 1, "{warnings}");
    scrub(&server);
    assert_eq!(repo.tags(""), ["new", "pulled"]);
    server.s3().step_clock(DAY * 2);
    scrub(&server);
    assert_eq!(repo.tags(""), ["new"]);
    server.s3().step_clock(DAY * 4);
    scrub(&server);
    repo.get_manifest("new").expect(404);
}

#[test]
fn a_wrong_clock_of_the_host_is_logged_once() {
    let mut server = Server::start_on_own_s3(SETTINGS);
    let warnings = |server: &Server| server.log().iter().filter(|line| line.contains(LINE)).count();
    let done = command(&server, &["scrub"]);
    assert!(!String::from_utf8_lossy(&done.stderr).contains(WARNING), "{done:?}");
    server.s3().step_clock_back(Duration::from_secs(50));
    server.repo("off").push_blob(&unique(10));
    server.s3().step_clock_back(Duration::from_secs(50));
    server.repo("off").push_blob(&unique(10));
    server.wait_for_line(0, &[LINE, "\"difference\":\"PT1", "\"host\":\"20", "\"store\":\"20", "check that NTP runs"]);
    let done = command(&server, &["scrub", "--format", "json"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(told.matches(WARNING).count(), 1, "{told}");
    assert!(told.contains("the host is 1m 4") && told.contains("ahead of the store"), "{told}");
    let summary: serde_json::Value = serde_json::from_slice(&done.stdout).expect("a summary");
    let [warning] = summary["warnings"].as_array().expect("a list").as_slice() else { panic!("{summary}") };
    assert!(warning.as_str().is_some_and(|warning| warning.starts_with(WARNING)), "{summary}");
    assert_eq!(warnings(&server), 1);
    let lines = server.log().len();
    server.restart();
    server.wait_for_line(lines, &[LINE]);
}
