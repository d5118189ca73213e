//! A storage that fails, is full, stalls or loses answers, at every operation of a push and of a pull: the client gets 5xx, nothing wrong
//! becomes visible, and the retry succeeds. On S3, whose server here fails on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::client::{Request, Response};
use crate::support::content::{EVERY_TYPE, Image, sha256};
use crate::support::repo::{Repo, finish};
use crate::support::s3::Fault;
use crate::support::server::Server;

/// A fault and how long it lasts.
#[derive(Clone, Copy)]
struct Plan {
    fault: Fault,
    /// From its operation on, until it is healed; otherwise at that operation alone.
    lasting: bool,
}

/// Makes operation `nth` (from 0, counted from now) of the server's storage fail; tells whether it came to that.
fn fail_at(server: &Server, nth: usize, plan: Plan) -> Arc<AtomicBool> {
    let (hit, mut count) = (Arc::new(AtomicBool::new(false)), 0);
    let told = Arc::clone(&hit);
    server.s3().fail(move |_, _| {
        let fails = if plan.lasting { count >= nth } else { count == nth };
        count += 1;
        told.fetch_or(fails, Ordering::Relaxed);
        fails.then_some(plan.fault)
    });
    hit
}

/// This answer where it is a success, an error where it is the storage's fault, said as it should be; anything else fails the test.
#[track_caller]
fn succeeded(response: Response) -> Result<Response, Response> {
    match response.status {
        200..300 => Ok(response),
        503 => {
            assert!(response.header("retry-after").is_some(), "\n{response:?}");
            Err(response)
        }
        500..600 => Err(response),
        _ => panic!("a fault of the storage is told as something else\n{response:?}"),
    }
}

/// Pushes an image of two layers, each blob in another way; ends at the first failure.
fn push(repo: &Repo, image: &Image) -> Result<(), Response> {
    let start = || Ok(succeeded(repo.send(Request::post(repo.path("blobs/uploads/"))))?.location());
    let [config, first, second] = &image.blobs[..] else { panic!("an image of two layers") };
    succeeded(
        repo.send(Request::post(repo.path(&format!("blobs/uploads/?digest={}", sha256(config)))).body(config.clone())),
    )?;
    let location = succeeded(repo.send(Request::patch(start()?).body(first.clone()).chunked()))?.location();
    succeeded(repo.send(finish(&location, &sha256(first))))?;
    succeeded(repo.send(finish(&start()?, &sha256(second)).body(second.clone())))?;
    succeeded(repo.send(repo.put_manifest("v1", &image.manifest)))?;
    Ok(())
}

/// Pushes with the fault at the `nth` operation, heals, looks and tries again. Returns whether there was such an operation.
fn push_with_fault_at(server: &Server, nth: usize, plan: Plan) -> bool {
    let repo = server.repo(&format!("faults/push-{nth}"));
    let image = Image::new(&[30_000, 6_000_000]);
    let hit = fail_at(server, nth, plan);
    let pushed = push(&repo, &image);
    server.s3().heal();
    let tag = repo.get_manifest("v1");
    match pushed {
        Ok(()) => drop(tag.expect(200)),
        // an answer may be lost when all was done; then what is there is whole
        Err(_) if tag.status == 200 => assert_eq!(repo.pull_image("v1"), image.manifest.digest()),
        Err(_) => drop(tag.expect(404)),
    }
    for blob in &image.blobs {
        let pulled = repo.get_blob(&sha256(blob));
        assert!(pulled.status == 404 || pulled.body == *blob, "fault at {nth}: another blob than was asked for");
    }
    push(&repo, &image).unwrap_or_else(|response| panic!("fault at {nth}: the retry failed\n{response:?}"));
    assert_eq!(repo.pull_image("v1"), image.manifest.digest(), "fault at {nth}");
    hit.load(Ordering::Relaxed)
}

/// Goes through every operation of a push, some at once, each on a server of its own.
fn every_operation_of_a_push(plan: Plan, settings: &str) {
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let server = Server::start_on_own_s3(settings);
                while !done.load(Ordering::Relaxed) {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if !push_with_fault_at(&server, nth, plan) {
                        done.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(next.load(Ordering::Relaxed) > 10, "a push is more than a few operations, so that most were never tried");
}

#[test]
fn a_push_survives_a_storage_that_fails_once() {
    every_operation_of_a_push(Plan { fault: Fault::Status(500), lasting: false }, "");
}

#[test]
fn a_push_survives_a_storage_that_goes_away() {
    every_operation_of_a_push(Plan { fault: Fault::Status(503), lasting: true }, "");
}

#[test]
fn a_push_survives_a_storage_that_is_full() {
    every_operation_of_a_push(Plan { fault: Fault::Status(507), lasting: true }, "");
}

#[test]
fn a_push_survives_a_lost_answer() {
    every_operation_of_a_push(Plan { fault: Fault::Lost, lasting: false }, "");
}

#[test]
fn a_push_survives_a_storage_that_stalls() {
    every_operation_of_a_push(Plan { fault: Fault::Stall, lasting: false }, "server.query_timeout = 3");
}

/// A fault while reading is 5xx or a transfer that breaks off, never 404 and never other bytes.
fn every_operation_of_a_pull(plan: Plan) {
    let mut server = Server::start_on_own_s3("");
    let image = Image::new(&[30_000, 3_000_000]);
    let digest = server.repo("faults/pull").push_image("v1", &image);
    for nth in 0.. {
        // nothing remembered, so that the storage is asked
        server.restart();
        let repo = server.repo("faults/pull");
        let hit = fail_at(&server, nth, plan);
        let requests = [
            repo.manifest_path("v1"),
            repo.manifest_path(&digest),
            repo.path("tags/list"),
            repo.path(&format!("referrers/{digest}")),
        ];
        for path in requests.into_iter().chain(image.blobs.iter().map(|blob| repo.blob_path(&sha256(blob)))) {
            let Ok(response) = repo.client.try_send(Request::get(&path).header("accept", EVERY_TYPE)) else { continue };
            let Ok(response) = succeeded(response) else { continue };
            if let Some(said) =
                path.rsplit('/').next().filter(|said| said.starts_with("sha256:") && !path.contains("referrers"))
            {
                assert_eq!(sha256(&response.body), said, "fault at {nth}");
            } else if path.ends_with("tags/list") {
                assert_eq!(response.json()["tags"][0], "v1", "a listing that was cut is no shorter list");
            }
        }
        server.s3().heal();
        assert_eq!(repo.pull_image("v1"), digest, "fault at {nth}");
        if !hit.load(Ordering::Relaxed) {
            assert!(nth > 2, "a pull is more than {nth} operations");
            return;
        }
    }
}

#[test]
fn a_pull_from_a_storage_that_fails_once_is_never_404() {
    every_operation_of_a_pull(Plan { fault: Fault::Status(500), lasting: false });
}

#[test]
fn a_pull_from_a_storage_that_goes_away_is_never_404() {
    every_operation_of_a_pull(Plan { fault: Fault::Status(503), lasting: true });
}

#[test]
fn a_pull_from_a_storage_that_cuts_its_answers_is_never_wrong() {
    every_operation_of_a_pull(Plan { fault: Fault::Cut, lasting: true });
}
