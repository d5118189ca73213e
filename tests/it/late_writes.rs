//! Writes that were answered 503 and land later: what was acknowledged since stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::s3::Fault;
use crate::support::server::Server;

const SETTINGS: &str = "cache_ttl = \"0s\"\nserver.query_timeout = 2";

/// Sends a request whose first write under a key with `part` in it is answered only after its client gave up.
fn given_up(server: &Server, repo: &Repo, part: &'static str, request: Request) {
    let held = AtomicBool::new(false);
    let before = server.s3().late();
    server.s3().fail(move |operation, key| {
        let holds = operation == "PutObject" && key.contains(part) && !held.swap(true, Ordering::Relaxed);
        holds.then_some(Fault::Late)
    });
    repo.send(request).expect(503);
    server.s3().heal();
    let late = server.s3().late();
    assert_eq!((late.kept, late.landed), (before.kept + 1, before.landed), "one write waits, and has not landed");
}

/// Lets the write land.
fn lands(server: &Server) {
    let deadline = Instant::now() + Duration::from_mins(1);
    server.s3().release();
    while server.s3().late().landed < server.s3().late().kept {
        assert!(Instant::now() < deadline, "the write does not land");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a server with two images beside the one that `latest` means. The smaller digest comes first, or last.
fn world(ascending: bool) -> (Server, Repo, [Image; 2]) {
    let server = Server::start_on_own_s3(SETTINGS);
    let repo = server.repo("late");
    repo.push_image("latest", &Image::new(&[10]));
    let mut images = [Image::new(&[20]), Image::new(&[30])];
    for image in &images {
        repo.push_blobs(image);
    }
    images.sort_by_key(|image| image.manifest.digest());
    if !ascending {
        images.reverse();
    }
    (server, repo, images)
}

fn means(repo: &Repo, image: &Image) {
    assert_eq!(
        repo.get_manifest("latest").expect(200).header("docker-content-digest"),
        Some(&*image.manifest.digest())
    );
}

/// The writes of a tag's version.
const OF_TAG: [&str; 2] = ["/tag-claims/latest!/", "/tags/latest!/"];
/// The writes of a manifest's version.
const OF_MANIFEST: [&str; 2] = ["/manifest-claims/", "/manifests/sha256/"];

#[test]
fn a_push_that_lands_late_leaves_the_tag_to_a_later_push() {
    for part in OF_TAG {
        for ascending in [true, false] {
            let (server, repo, [first, second]) = world(ascending);
            given_up(&server, &repo, part, repo.put_manifest("latest", &first.manifest));
            repo.push_manifest("latest", &second.manifest);
            means(&repo, &second);
            lands(&server);
            means(&repo, &second);
        }
    }
}

#[test]
fn a_push_that_lands_late_leaves_a_tag_deleted_that_was_deleted_since() {
    for part in OF_TAG {
        let (server, repo, [first, _]) = world(true);
        given_up(&server, &repo, part, repo.put_manifest("latest", &first.manifest));
        repo.send(Request::delete(repo.manifest_path("latest"))).expect(202);
        repo.get_manifest("latest").expect(404);
        lands(&server);
        repo.get_manifest("latest").expect(404);
        assert_eq!(repo.tags(""), Vec::<String>::new());
    }
}

#[test]
fn a_delete_that_lands_late_leaves_the_tag_to_a_later_push() {
    for part in OF_TAG {
        let (server, repo, [first, _]) = world(true);
        given_up(&server, &repo, part, Request::delete(repo.manifest_path("latest")));
        repo.push_manifest("latest", &first.manifest);
        lands(&server);
        means(&repo, &first);
    }
}

#[test]
fn a_push_by_digest_that_lands_late_leaves_a_manifest_deleted_that_was_deleted_since() {
    for part in OF_MANIFEST {
        let (server, repo, [first, _]) = world(true);
        let digest = repo.push_manifest(&first.manifest.digest(), &first.manifest);
        given_up(&server, &repo, part, repo.put_manifest(&digest, &first.manifest));
        repo.send(Request::delete(repo.manifest_path(&digest))).expect(202);
        repo.get_manifest(&digest).expect(404);
        lands(&server);
        repo.get_manifest(&digest).expect(404);
    }
}

#[test]
fn a_delete_by_digest_that_lands_late_leaves_a_manifest_that_was_pushed_since() {
    for part in OF_MANIFEST {
        let (server, repo, [first, _]) = world(true);
        let digest = repo.push_manifest("latest", &first.manifest);
        given_up(&server, &repo, part, Request::delete(repo.manifest_path(&digest)));
        repo.push_manifest("latest", &first.manifest);
        lands(&server);
        repo.get_manifest(&digest).expect(200);
        means(&repo, &first);
    }
}
