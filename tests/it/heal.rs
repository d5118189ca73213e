//! Content that was lost or damaged on the disk under a running server: clients are told so, push it again, and it is whole.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::support::client::Request;
use crate::support::content::{Image, sha256};
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Returns the file of a blob's bytes.
fn stored(server: &Server, bytes: &[u8]) -> PathBuf {
    let mut all = files(&server.root().join("data")).into_iter();
    all.find(|file| fs::read(file).unwrap() == bytes).expect("the blob is stored")
}

fn scrub(server: &Server) {
    let config = server.configuration_file();
    let output = Command::new(env!("CARGO_BIN_EXE_simple-registry"))
        .arg("-c")
        .arg(config)
        .args(["scrub", "--verify-content", "--report", "-"])
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("wrong: 1 quarantined"), "{text}");
}

/// Waits until the answer is 404, for as long as `cache_ttl` allows and what a busy machine adds.
#[track_caller]
fn until_absent(repo: &Repo, path: &str) {
    let began = Instant::now();
    while repo.client.send(Request::head(path.to_owned())).status != 404 {
        assert!(began.elapsed() < Duration::from_secs(20), "{path} is there yet");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The damage to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Removed,
    Cut,
    Flipped,
}

impl Harm {
    fn happens_to(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Removed => return fs::remove_file(file).unwrap(),
            Self::Cut => bytes.truncate(bytes.len() / 2),
            Self::Flipped => *bytes.last_mut().unwrap() ^= 1,
        }
        fs::write(file, bytes).unwrap();
    }
}

#[test]
fn a_blob_found_damaged_by_a_pull_is_absent_at_once_and_pushed_again() {
    for harm in [Harm::Removed, Harm::Cut, Harm::Flipped] {
        let server = Server::start_with(Backend::Directory, "verify_pulls = \"all\"");
        let repo = server.repo("some");
        let image = Image::new(&[5000]);
        repo.push_image("v1", &image);
        let (layer, digest) = (&image.blobs[1], sha256(&image.blobs[1]));
        let path = format!("/v2/some/blobs/{digest}");
        repo.client.send(Request::head(path.clone())).expect(200);
        harm.happens_to(&stored(&server, layer));
        // a pull finds it: an error at once, or the connection ends before the last byte
        let pulled = repo.client.try_send(Request::get(path.clone()));
        assert!(pulled.is_err() || pulled.unwrap().status == 500, "{harm:?}");
        repo.client.send(Request::head(path.clone())).expect(404);
        let manifest = Request::put("/v2/some/manifests/v1").header("content-type", &image.manifest.media_type);
        repo.client.send(manifest.body(image.manifest.bytes.clone())).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
        repo.push_blob(layer);
        repo.client.send(Request::head(path.clone())).expect(200);
        assert!(repo.get_blob(&digest).expect(200).body == *layer, "{harm:?}");
        repo.push_image("v1", &image);
    }
}

#[test]
fn a_blob_found_damaged_by_scrub_is_absent_within_cache_ttl() {
    for harm in [Harm::Removed, Harm::Cut, Harm::Flipped] {
        let server = Server::start(Backend::Directory);
        let repo = server.repo("some");
        let image = Image::new(&[5000]);
        repo.push_image("v1", &image);
        let (layer, digest) = (&image.blobs[1], sha256(&image.blobs[1]));
        let path = format!("/v2/some/blobs/{digest}");
        assert!(repo.get_blob(&digest).expect(200).body == *layer);
        harm.happens_to(&stored(&server, layer));
        scrub(&server);
        until_absent(&repo, &path);
        repo.client.send(Request::get(path)).expect_error(500, "UNKNOWN");
        repo.push_blob(layer);
        assert!(repo.get_blob(&digest).expect(200).body == *layer, "{harm:?}");
    }
}

#[test]
fn a_damaged_manifest_is_absent_to_clients_which_push_it_again() {
    for harm in [Harm::Cut, Harm::Flipped] {
        for restarts in [false, true] {
            let mut server = Server::start(Backend::Directory);
            let image = Image::new(&[100]);
            let digest = server.repo("some").push_image("v1", &image);
            server.repo("some").pull_image("v1");
            let at = server.root().join("repos/some!/manifests");
            let [file] = &files(&at)[..] else { panic!("one version of one manifest") };
            harm.happens_to(file);
            if restarts {
                server.restart();
            } else {
                scrub(&server);
            }
            let repo = server.repo("some");
            for reference in ["v1", digest.as_str()] {
                let path = format!("/v2/some/manifests/{reference}");
                until_absent(&repo, &path);
                let errors = repo.client.send(Request::get(path)).expect_error(404, "MANIFEST_UNKNOWN");
                assert!(errors[0]["message"].as_str().unwrap().contains("damaged"), "{errors:?}");
            }
            // its blobs are the repository's as before
            repo.client.send(Request::head(format!("/v2/some/blobs/{}", sha256(&image.blobs[1])))).expect(200);
            assert_eq!(repo.push_image("v1", &image), digest);
            assert_eq!(repo.pull_image("v1"), digest);
        }
    }
}
