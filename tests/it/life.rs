//! A server's life: its start line, its stop, its limits, and its logs, metrics and spans.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shared::collector::{Collector, text};
use crate::start::says;
use crate::support::client::Request;
use crate::support::content::{Image, sha256, unique};
use crate::support::on_each_backend;
use crate::support::repo::{chunk, finish};
use crate::support::server::{Backend, Server};

/// Returns the events of the log.
fn events(server: &Server) -> Vec<Value> {
    server
        .log()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_second_signal_ends_a_server_that_waits_for_its_requests() {
    let mut server = Server::start_plain(Backend::Directory, "server.query_timeout_grace_period = 3600");
    let lines = server.log().len();
    let mut waiting = server.client().connect().expect("connect");
    let request = Request::patch(server.repo("a").start_upload()).header("content-length", 10);
    waiting.write_head(&request).expect("write");
    begun(&server);
    server.signal(rustix::process::Signal::INT);
    server.wait_for_line(lines, &["stopping: no new connections"]);
    assert_eq!(server.terminate().code(), Some(130));
}

fn the_start_logs_one_line_with_the_open_repositories(backend: Backend) {
    let server = Server::start(backend);
    let events = events(&server);
    let starts: Vec<_> = events.iter().filter(|event| event["address"] == server.address()).collect();
    assert_eq!(starts.len(), 1, "{events:?}");
    let wanted = ["serving http://", "anyone may push to every repository", "0 policy files in /"];
    says(starts[0]["message"].as_str().unwrap(), &wanted);
    assert!(events.iter().all(|event| event["level"] != "WARN"), "on loopback nobody is warned: {events:?}");
}

#[test]
fn a_repository_open_to_everyone_on_a_public_address_is_a_warning() {
    let server = Server::start_with(Backend::Directory, "[server]\nbind_address = \"0.0.0.0\"");
    assert!(
        events(&server)
            .iter()
            .any(|event| event["level"] == "WARN" && event["message"].as_str().unwrap().contains("WARNING"))
    );
}

/// Waits until the server says that a body is on its way: one that it has not seen yet it may turn away.
#[track_caller]
fn begun(server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = server.client().send(Request::get("/metrics")).expect(200);
        if String::from_utf8_lossy(&metrics.body).contains("\nsimple_registry_transfers_in_flight 1\n") {
            return;
        }
        assert!(Instant::now() < until, "the server never saw the body");
    }
}

fn a_stop_waits_for_a_running_upload(backend: Backend) {
    let mut server = Server::start(backend);
    let repo = server.repo("a/b");
    let data = unique(200_000);
    let location = repo.start_upload();
    let request = finish(&location, &sha256(&data)).body(data.clone());
    let mut connection = repo.client.connect().unwrap();
    connection.write_head(&request).unwrap();
    connection.write(&data[..100_000]).unwrap();
    begun(&server);
    let (told, stopped) = mpsc::channel();
    let ending = thread::scope(|scope| {
        let server = &mut server;
        let ending = scope.spawn(move || {
            told.send(()).unwrap();
            server.terminate()
        });
        stopped.recv().unwrap();
        connection.write(&data[100_000..]).unwrap();
        connection.read_response(&request).unwrap().expect(201);
        ending.join().unwrap()
    });
    assert_eq!(ending.code(), Some(0));
    server.restart();
    assert_eq!(server.repo("a/b").get_blob(&sha256(&data)).expect(200).body, data);
}

fn an_upload_that_a_stop_breaks_off_after_its_grace_can_be_resumed(backend: Backend) {
    let mut server = Server::start_with(backend, "[server]\nquery_timeout_grace_period = 1");
    let repo = server.repo("a/b");
    let data = unique(50_000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..20_000])).expect(202).location();
    let torn = chunk(&location, 20_000, &data[20_000..]);
    let mut connection = repo.client.connect().unwrap();
    connection.write_head(&torn).unwrap();
    connection.write(&data[20_000..30_000]).unwrap();
    begun(&server);
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    let repo = server.repo("a/b");
    let status = repo.send(Request::get(&location)).expect(204);
    assert_eq!(status.required("range"), "0-19999");
    let location = repo.send(chunk(&status.location(), 20_000, &data[20_000..])).expect(202).location();
    repo.send(finish(&location, &sha256(&data))).expect(201);
}

/// Two slow bodies do not hold the one slot there is; a third transfer is turned away with a word on when to come again.
fn slow_transfers_do_not_block_other_requests(backend: Backend) {
    let server = Server::start_with(backend, "max_concurrent_requests = 1\nmax_concurrent_transfers = 2");
    let repo = server.repo("a/b");
    let image = Image::new(&[1000]);
    repo.push_image("latest", &image);
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let request = chunk(&repo.start_upload(), 0, &unique(1000));
            let mut connection = repo.client.connect().unwrap();
            connection.write_head(&request).unwrap();
            connection.write(b"x").unwrap();
            connection
        })
        .collect();
    // the server may not have read those heads yet
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let refused = repo.send(chunk(&repo.start_upload(), 0, &unique(10)));
        if refused.status == 503 {
            refused.required("retry-after");
            refused.expect_error(503, "TOOMANYREQUESTS");
            break;
        }
        assert!(Instant::now() < until, "a third transfer was never turned away");
    }
    repo.get_manifest("latest").expect(200);
    drop(slow);
}

