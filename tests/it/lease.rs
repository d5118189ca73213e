//! The lease in force is a record of the store: servers and scrubs of one store may be configured differently.

use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::support::content::{Image, sha256, unique, unknown_digest};
use crate::support::s3::Fault;
use crate::support::server::Server;

const HALF_AN_HOUR: Duration = Duration::from_mins(30);
const CHANGED: &str = "scrub.upload_expiry has changed";
const LONGER: &str = "the lease in force is longer than scrub.upload_expiry";

fn settings(expiry: &str) -> String {
    format!("[scrub]\nupload_expiry = \"{expiry}\"\ngrace = \"0s\"\n")
}

/// Scrubs the store of a server with another `upload_expiry` than the server's.
fn scrub(server: &Server, expiry: &str, format: &str) -> Output {
    let text = std::fs::read_to_string(server.configuration_file()).expect("the server's configuration");
    let mut config: toml::Table = text.parse().expect("it is TOML");
    let table = config.get_mut("scrub").and_then(toml::Value::as_table_mut).expect("a table");
    table.insert("upload_expiry".to_owned(), expiry.into());
    let file = server.configuration_file().with_file_name("scrub.toml");
    std::fs::write(&file, config.to_string()).expect("write a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let done = command.arg("-c").arg(&file).args(["scrub", "--format", format]).output().expect("run scrub");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// Returns the lease that a scrub with a shorter one keeps to, in seconds.
fn lease_in_force(server: &Server, expiry: &str) -> Option<u64> {
    let summary: Value = serde_json::from_slice(&scrub(server, expiry, "json").stdout).expect("a summary");
    summary["lease_in_force"]["seconds"].as_u64()
}

/// Returns the leases that are wished in the store, in seconds.
fn wishes(server: &Server) -> Vec<u64> {
    let keys = server.s3().objects(server.bucket()).into_iter().map(|(key, _)| key);
    let wished = keys.filter_map(|key| key.split_once("/leases/")?.1.split_once('.')?.0.parse::<u64>().ok());
    let mut wished: Vec<u64> = wished.map(|ms| ms / 1000).collect();
    wished.dedup();
    wished
}

#[test]
fn a_scrub_with_a_shorter_lease_keeps_to_that_of_a_server_until_the_wish_runs_out() {
    let mut server = Server::start_on_own_s3(&settings("1h"));
    let blob = unique(100);
    let digest = server.repo("kept").push_blob(&blob);
    server.s3().step_clock(HALF_AN_HOUR);
    let done = scrub(&server, "10m", "text");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(err.contains("warning: this run keeps to a lease of 1h") && err.contains("upload_expiry (10m)"), "{err}");
    assert!(out.contains("  lease in force: 60 minutes, until 20"), "{out}");
    assert_eq!(server.repo("kept").get_blob(&digest).expect(200).body, blob);
    assert_eq!(lease_in_force(&server, "2h"), None, "its own is the longest");
    assert_eq!(lease_in_force(&server, "1h"), Some(7200), "the scrub before wished that");
    assert_eq!(wishes(&server), [3600, 600, 7200]);
    // nine eighths of the longest
    server.terminate();
    server.s3().step_clock(Duration::from_mins(140));
    assert_eq!(lease_in_force(&server, "10m"), None);
    assert_eq!(wishes(&server), [600], "those that have run out are freed");
    server.restart();
    server.repo("kept").get_blob(&digest).expect(404);
}

#[test]
fn a_longer_lease_holds_at_once_and_a_shorter_one_when_the_longer_has_run_out() {
    let mut server = Server::start_on_own_s3(&settings("10m"));
    let digest = server.repo("kept").push_blob(&unique(100));
    assert_eq!(lease_in_force(&server, "10m"), None);
    let lines = server.log().len();
    server.edit(&settings("1h"));
    server.wait_for_line(lines, &[CHANGED, "\"seconds\":3600", "\"before\":600"]);
    server.s3().step_clock(HALF_AN_HOUR);
    assert_eq!(lease_in_force(&server, "10m"), Some(3600));
    server.repo("kept").get_blob(&digest).expect(200);
    let lines = server.log().len();
    server.edit(&settings("10m"));
    let lines = server.wait_for_line(lines, &[CHANGED, "\"seconds\":600"]);
    server.wait_for_line(lines, &[LONGER, "\"seconds\":3600", "\"own\":600", "\"until\":\"20"]);
    assert_eq!(lease_in_force(&server, "10m"), Some(3600));
    // one that starts with a shorter lease says so as well
    let lines = server.log().len();
    server.restart();
    server.wait_for_line(lines, &[LONGER]);
    server.repo("kept").get_blob(&digest).expect(200);
    server.s3().step_clock(HALF_AN_HOUR * 3);
    assert_eq!(lease_in_force(&server, "10m"), None);
    server.repo("kept").get_blob(&digest).expect(404);
}

#[test]
fn a_push_renews_a_wish_that_is_an_eighth_old_before_it_relies_on_anything() {
    let server = Server::start_on_own_s3(&settings("1h"));
    let repo = server.repo("renewed");
    repo.push_image("v1", &Image::new(&[10]));
    // far more than an eighth: the first answer tells it
    for step in 2..6 {
        server.s3().step_clock(HALF_AN_HOUR);
        repo.push_blob(&unique(10));
        repo.push_image("v1", &Image::new(&[10 * step]));
        assert_eq!(lease_in_force(&server, "10m"), Some(3600));
    }
    assert_eq!(sha256(&repo.get_manifest("v1").expect(200).body), repo.pull_image("v1"));
}

#[test]
fn a_server_whose_wish_cannot_be_renewed_warns_once_and_tries_again() {
    let mut server = Server::start_on_own_s3(&settings("1h"));
    let (tried, attempts) = mpsc::channel();
    server.s3().fail(move |operation, key| {
        let fails = operation == "PutObject" && key.contains("/leases/");
        fails.then(|| {
            tried.send(()).expect("the test waits");
            Fault::Status(403)
        })
    });
    server.s3().step_clock(HALF_AN_HOUR);
    // a server that asks the bucket for nothing does not hear of the step
    server.repo("any").get_blob(&unknown_digest()).expect(404);
    for _ in 0..2 {
        attempts.recv_timeout(Duration::from_mins(1)).expect("the server tries to renew its wish");
    }
    server.terminate();
    let lines = server.log();
    let warnings = lines.iter().filter(|line| line.contains("the wish for a lease could not be renewed"));
    assert_eq!(warnings.count(), 1, "{lines:#?}");
}
