//! More requests than are answered at once: some wait, for a bounded time and bounded in number, and the others are turned away with
//! a word on when to come again. On S3, whose server here stalls on request, so that the one slot there is stays taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Connection, Request, Response};
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::s3::Fault;
use crate::support::server::Server;

/// The number of requests that may wait for one slot, and the time for which they may.
const PLACES: usize = 20;
const WAIT: Duration = Duration::from_secs(10);

/// Sends a request that the storage never answers, and waits until the request has its slot. A drop of the connection frees the slot.
fn take_the_slot(server: &Server, repo: &Repo) -> Connection {
    let stalled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stalled);
    server.s3().fail(move |_, _| {
        told.store(true, Ordering::Relaxed);
        Some(Fault::Stall)
    });
    let mut connection = repo.client.connect().unwrap();
    connection.write_head(&Request::get(repo.manifest_path("never-asked-for-before"))).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !stalled.load(Ordering::Relaxed) {
        assert!(Instant::now() < until, "the storage was never asked");
        thread::sleep(Duration::from_millis(2));
    }
    server.s3().heal();
    connection
}

/// Waits until the server has so many requests before it.
fn wait_until_in_flight(server: &Server, requests: usize) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = server.client().send(Request::get("/metrics")).expect(200).body;
        let metrics = String::from_utf8(metrics).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("simple_registry_requests_in_flight "));
        if line.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number >= requests) {
            return;
        }
        assert!(Instant::now() < until, "{line:?} requests are in flight, of {requests}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends as many requests at once; each answer, and how long it took.
fn at_once(repo: &Repo, requests: usize) -> Vec<(Response, Duration)> {
    thread::scope(|scope| {
        let sent: Vec<_> = (0..requests)
            .map(|_| {
                scope.spawn(|| {
                    let began = Instant::now();
                    (repo.get_manifest("v1"), began.elapsed())
                })
            })
            .collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    })
}

#[test]
fn a_request_that_waits_too_long_or_finds_the_queue_full_is_503() {
    let server = Server::start_on_own_s3("max_concurrent_requests = 1");
    let repo = server.repo("a/b");
    repo.push_image("v1", &Image::new(&[1000]));
    let slot = take_the_slot(&server, &repo);
    let (waited, at_once): (Vec<_>, Vec<_>) =
        at_once(&repo, PLACES + 5).into_iter().partition(|(_, took)| *took >= WAIT);
    let times = |answers: &[(Response, Duration)]| answers.iter().map(|(_, took)| *took).collect::<Vec<_>>();
    assert_eq!(waited.len(), PLACES, "{:?} and {:?}", times(&waited), times(&at_once));
    assert!(times(&at_once).iter().all(|took| *took < WAIT / 2), "{:?}", times(&at_once));
    for (response, _) in waited.into_iter().chain(at_once) {
        let seconds = response.required("retry-after").parse::<u32>();
        assert!(seconds.is_ok_and(|seconds| seconds > 0), "{response:?}");
        response.expect_error(503, "TOOMANYREQUESTS");
    }
    // health answers are not counted, and tell what happened
    server.client().send(Request::get("/healthz")).expect(200);
    let metrics = server.client().send(Request::get("/metrics")).expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    for (reason, number) in [("waited-too-long", PLACES), ("queue-full", 5)] {
        let line = format!("simple_registry_requests_rejected_total{{reason=\"{reason}\"}} {number}\n");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    // the slot is free once its request is gone, and whoever waits for it then is answered
    drop(slot);
    repo.get_manifest("v1").expect(200);
}

#[test]
fn a_waiting_request_gets_the_next_free_slot() {
    let server = Server::start_on_own_s3("max_concurrent_requests = 1");
    let repo = server.repo("a/b");
    repo.push_image("v1", &Image::new(&[1000]));
    let slot = take_the_slot(&server, &repo);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| at_once(&repo, PLACES));
        wait_until_in_flight(&server, 1 + PLACES);
        drop(slot);
        for (response, _) in waiting.join().unwrap() {
            response.expect(200);
        }
    });
}
