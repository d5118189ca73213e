//! Errors of clients: one test for each kind. Each answer is the specification's JSON and names the next step.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Request;
use crate::support::content::{Image, Manifest, OCI_INDEX, OCI_MANIFEST, sha256, unique, unknown_digest};
use crate::support::repo::{Repo, finish};
use crate::support::server::{Backend, Server};

fn a_malformed_name_is_400_name_invalid(repo: &Repo) {
    for name in ["UPPER", "a//b", "-a", "a-", "a___b", "a..b", "a._b", "a/-b", "%C3%A4", "a%20b", "..", "a/%2e%2e/b"] {
        for rest in ["tags/list", "manifests/v1", &format!("blobs/{}", unknown_digest())] {
            let response = repo.send(Request::get(format!("/v2/{name}/{rest}")));
            // a path that a server may normalise away, as `..`, may as well be no path of this API
            if response.status != 404 || !name.contains("..") {
                response.expect_error(400, "NAME_INVALID");
            }
        }
        if !name.contains("..") {
            repo.send(Request::post(format!("/v2/{name}/blobs/uploads/"))).expect_error(400, "NAME_INVALID");
        }
    }
}

fn a_malformed_tag_is_400(repo: &Repo) {
    let image = Image::new(&[50]);
    repo.push_image("v1", &image);
    for tag in ["-a", ".a", "a%20b", "a+b", "%C3%A4", &"t".repeat(129)] {
        for request in [
            repo.put_manifest(tag, &image.manifest),
            Request::get(repo.manifest_path(tag)),
            Request::delete(repo.manifest_path(tag)),
        ] {
            let response = repo.send(request).expect(400);
            let code = response.json()["errors"][0]["code"].clone();
            assert!(code == "TAG_INVALID" || code == "MANIFEST_INVALID", "{tag}\n{response:?}");
        }
    }
}

fn a_malformed_digest_is_400_digest_invalid(repo: &Repo) {
    repo.push_blob(&unique(10));
    for digest in
        ["sha256:beef", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", &format!("sha256:{}", "G".repeat(64))]
    {
        repo.get_blob(digest).expect_error(400, "DIGEST_INVALID");
        repo.get_manifest(digest).expect_error(400, "DIGEST_INVALID");
    }
}

fn every_error_of_a_blob_has_its_code(repo: &Repo) {
    repo.push_blob(&unique(10));
    let errors = repo.get_blob(&unknown_digest()).expect_error(404, "BLOB_UNKNOWN");
    assert_eq!(errors.len(), 1);
    repo.get_manifest("none").expect_error(404, "MANIFEST_UNKNOWN");
    repo.send(Request::get(repo.path(&format!("blobs/uploads/{}", uuid::Uuid::new_v4()))))
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(Request::get(repo.path(&format!("blobs/uploads/{}", "not-a-uuid"))))
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(Request::get(repo.sibling("none").path("tags/list"))).expect_error(404, "NAME_UNKNOWN");
}

fn a_body_that_is_no_manifest_is_400_manifest_invalid(repo: &Repo) {
    let put = |media_type: &str, bytes: &[u8]| {
        repo.send(repo.put_manifest("v1", &Manifest { media_type: media_type.to_owned(), bytes: bytes.to_vec() }))
    };
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    for bytes in [b"".as_slice(), b"{", b"[]", b"null", b"\xff\xfe", b"{\"schemaVersion\":2,\"schemaVersion\":2", &deep]
    {
        put(OCI_MANIFEST, bytes).expect_error(400, "MANIFEST_INVALID");
    }
    let bad = json!({"mediaType": OCI_MANIFEST, "digest": "sha256:beef", "size": 1});
    for (media_type, value) in [
        (OCI_MANIFEST, json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": bad, "layers": []})),
        (OCI_MANIFEST, json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": "x", "layers": []})),
        (OCI_INDEX, json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [bad]})),
        (OCI_INDEX, json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": {}})),
    ] {
        put(media_type, value.to_string().as_bytes()).expect_error(400, "MANIFEST_INVALID");
    }
    repo.get_manifest("v1").expect(404);
}

fn an_unknown_method_or_path_is_refused_in_json(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[50]));
    for request in [
        Request::post(repo.manifest_path("v1")),
        Request::put(repo.path("tags/list")),
        Request::delete(repo.path("tags/list")),
    ] {
        let response = repo.send(request);
        assert!([404, 405].contains(&response.status), "\n{response:?}");
        assert!(response.json()["errors"][0]["code"].is_string(), "\n{response:?}");
    }
    repo.send(Request::get("/v2/something")).expect(404);
}

