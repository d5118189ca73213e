//! Reads that go wrong on the way, of objects that are right: nothing is noted, and nobody else hears of it.

use std::collections::HashSet;
use std::process::Command;

use crate::support::client::Request;
use crate::support::content::{Image, sha256};
use crate::support::repo::Repo;
use crate::support::s3::Fault;
use crate::support::server::Server;

/// Lets the first read of each object whose key has one of `parts` in it come with a flipped bit.
fn flip_first_reads(server: &Server, parts: &'static [&'static str]) {
    let mut seen = HashSet::new();
    server.s3().fail(move |operation, key| {
        let chosen = operation == "GetObject" && parts.iter().any(|part| key.contains(part));
        (chosen && seen.insert(key.to_owned())).then_some(Fault::Flip)
    });
}

/// Returns the keys of the notes and reports of damage.
fn noted(server: &Server) -> Vec<String> {
    let keys = server.s3().objects(server.bucket()).into_iter().map(|(key, _)| key);
    keys.filter(|key| ["!corrupt.", "corrupt/", "quarantine/"].iter().any(|part| key.contains(part))).collect()
}

/// Returns a blob, or nothing where the transfer breaks off.
fn pull(repo: &Repo, path: &str) -> Option<Vec<u8>> {
    let answer = repo.client.try_send(Request::get(path.to_owned())).ok()?;
    (answer.status == 200).then_some(answer.body)
}

#[test]
fn when_a_read_goes_wrong_once_nothing_is_noted_and_the_next_pull_gets_the_blob() {
    let mut server = Server::start_on_own_s3("verify_pulls = \"all\"");
    let image = Image::new(&[5000]);
    let digest = server.repo("some").push_image("v1", &image);
    for parts in [&["/data/", "data/"][..], &["blobs/"], &["repos/"]] {
        // a server that remembers nothing
        server.restart();
        let repo = server.repo("some");
        flip_first_reads(&server, parts);
        let manifest = repo.client.send(Request::get("/v2/some/manifests/v1")).expect(200);
        assert_eq!(sha256(&manifest.body), digest, "{parts:?}");
        for blob in &image.blobs {
            let path = format!("/v2/some/blobs/{}", sha256(blob));
            let first = pull(&repo, &path);
            assert!(first.as_ref().is_none_or(|body| body == blob), "{parts:?}");
            assert!(first.is_some() || parts != ["repos/"], "{parts:?}: nothing of the blob came wrong");
            assert_eq!(pull(&repo, &path).as_ref(), Some(blob), "{parts:?}");
            repo.client.send(Request::head(path)).expect(200);
        }
        assert_eq!(noted(&server), Vec::<String>::new(), "{parts:?}");
    }
    // an object that is wrong each time it is read
    server.s3().fail(|operation, key| (operation == "GetObject" && key.contains("data/")).then_some(Fault::Flip));
    let repo = server.repo("some");
    let path = format!("/v2/some/blobs/{}", sha256(&image.blobs[1]));
    assert_eq!(pull(&repo, &path), None);
    assert_eq!(noted(&server).iter().filter(|key| key.contains("!corrupt.")).count(), 1);
    repo.client.send(Request::head(path)).expect(404);
}

#[test]
fn when_a_read_of_scrub_goes_wrong_once_it_finds_nothing_wrong() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("some");
    let image = Image::new(&[5000, 70_000]);
    repo.push_image("v1", &image);
    repo.push_image("signature", &Image::referrer(&image.manifest, "application/vnd.example.signature"));
    repo.client.send(Request::delete("/v2/some/manifests/signature"));
    for more in [&[][..], &["--only", "content"]] {
        flip_first_reads(&server, &["data/", "blobs/", "repos/"]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
        command
            .arg("-c")
            .arg(server.configuration_file())
            .args(["scrub", "--verify-content", "--report", "-"])
            .args(more);
        let output = command.output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("wrong: nothing"), "{text}");
        assert_eq!(noted(&server), Vec::<String>::new());
    }
}