fn health_and_metrics_answer_at_their_configured_addresses(backend: Backend) {
    let server = Server::start(backend);
    for path in ["/healthz", "/readyz"] {
        server.client().send(Request::get(path)).expect(200);
    }
    server.repo("a/b").push_image("latest", &Image::new(&[10]));
    let metrics = server.client().send(Request::get("/metrics")).expect(200);
    assert!(metrics.required("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(metrics.body).unwrap();
    says(
        &text,
        &[
            "simple_registry_requests_total{",
            "action=\"put-manifest\"",
            "status=\"201\"",
            "simple_registry_storage_operations_total{",
        ],
    );
    assert!(text.ends_with("# EOF\n"));
    let off = "[observability.metrics]\nlisten = \"off\"\n[observability.health]\nlisten = \"off\"";
    let server = Server::start_with(backend, off);
    for path in ["/healthz", "/readyz", "/metrics", "/%6detrics"] {
        server.client().send(Request::get(path)).expect(404);
        server.client().send(Request::post(path)).expect(404);
    }
}

/// One span a request, its storage operations under it, at a real receiver; none where the sampling rate is 0.
fn spans_of_storage_are_children_of_their_request(backend: Backend) {
    let collector = Collector::start();
    let settings =
        |rate: &str| format!("[observability.tracing]\nendpoint = {:?}\nsampling_rate = {rate}", collector.url());
    let mut silent = Server::start_with(backend, &settings("0.0"));
    silent.repo("a/b").push_image("latest", &Image::new(&[10]));
    silent.terminate();
    assert_eq!(collector.spans().len(), 0, "nothing is sampled at a rate of 0");
    let mut server = Server::start_with(backend, &settings("1.0"));
    let image = Image::new(&[10]);
    server.repo("a/b").push_image("latest", &image);
    server.terminate(); // which sends what is left
    let spans = collector.spans();
    let requests: Vec<_> = spans.iter().filter(|span| span.name == "request").collect();
    let put = requests.iter().find(|span| text(&span.attributes, "action").as_deref() == Some("put-manifest")).unwrap();
    assert_eq!(text(&put.attributes, "repository").as_deref(), Some("a/b"));
    let below: Vec<_> = spans.iter().filter(|span| span.parent_span_id == put.span_id).collect();
    let operations: Vec<_> = below.iter().filter_map(|span| text(&span.attributes, "operation")).collect();
    assert!(operations.iter().any(|operation| operation == "put"), "{operations:?}");
    assert!(below.iter().all(|span| span.name == "storage" && span.trace_id == put.trace_id));
}

fn a_request_logs_one_line(backend: Backend) {
    let mut server = Server::start(backend);
    let repo = server.repo("a/b");
    let id = "a-request-of-mine.1";
    let request = Request::get(repo.manifest_path("nothing")).header("X-Request-Id", id);
    let response = repo.send(request);
    assert_eq!(response.required("x-request-id"), id);
    response.expect_error(404, "MANIFEST_UNKNOWN");
    server.terminate(); // all lines are there now
    let lines: Vec<_> = events(&server).into_iter().filter(|event| event["request_id"] == id).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    for (field, value) in [
        ("message", "request"),
        ("action", "get-manifest"),
        ("repository", "a/b"),
        ("reference", "nothing"),
        ("identity", "anonymous"),
        ("client", "127.0.0.1"),
        ("error", "MANIFEST_UNKNOWN"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 404);
    assert!(line["duration_ms"].as_f64().is_some() && line["bytes"].as_u64() > Some(0), "{line}");
}

fn a_request_of_a_client_that_disconnects_is_logged(backend: Backend) {
    let mut server = Server::start(backend);
    let repo = server.repo("a/b");
    let request = chunk(&repo.start_upload(), 0, &unique(1000)).header("X-Request-Id", "gone");
    let mut connection = repo.client.connect().unwrap();
    connection.write_head(&request).unwrap();
    connection.write(b"x").unwrap();
    drop(connection);
    // a body that breaks off may be noticed as such, or as a client that is gone: both are said
    let until = Instant::now() + Duration::from_secs(20);
    let line = loop {
        if let Some(line) = events(&server).into_iter().find(|event| event["request_id"] == "gone") {
            break line;
        }
        assert!(Instant::now() < until, "a client that went away left no line");
        thread::yield_now();
    };
    assert!([400, 499].contains(&line["status"].as_u64().unwrap()), "{line}");
    assert!(line["cause"].is_string(), "{line}");
    server.terminate();
}

on_each_backend! {
    own:
        the_start_logs_one_line_with_the_open_repositories,
        a_stop_waits_for_a_running_upload,
        an_upload_that_a_stop_breaks_off_after_its_grace_can_be_resumed,
        slow_transfers_do_not_block_other_requests,
        health_and_metrics_answer_at_their_configured_addresses,
        a_request_logs_one_line,
        spans_of_storage_are_children_of_their_request,
        a_request_of_a_client_that_disconnects_is_logged,
}
