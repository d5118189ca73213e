//! A storage that fails, is full, stalls or loses answers, at every operation of a push and of a pull: the client gets 5xx, nothing wrong
//! becomes visible, and the retry succeeds. On S3, whose server here fails on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
fn succeeded(response: Response) -> Result<Response, Box<Response>> {
    match response.status {
        200..300 => Ok(response),
        503 => {
            assert!(response.header("retry-after").is_some(), "\n{response:?}");
            Err(Box::new(response))
        }
        500..600 => Err(Box::new(response)),
        _ => panic!("a fault of the storage is told as something else\n{response:?}"),
    }
}

/// Pushes an image of two layers, each blob in another way; ends at the first failure.
fn push(repo: &Repo, image: &Image) -> Result<(), Box<Response>> {
    let start = || succeeded(repo.send(Request::post(repo.path("blobs/uploads/")))).map(|begun| begun.location());
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

/// Tries operation after operation, several at once, each on a server of its own, until `try_at` says that there was none; fails where
/// that was before the `least`th.
fn every_operation(settings: &str, least: usize, try_at: impl Fn(&mut Server, usize) -> bool + Sync) {
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut server = Server::start_on_own_s3(settings);
                while !done.load(Ordering::Relaxed) {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if !try_at(&mut server, nth) {
                        assert!(nth > least, "there were {nth} operations alone, so that most were never tried");
                        done.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn every_operation_of_a_push(plan: Plan, settings: &str) {
    every_operation(settings, 10, |server, nth| push_with_fault_at(server, nth, plan));
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
    every_operation_of_a_push(Plan { fault: Fault::Stall, lasting: false }, "server.query_timeout = 2");
}

/// Pulls with the fault at the `nth` operation: 5xx or a transfer that breaks off, never 404 and never other bytes. Returns whether there
/// was such an operation.
fn pull_with_fault_at(server: &mut Server, nth: usize, plan: Plan) -> bool {
    let image = Image::new(&[30_000, 3_000_000]);
    let name = format!("faults/pull-{nth}");
    let digest = server.repo(&name).push_image("v1", &image);
    // nothing remembered, so that the storage is asked
    server.restart();
    let repo = server.repo(&name);
    let hit = fail_at(server, nth, plan);
    let listings = [repo.path("tags/list"), repo.path(&format!("referrers/{digest}"))];
    let contents = [repo.manifest_path("v1"), repo.manifest_path(&digest)];
    for path in contents.into_iter().chain(listings).chain(image.blobs.iter().map(|blob| repo.blob_path(&sha256(blob))))
    {
        let Ok(response) = repo.client.try_send(Request::get(&path).header("accept", EVERY_TYPE)) else { continue };
        let Ok(response) = succeeded(response) else { continue };
        if path.ends_with("tags/list") {
            assert_eq!(response.json()["tags"][0], "v1", "a listing that was cut is no shorter list");
        } else if !path.contains("/referrers/") {
            let expected = path.rsplit('/').next().filter(|said| said.starts_with("sha256:")).unwrap_or(&digest);
            assert_eq!(sha256(&response.body), expected, "fault at {nth}");
        }
    }
    server.s3().heal();
    assert_eq!(repo.pull_image("v1"), digest, "fault at {nth}");
    hit.load(Ordering::Relaxed)
}

fn every_operation_of_a_pull(plan: Plan) {
    every_operation("", 4, |server, nth| pull_with_fault_at(server, nth, plan));
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

#[test]
fn a_store_that_does_not_answer_is_not_ready_and_is_asked_once_a_second() {
    let server = Server::start_on_own_s3("");
    let until = |status: u16| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.client().send(Request::get("/readyz")).status != status {
            assert!(Instant::now() < deadline, "it is never {status}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    until(200);
    let reads = || server.s3().requests().values().sum::<usize>();
    let (before, began) = (reads(), Instant::now());
    for _ in 0..50 {
        server.client().send(Request::get("/readyz")).expect(200);
    }
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(reads() - before <= most, "{} looks at the store", reads() - before);
    server.s3().fail(|_, _| Some(Fault::Status(403)));
    until(503);
    server.client().send(Request::get("/healthz")).expect(200);
    server.s3().heal();
    until(200);
}
