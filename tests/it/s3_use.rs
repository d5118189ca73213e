//! The requests of the registry to S3: bytes written once, parts that S3 takes, nothing left behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::finish;
use crate::support::s3::Fault;
use crate::support::server::Server;

/// Several parts, none but the last below S3's minimum, whatever the sizes in which the body arrives.
#[test]
fn a_large_body_is_written_once_in_parts() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("parts");
    let data = unique(23 * 1024 * 1024 + 7);
    let location = repo.send(Request::patch(repo.start_upload()).body(data.clone()).chunked()).expect(202).location();
    repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(sha256(&repo.get_blob(&sha256(&data)).expect(200).body), sha256(&data));
    let overhead = server.s3().bytes_written() - data.len() as u64;
    assert!(overhead < 64 * 1024, "{overhead} bytes were written beside {}", data.len());
    assert_eq!(server.s3().open_multiparts(), 0);
    assert!(
        server.s3().objects(server.bucket()).iter().all(|(key, _)| key.starts_with("registry/")),
        "everything is under the key prefix"
    );
}

/// The closing `PUT` writes facts, not the layer again.
#[test]
fn a_final_put_writes_little_for_a_layer_of_any_size() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("final");
    for size in [100_000, 12_000_000] {
        let data = unique(size);
        let location = repo.send(Request::patch(repo.start_upload()).body(data.clone())).expect(202).location();
        let before = server.s3().bytes_written();
        repo.send(finish(&location, &sha256(&data))).expect(201);
        let written = server.s3().bytes_written() - before;
        assert!(written < 16 * 1024, "{written} bytes at the end of a push of {size}");
    }
}

/// So many at once that some wait for each part to be written before they take in more.
const MANY: usize = 12;

#[test]
fn many_large_bodies_at_once_are_stored_as_sent() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("many");
    std::thread::scope(|scope| {
        for number in 0..MANY {
            let repo = &repo;
            scope.spawn(move || {
                let data = unique(11 * 1024 * 1024 + number);
                repo.push_blob(&data);
                assert!(repo.get_blob(&sha256(&data)).expect(200).body == data);
            });
        }
    });
    assert_eq!(server.s3().open_multiparts(), 0);
}

