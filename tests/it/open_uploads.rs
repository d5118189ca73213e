//! The number of open uploads of a client and of a repository is bounded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    client::{Request, Response},
    content::sha256,
    on_each_backend,
    repo::{Repo, chunk, finish},
    s3::Fault,
    server::{Backend, Server},
};

const THREE: &str = "max_uploads_per_address = 3\nmax_uploads_per_identity = 3";

on_each_backend! {
    own: a_client_with_too_many_open_uploads_gets_429_until_one_is_over,
        the_longest_silent_upload_of_a_client_gives_way,
        a_restart_counts_the_uploads_that_go_on,
}

fn begin(repo: &Repo) -> Response {
    repo.send(Request::post(repo.path("blobs/uploads/")))
}

#[track_caller]
fn is_full(response: &Response, words: &str) {
    response.clone().expect_error(429, "TOOMANYREQUESTS");
    let seconds: u64 = response.required("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let message = response.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(words), "{message}");
}

fn a_client_with_too_many_open_uploads_gets_429_until_one_is_over(backend: Backend) {
    let server = Server::start_with(backend, &format!("{THREE}\nmax_uploads_per_repository = 2"));
    let (one, other) = (server.repo("a/one"), server.repo("a/other"));
    let first = begin(&one).expect(202).location();
    let second = begin(&one).expect(202).location();
    is_full(&begin(&one), "a/one has 2 open uploads");
    let third = begin(&other).expect(202).location();
    is_full(&begin(&other), "has 3 open uploads");
    // a mount that finds nothing begins an upload too
    let mount = other.path(&format!("blobs/uploads/?mount={}&from=a/one", sha256(b"nowhere")));
    is_full(&other.send(Request::post(mount)), "has 3 open uploads");
    // a whole blob in one request needs no upload
    let whole = other.path(&format!("blobs/uploads/?digest={}", sha256(b"whole")));
    other.send(Request::post(whole).body(b"whole")).expect(201);
    other.send(Request::delete(&third)).expect(204);
    begin(&other).expect(202);
    is_full(&begin(&other), "has 3 open uploads");
    one.send(finish(&first, &sha256(b"x")).body(b"not x")).expect(400);
    is_full(&begin(&other), "has 3 open uploads");
    one.send(finish(&first, &sha256(b"x")).body(b"x")).expect(201);
    begin(&other).expect(202);
    one.send(Request::get(&second)).expect(204);
    let metrics = String::from_utf8(server.client().send(Request::get("/metrics")).expect(200).body).unwrap();
    assert!(metrics.contains("simple_registry_requests_rejected_total{reason=\"too-many-uploads\"} 5\n"), "{metrics}");
    assert!(metrics.contains("simple_registry_shares_given_up_total{pool=\"uploads\"} 0\n"), "{metrics}");
}

fn the_longest_silent_upload_of_a_client_gives_way(backend: Backend) {
    let mut server = Server::start_with(backend, THREE);
    let repo = server.repo("a/b");
    let [first, second, third] = [(); 3].map(|()| begin(&repo).expect(202).location());
    is_full(&begin(&repo), "has 3 open uploads");
    repo.send(chunk(&first, 0, b"goes on")).expect(202);
    // from now on a second counts as silence
    let lines = server.log().len();
    server.edit(&format!("{THREE}\nserver.query_timeout = 1"));
    server.wait_for_line(lines, &["reloaded: "]);
    let deadline = Instant::now() + Duration::from_secs(50);
    let fourth = loop {
        let answer = begin(&repo);
        if answer.status == 202 {
            break answer.location();
        }
        is_full(&answer, "has 3 open uploads");
        assert!(Instant::now() < deadline, "no upload gives way");
    };
    repo.send(Request::get(&second)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    for open in [&first, &third, &fourth] {
        repo.send(Request::get(open)).expect(204);
    }
}

fn a_restart_counts_the_uploads_that_go_on(backend: Backend) {
    let mut server = Server::start_with(backend, THREE);
    let open = [(); 3].map(|()| begin(&server.repo("a/b")).expect(202).location());
    server.restart();
    let repo = server.repo("a/b");
    repo.send(chunk(&open[0], 0, b"goes on")).expect(202);
    repo.send(Request::get(&open[1])).expect(204);
    begin(&repo).expect(202);
    is_full(&begin(&repo), "has 3 open uploads");
}

/// Waits until the server has `what`.
fn wait_for(what: &str, has: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !has() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_upload_counts_although_its_client_leaves_before_the_answer() {
    let server = Server::start_on_own_s3("max_uploads_per_address = 1\nmax_uploads_per_identity = 1");
    let repo = server.repo("a/b");
    let is_written = Arc::new(AtomicBool::new(false));
    let writes = Arc::clone(&is_written);
    server.s3().fail(move |operation, key| {
        let is_state = operation == "PutObject" && key.contains("uploads/");
        writes.fetch_or(is_state, Ordering::SeqCst);
        is_state.then_some(Fault::Hold)
    });
    let holds = |requests: u32| {
        let metrics = String::from_utf8(server.client().send(Request::get("/metrics")).expect(200).body).unwrap();
        metrics.contains(&format!("simple_registry_requests_in_flight {requests}\n"))
    };
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&Request::post(repo.path("blobs/uploads/")).header("content-length", 0)).expect("write");
    wait_for("the upload does not begin", || is_written.load(Ordering::SeqCst));
    drop(connection);
    // the request for the metrics is the one that is left
    wait_for("the server does not notice that the client left", || holds(1));
    server.s3().release();
    server.s3().heal();
    is_full(&begin(&repo), "has 1 open uploads");
}