fn an_error_shows_nothing_internal(repo: &Repo) {
    repo.push_blob(&unique(10));
    let answers = [
        repo.get_blob(&unknown_digest()),
        repo.get_manifest("none"),
        repo.send(finish(&repo.start_upload(), &unknown_digest()).body(unique(5))),
    ];
    for response in answers {
        let text = String::from_utf8_lossy(&response.body).into_owned();
        for inside in ["/tmp", "root_dir", "opendal", "registry/blobs/", "minioadmin", ".rs:", "panicked"] {
            assert!(!text.contains(inside), "{inside} in\n{response:?}");
        }
    }
}

/// An image's blobs are small enough and its manifest is not; and the other way round.
fn a_body_over_its_limit_is_413(backend: Backend) {
    let server = Server::start_with(backend, "max_manifest_size = 2000\nmax_blob_size = 100000");
    let repo = server.repo("limits");
    let padded = Image::with(&[50], |manifest| manifest["annotations"] = json!({"padding": "p".repeat(2000)}));
    repo.push_blobs(&padded);
    repo.send(repo.put_manifest("v1", &padded.manifest)).expect(413);
    repo.push_image("v2", &Image::new(&[50]));

    repo.push_blob(&unique(100_000));
    let data = unique(100_001);
    repo.send(finish(&repo.start_upload(), &sha256(&data)).body(data.clone())).expect(413);
    repo.send(finish(&repo.start_upload(), &sha256(&data)).body(data.clone()).chunked()).expect(413);
    repo.send(Request::post(repo.path(&format!("blobs/uploads/?digest={}", sha256(&data)))).body(data.clone()))
        .expect(413);
    let location = repo.send(Request::patch(repo.start_upload()).body(&data[..60_000])).expect(202).location();
    repo.send(Request::patch(location).body(&data[60_000..])).expect(413);
    repo.get_blob(&sha256(&data)).expect(404);
}

fn a_manifest_with_missing_blobs_is_accepted_if_the_configuration_allows_it(backend: Backend) {
    let server = Server::start_with(backend, "allow_missing_references = true");
    let repo = server.repo("sparse");
    let image = Image::new(&[50]);
    repo.push_manifest("v1", &image.manifest);
    assert_eq!(repo.get_manifest("v1").expect(200).body, image.manifest.bytes);
    repo.get_blob(&sha256(&image.blobs[0])).expect(404);
    // nor does naming a blob give it back that was deleted
    repo.push_image("v1", &image);
    repo.send(Request::delete(repo.manifest_path(&image.manifest.digest()))).expect(202);
    for blob in &image.blobs {
        repo.send(Request::delete(repo.blob_path(&sha256(blob)))).expect(202);
    }
    repo.push_manifest("v1", &image.manifest);
    for blob in &image.blobs {
        repo.get_blob(&sha256(blob)).expect(404);
    }
}

/// The first client falls silent in the middle of a body and is let go; the second is slow for longer than that, but moves.
fn a_silent_client_is_disconnected_and_a_slow_one_is_not(backend: Backend) {
    let server = Server::start_with(backend, "server.query_timeout = 2");
    let repo = server.repo("slow");
    let data = unique(20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = Request::patch(repo.start_upload()).header("content-length", 20);
            let mut connection = repo.client.connect().expect("connect");
            connection.write_head(&request).expect("write");
            connection.write(&data[..10]).expect("write");
            let began = Instant::now();
            if let Ok(response) = connection.read_response(&request) {
                assert!(response.status >= 400, "\n{response:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(20), "let go after {:?}", began.elapsed());
        });
        let request = finish(&repo.start_upload(), &sha256(&data)).header("content-length", 20);
        let mut connection = repo.client.connect().expect("connect");
        connection.write_head(&request).expect("write");
        for byte in &data {
            connection.write(&[*byte]).expect("write");
            std::thread::sleep(Duration::from_millis(200));
        }
        connection.read_response(&request).expect("a slow transfer is not cut").expect(201);
    });
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_terminated_server_exits_with_0(backend: Backend) {
    let mut server = Server::start(backend);
    let digest = server.repo("end").push_image("v1", &Image::new(&[5000]));
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log().join("\n"));
    server.restart();
    assert_eq!(server.repo("end").pull_image("v1"), digest);
}

crate::support::on_each_backend!(
    shared:
        a_malformed_name_is_400_name_invalid,
        a_malformed_tag_is_400,
        a_malformed_digest_is_400_digest_invalid,
        every_error_of_a_blob_has_its_code,
        a_body_that_is_no_manifest_is_400_manifest_invalid,
        an_unknown_method_or_path_is_refused_in_json,
        an_error_shows_nothing_internal;
    own:
        a_body_over_its_limit_is_413,
        a_manifest_with_missing_blobs_is_accepted_if_the_configuration_allows_it,
        a_silent_client_is_disconnected_and_a_slow_one_is_not,
        a_terminated_server_exits_with_0,
);