#[test]
fn bodies_that_break_off_leave_no_open_multipart_upload() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("torn");
    let data = unique(12_000_000);
    let connections: Vec<_> = (0..MANY)
        .map(|_| {
            let request = Request::patch(repo.start_upload()).header("content-length", 20_000_000);
            let mut connection = repo.client.connect().expect("connect");
            connection.write_head(&request).expect("write");
            connection.write(&data).expect("write");
            connection
        })
        .collect();
    let deadline = Instant::now() + Duration::from_mins(1);
    let begun = || server.s3().requests().get("UploadPart").copied().unwrap_or_default();
    while begun() < MANY {
        assert!(Instant::now() < deadline, "{:?}", server.s3().requests());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(connections);
    while server.s3().open_multiparts() > 0 {
        assert!(
            Instant::now() < deadline,
            "{} open, after {:?}",
            server.s3().open_multiparts(),
            server.s3().requests()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_push_and_a_pull_cost_few_requests() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("few");
    let total = || server.s3().requests().values().sum::<usize>();
    let before = total();
    let digest = repo.push_image("v1", &Image::new(&[10_000]));
    let push = total() - before;
    assert!(push <= 30, "a push of an image of two blobs takes {push} requests: {:?}", server.s3().requests());
    let before = total();
    repo.get_manifest(&digest).expect(200);
    let pull = total() - before;
    assert!(pull <= 1, "a manifest that was just pushed takes {pull} requests by its digest");
}

/// One request asks whether a tag still means a manifest that was looked at before.
#[test]
fn a_pull_by_a_known_tag_costs_one_request() {
    let server = Server::start_on_own_s3("cache_ttl = \"0s\"");
    let repo = server.repo("one");
    let total = || server.s3().requests().values().sum::<usize>();
    let (first, second) = (Image::new(&[10]), Image::new(&[20]));
    for image in [&first, &second] {
        let pushed = repo.push_image("v1", image);
        assert_eq!(repo.pull_image("v1"), pushed);
        for _ in 0..3 {
            let before = total();
            repo.get_manifest("v1").expect(200);
            assert_eq!(total() - before, 1, "{:?}", server.s3().requests());
        }
    }
    // one that was deleted and comes again too
    let digest = second.manifest.digest();
    repo.send(Request::delete(repo.manifest_path(&digest))).expect(202);
    repo.get_manifest("v1").expect(404);
    repo.push_manifest("v1", &second.manifest);
    repo.get_manifest("v1").expect(200);
    let before = total();
    repo.get_manifest("v1").expect(200);
    assert_eq!(total() - before, 1, "{:?}", server.s3().requests());
}

/// The server writes a small chunk with the state that names it, not as an object of its own.
#[test]
fn a_small_chunk_costs_one_request() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("small");
    let total = || server.s3().requests().values().sum::<usize>();
    let data = unique(40_000);
    let mut location = repo.start_upload();
    let before = total();
    for piece in data.chunks(1000) {
        location = repo.send(Request::patch(&location).body(piece)).expect(202).location();
    }
    assert_eq!(total() - before, 40, "{:?}", server.s3().requests());
    repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(
        total() - before,
        44,
        "the segment, a grant, the last state, and the copy: {:?}",
        server.s3().requests()
    );
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

/// Waits for the one object that a server writes on its own, shortly after the start.
fn wait_for_its_own_object(server: &Server) {
    let begun = Instant::now();
    while !server.s3().objects(server.bucket()).iter().any(|(key, _)| key.ends_with("pulls-recorded-since")) {
        assert!(begun.elapsed() < Duration::from_mins(1), "the server did not note since when it records pulls");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Counts the requests of a usual push: its first state, the segment and its state, then a grant, the last state and
/// the copy.
#[test]
fn a_push_in_one_chunk_costs_six_requests() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("usual");
    wait_for_its_own_object(&server);
    let total = || server.s3().requests().values().sum::<usize>();
    for (size, requests) in [(100_000, 6), (1000, 6)] {
        let data = unique(size);
        let before = total();
        let location = repo.send(Request::patch(repo.start_upload()).body(data.clone())).expect(202).location();
        repo.send(finish(&location, &sha256(&data))).expect(201);
        assert_eq!(total() - before, requests, "{:?}", server.s3().requests());
        let data = unique(size);
        let before = total();
        repo.send(finish(&repo.start_upload(), &sha256(&data)).body(data)).expect(201);
        assert_eq!(total() - before, 5, "{:?}", server.s3().requests());
    }
}

/// Counts the requests of a manifest whose blobs were just pushed: two pins, then for the manifest and for its tag a look, a
/// claim and a version.
#[test]
fn a_push_of_a_manifest_costs_eight_requests() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("claims");
    wait_for_its_own_object(&server);
    repo.push_image("first", &Image::new(&[1000]));
    let image = Image::new(&[2000]);
    repo.push_blobs(&image);
    let of = |requests: &BTreeMap<&str, usize>| (requests["PutObject"], requests.values().sum::<usize>());
    let before = of(&server.s3().requests());
    repo.push_manifest("latest", &image.manifest);
    let requests = server.s3().requests();
    let (puts, all) = of(&requests);
    assert_eq!((puts - before.0, all - before.1), (6, 8), "{requests:?}");
}

/// Spoils the first answer to the end of a multipart upload from now on.
fn spoil_one_completion(server: &Server, fault: Fault) {
    let mut seen = 0;
    server.s3().fail(move |operation, _| {
        seen += usize::from(operation == "CompleteMultipartUpload");
        (operation == "CompleteMultipartUpload" && seen == 1).then_some(fault)
    });
}

/// The server forgets a multipart upload that it has completed, so asking again is answered by an error.
#[test]
fn a_lost_answer_to_the_end_of_a_large_object_is_looked_up() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("lost");
    for fault in [Fault::Lost, Fault::Cut, Fault::Half] {
        let streamed = unique(11 * 1024 * 1024);
        spoil_one_completion(&server, fault);
        let location =
            repo.send(Request::patch(repo.start_upload()).body(streamed.clone()).chunked()).expect(202).location();
        repo.send(finish(&location, &sha256(&streamed))).expect(201);
        let whole = unique(11 * 1024 * 1024 + 1);
        spoil_one_completion(&server, fault);
        repo.push_blob(&whole);
        for blob in [streamed, whole] {
            assert!(repo.get_blob(&sha256(&blob)).expect(200).body == blob, "{fault:?}");
        }
    }
    assert_eq!(server.s3().open_multiparts(), 0);
}

#[test]
fn a_multipart_upload_that_is_gone_without_its_object_is_503_and_no_damage() {
    let server = Server::start_on_own_s3("");
    let repo = server.repo("gone");
    let data = unique(11 * 1024 * 1024);
    server.s3().fail(|operation, _| (operation == "CompleteMultipartUpload").then_some(Fault::Status(404)));
    repo.send(finish(&repo.start_upload(), &sha256(&data)).body(data.clone())).expect(503);
    server.s3().heal();
    repo.push_blob(&data);
}
