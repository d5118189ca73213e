//! Clients share what a server has: one client holds all of it only while nobody else asks.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    client::Request,
    content::{Image, unique},
    s3::Fault,
    server::{Backend, Server},
};

/// Connects from an address of the loopback network.
fn connect(server: &Server, last: u8) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
    rustix::net::connect(&socket, &server.address().parse::<SocketAddr>().unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

/// Sends a head, and the beginning of a body.
fn send(server: &Server, last: u8, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = connect(server, last);
    write!(stream, "{head} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n").unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Sends a request without a body, and returns the status of its answer; 0 if the connection ends without one.
fn status(server: &Server, last: u8, head: &str) -> u16 {
    let mut stream = send(server, last, head, b"\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let line = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Returns the value of a metric, 0 where there is none.
fn metric(server: &Server, name: &str) -> u64 {
    let text = server.client().send(Request::get("/metrics")).expect(200).body;
    let text = String::from_utf8(text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small")]
    value.map_or(0, |value| value as u64)
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn are_moving(server: &Server, transfers: u64) -> bool {
    metric(server, "simple_registry_transfers_in_flight") == transfers
}

/// Returns whether the server has ended a connection on which nothing else came.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Reads until the server ends a connection, and returns the number of bytes.
fn drain(stream: &mut TcpStream) -> usize {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest.len()
}

const UPLOAD: &str = "content-length: 100000\r\n\r\n";

#[test]
fn a_client_that_holds_all_transfers_gives_them_up_to_another() {
    let server = Server::start_plain(Backend::Directory, "max_concurrent_transfers = 4");
    let digest = server.repo("a/b").push_blob(&unique(100));
    let post = format!("POST /v2/a/b/blobs/uploads/?digest={digest}");
    let mut uploads: Vec<_> = (0..4).map(|_| send(&server, 2, &post, UPLOAD.as_bytes())).collect();
    until("four uploads", || are_moving(&server, 4));
    let get = format!("GET /v2/a/b/blobs/{digest}");
    assert_eq!(status(&server, 2, &get), 503, "its own transfers are not taken from it");
    for _ in 0..4 {
        assert_eq!(status(&server, 3, &get), 200);
    }
    until("one upload has ended, since the pulls came one after the other", || are_moving(&server, 3));
    assert_eq!(uploads.iter_mut().map(has_ended).filter(|ended| *ended).count(), 1);
    assert_eq!(metric(&server, "simple_registry_shares_given_up_total{pool=\"transfers\"}"), 1);
    assert!(server.log().iter().any(|line| line.contains("another client had a right to its place")));
}

#[test]
fn a_client_that_reads_no_answers_gives_up_their_transfers() {
    let server = Server::start_plain(Backend::Directory, "max_concurrent_transfers = 4");
    let large = server.repo("a/b").push_blob(&unique(30_000_000));
    let small = server.repo("a/b").push_blob(&unique(100));
    let get = format!("GET /v2/a/b/blobs/{large}");
    let mut pulls: Vec<_> = (0..4).map(|_| send(&server, 2, &get, b"\r\n")).collect();
    until("four pulls", || are_moving(&server, 4));
    assert_eq!(status(&server, 3, &format!("GET /v2/a/b/blobs/{small}")), 200);
    until("one pull has ended", || are_moving(&server, 3));
    assert_eq!(pulls.iter_mut().map(drain).filter(|bytes| *bytes < 30_000_000).count(), 1);
}

#[test]
fn the_last_bytes_of_a_pull_count_until_the_client_has_them() {
    let server = Server::start_plain(
        Backend::Directory,
        "max_concurrent_transfers = 2\n[server]\nstreaming_chunk_size = \"64MiB\"",
    );
    let blob = server.repo("a/b").push_blob(&unique(30_000_000));
    let get = format!("GET /v2/a/b/blobs/{blob}");
    // the whole blob is one piece, which the server has read long before the client takes it
    let _pulls: Vec<_> = (0..2).map(|_| send(&server, 2, &get, b"\r\n")).collect();
    until("two pulls", || are_moving(&server, 2));
    until("both are read", || {
        metric(&server, "simple_registry_response_body_bytes_total{action=\"get-blob\"}") == 60_000_000
    });
    assert!(are_moving(&server, 2), "nobody took their bytes");
    assert_eq!(status(&server, 2, &get), 503);
}

#[test]
fn a_list_keeps_nobody_from_a_pull() {
    let server = Server::start_on_own_s3("max_concurrent_requests = 1");
    let repo = server.repo("a/b");
    repo.push_image("v1", &Image::new(&[10]));
    let stalled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stalled);
    server.s3().fail(move |_, _| {
        told.store(true, Ordering::Relaxed);
        Some(Fault::Stall)
    });
    let mut list = repo.client.connect().unwrap();
    list.write_head(&Request::get("/v2/_catalog")).unwrap();
    until("the list waits for the store", || stalled.load(Ordering::Relaxed));
    server.s3().heal();
    repo.get_manifest("v1").expect(200);
}

#[test]
fn a_manifest_waits_for_memory_and_takes_it_from_a_client_that_holds_more() {
    let server = Server::start_plain(Backend::Directory, "document_memory = \"1MiB\"");
    let image = Image::new(&[10]);
    let repo = server.repo("a/b");
    repo.push_image("v1", &image);
    let put = "PUT /v2/a/b/manifests/large";
    let body = "content-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 400000\r\n\r\n{";
    let mut stalled: Vec<_> = (0..2).map(|_| send(&server, 2, put, body.as_bytes())).collect();
    until("two manifests", || are_moving(&server, 2));
    let mut other = send(&server, 3, put, body.as_bytes());
    until("the third is under way in place of one of two", || {
        metric(&server, "simple_registry_shares_given_up_total{pool=\"documents\"}") == 1 && are_moving(&server, 2)
    });
    drop(stalled.drain(..));
    other.write_all(&vec![b' '; 399_999]).unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[test]
fn a_long_head_is_431() {
    let server = Server::start_plain(Backend::Directory, "");
    let head = format!("GET /v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\nx: {}", "a".repeat(70_000));
    let mut stream = connect(&server, 2);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[test]
fn a_client_without_a_right_to_any_repository_costs_no_listing() {
    let server = Server::start_on_own_s3(
        "[repository.\"*\".access_policy]\ndefault_allow = false\nrules = [\"identity.username == 'ana'\"]\n",
    );
    let lists = || metric(&server, "simple_registry_storage_operations_total{operation=\"list\"}");
    let before = lists();
    let answer = server.client().send(Request::get("/v2/_catalog")).expect(200);
    assert_eq!(answer.json(), serde_json::json!({ "repositories": [] }));
    assert_eq!(lists(), before);
}

/// Pushes 100 manifests of a megabyte each and pulls them by tag. Returns the growth of the server's resident memory in
/// bytes.
fn growth(cache_size: &str) -> u64 {
    let server = Server::start_plain(Backend::Directory, &format!("cache_size = {cache_size:?}"));
    let repo = server.repo("remembered");
    repo.push_image("first", &Image::new(&[10]));
    let resident = || metric(&server, "process_resident_memory_bytes");
    let before = resident();
    for number in 0..100 {
        let image = Image::with(&[10], |manifest| {
            manifest["annotations"] = serde_json::json!({ "org.example.filling": "x".repeat(1 << 20) });
        });
        let tag = format!("t{number}");
        repo.push_image(&tag, &image);
        repo.get_manifest(&tag).expect(200);
    }
    resident().saturating_sub(before)
}

#[test]
fn the_memory_of_all_caches_is_bounded_by_cache_size() {
    let (small, large) = (growth("8MiB"), growth("1GiB"));
    let mib = |bytes: u64| bytes >> 20;
    // the rest is for requests under way
    assert!(mib(small) < 8 + 40, "{} MiB", mib(small));
    assert!(mib(large) > 90, "{} MiB: the manifests are remembered if there is room", mib(large));
}
