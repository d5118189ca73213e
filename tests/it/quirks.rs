//! Buckets of servers that are not quite S3: refused at the start, and believed nothing that cannot be so.

use std::process::{Command, Output};

use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::s3::{Fault, Quirk};
use crate::support::server::Server;

/// Runs a command on the configuration of `server` to its end.
fn run(server: &Server, arguments: &[&str]) -> Output {
    let config = server.configuration_file();
    Command::new(env!("CARGO_BIN_EXE_simple-registry")).arg("-c").arg(config).args(arguments).output().expect("run")
}

#[test]
fn a_bucket_that_breaks_the_rules_of_s3_is_refused_at_the_start() {
    let mut server = Server::start_on_own_s3("");
    let repo = server.repo("some");
    repo.push_image("v1", &Image::new(&[100]));
    let before = server.s3().objects(server.bucket());
    server.kill();
    for (quirk, word) in [
        (Quirk::Overwrites, "If-None-Match"),
        (Quirk::LooksThenCreates, "If-None-Match"),
        (Quirk::ListsBackwards, "order"),
        (Quirk::ListsOnePage, "order"),
        (Quirk::IgnoresRange, "Range"),
    ] {
        server.s3().quirk(Some(quirk));
        for command in [&["server"][..], &["scrub"]] {
            let output = run(&server, command);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{quirk:?} {command:?}: {text}");
            assert!(text.contains(word) && text.contains(server.bucket()), "{quirk:?} {command:?}: {text}");
        }
        assert_eq!(server.s3().objects(server.bucket()), before, "{quirk:?}: what it was tried with is gone again");
    }
    server.s3().quirk(None);
    server.restart();
    repo_of(&server).get_manifest("v1").expect(200);
}

fn repo_of(server: &Server) -> crate::support::repo::Repo {
    server.repo("some")
}

#[test]
fn a_listing_out_of_order_or_cut_off_is_503_and_frees_nothing() {
    let mut server = Server::start_on_own_s3("cache_ttl = \"0s\"\n[scrub]\nupload_expiry = \"10s\"\ngrace = \"0s\"");
    let repo = server.repo("some");
    let digest = repo.push_image("v1", &Image::new(&[100, 200]));
    repo.push_image("v2", &Image::new(&[300]));
    for half in [true, false] {
        if half {
            server.s3().fail(|operation, _| (operation == "ListObjectsV2").then_some(Fault::Half));
        } else {
            server.s3().quirk(Some(Quirk::ListsBackwards));
        }
        // a listing of one tag has one key, which is in order
        let tags = repo.client.send(Request::get("/v2/some/tags/list"));
        assert_eq!(tags.status, 503, "half of it: {half}");
        let before = server.s3().objects(server.bucket());
        if half {
            let output = run(&server, &["scrub"]);
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(server.s3().objects(server.bucket()), before);
        server.s3().heal();
        server.s3().quirk(None);
    }
    server.restart();
    assert_eq!(repo_of(&server).pull_image("v1"), digest);
}
