//! "Pull" (end-1, end-2, end-3): manifests, blobs, parts of blobs, and whether they exist.

use crate::support::client::{Request, Response};
use crate::support::content::{
    DOCKER_LIST, DOCKER_MANIFEST, EVERY_TYPE, Image, OCI_INDEX, OCI_MANIFEST, sha256, sha512, unique, unknown_digest,
};
use crate::support::repo::{Repo, finish};

fn the_base_endpoint_answers_200(repo: &Repo) {
    repo.send(Request::get("/v2/")).expect(200);
}

fn a_manifest_is_provided_by_tag_as_it_was_pushed(repo: &Repo) {
    let image = Image::new(&[100]);
    repo.push_image("v1", &image);
    let response = repo.get_manifest("v1").expect(200);
    assert_eq!(response.body, image.manifest.bytes);
    assert_eq!(response.required("docker-content-digest"), image.manifest.digest());
    assert_eq!(response.required("content-type"), OCI_MANIFEST);
    assert_eq!(response.required("content-length"), image.manifest.bytes.len().to_string());
}

fn a_manifest_is_provided_by_digest_as_it_was_pushed(repo: &Repo) {
    let image = Image::new(&[100]);
    let digest = repo.push_image("v1", &image);
    let response = repo.get_manifest(&digest).expect(200);
    assert_eq!(response.body, image.manifest.bytes);
    assert_eq!(response.required("docker-content-digest"), digest);
    assert_eq!(response.required("content-type"), OCI_MANIFEST);
}

fn an_unknown_manifest_is_404(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[100]));
    repo.get_manifest("v2").expect_error(404, "MANIFEST_UNKNOWN");
    repo.get_manifest(&unknown_digest()).expect_error(404, "MANIFEST_UNKNOWN");
}

fn a_pull_from_an_unknown_repository_is_404(repo: &Repo) {
    repo.get_manifest("latest").expect(404);
    repo.get_manifest(&unknown_digest()).expect(404);
    repo.get_blob(&unknown_digest()).expect(404);
}

fn a_manifest_of_another_repository_is_404(repo: &Repo) {
    let digest = repo.push_image("v1", &Image::new(&[100]));
    repo.sibling("other").get_manifest(&digest).expect(404);
    repo.sibling("other").get_manifest("v1").expect(404);
}

fn a_blob_is_provided_by_digest(repo: &Repo) {
    let data = unique(100_000);
    let digest = repo.push_blob(&data);
    let response = repo.get_blob(&digest).expect(200);
    assert_eq!(response.body, data);
    assert_eq!(response.required("docker-content-digest"), digest);
    assert_eq!(response.required("content-length"), "100000");
}

fn a_blob_of_several_megabytes_is_provided_whole(repo: &Repo) {
    let data = unique(7 * 1024 * 1024 + 1);
    let digest = repo.push_blob(&data);
    assert_eq!(sha256(&repo.get_blob(&digest).expect(200).body), digest);
}

fn a_zero_byte_blob_is_provided(repo: &Repo) {
    let digest = repo.push_blob(b"");
    let response = repo.get_blob(&digest).expect(200);
    assert_eq!(response.required("content-length"), "0");
    assert!(response.body.is_empty());
    repo.send(Request::head(repo.blob_path(&digest))).expect(200);
}

fn a_blob_by_sha512_is_provided(repo: &Repo) {
    let data = unique(1000);
    let digest = sha512(&data);
    let location = repo.send(Request::post(repo.path("blobs/uploads/?digest-algorithm=sha512"))).expect(202).location();
    repo.send(finish(&location, &digest).body(data.clone())).expect(201);
    let response = repo.get_blob(&digest).expect(200);
    assert_eq!(response.body, data);
    assert_eq!(response.required("docker-content-digest"), digest);
}

fn an_unknown_blob_is_404(repo: &Repo) {
    repo.push_blob(&unique(100));
    repo.get_blob(&unknown_digest()).expect_error(404, "BLOB_UNKNOWN");
}

fn a_blob_of_another_repository_is_404(repo: &Repo) {
    let digest = repo.push_blob(&unique(100));
    repo.sibling("other").push_blob(&unique(100));
    repo.sibling("other").get_blob(&digest).expect_error(404, "BLOB_UNKNOWN");
}

/// Asks for `path` by `HEAD` and by `GET` and fails unless they say the same; returns the answer to `HEAD`.
#[track_caller]
fn head_like_get(repo: &Repo, path: &str) -> Response {
    let get = repo.send(Request::get(path).header("accept", EVERY_TYPE)).expect(200);
    let head = repo.send(Request::head(path).header("accept", EVERY_TYPE)).expect(200);
    for name in ["content-length", "content-type", "docker-content-digest", "etag", "accept-ranges"] {
        assert_eq!(head.header(name), get.header(name), "{name} of HEAD and GET\n{head:?}\n{get:?}");
    }
    assert_eq!(head.required("content-length"), get.body.len().to_string());
    head
}

fn head_of_a_manifest_has_the_headers_of_get(repo: &Repo) {
    let digest = repo.push_image("v1", &Image::new(&[100]));
    for reference in ["v1", &digest] {
        let head = head_like_get(repo, &repo.manifest_path(reference));
        assert_eq!(head.required("docker-content-digest"), digest);
    }
}

fn head_of_a_blob_has_the_headers_of_get(repo: &Repo) {
    let digest = repo.push_blob(&unique(12_345));
    let head = head_like_get(repo, &repo.blob_path(&digest));
    assert_eq!(head.required("docker-content-digest"), digest);
    assert_eq!(head.required("content-length"), "12345");
}

fn head_of_an_unknown_manifest_or_blob_is_404(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[100]));
    for path in [repo.manifest_path("v2"), repo.manifest_path(&unknown_digest()), repo.blob_path(&unknown_digest())] {
        let response = repo.send(Request::head(path)).expect(404);
        assert!(response.body.is_empty());
    }
}

fn accept_is_understood_with_several_types_and_parameters(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[100]));
    let get = || Request::get(repo.manifest_path("v1"));
    let every = format!("{OCI_INDEX}, {OCI_MANIFEST};q=0.9, {DOCKER_LIST};q=0.8,{DOCKER_MANIFEST} ; q=0.7, */*;q=0.1");
    let one_a_line = get().header("accept", OCI_INDEX).header("accept", OCI_MANIFEST);
    for request in [get(), one_a_line, get().header("accept", every), get().header("accept", "*/*")] {
        let response = repo.send(request).expect(200);
        assert_eq!(response.required("content-type"), OCI_MANIFEST);
    }
}

/// Pushes a blob of 2048 bytes. Returns the blob, and the answer to a `GET` of `range`.
fn range_of_2048_bytes(repo: &Repo, range: &str) -> (Vec<u8>, Response) {
    let data = unique(2048);
    let digest = repo.push_blob(&data);
    let response = repo.send(Request::get(repo.blob_path(&digest)).header("range", range));
    (data, response)
}

#[track_caller]
fn expect_part(repo: &Repo, range: &str, part: std::ops::Range<usize>) {
    let (data, response) = range_of_2048_bytes(repo, range);
    let response = response.expect(206);
    assert_eq!(response.required("content-range"), format!("bytes {}-{}/2048", part.start, part.end - 1));
    assert_eq!(response.required("content-length"), part.len().to_string());
    assert_eq!(response.body, data[part]);
}

fn a_range_of_a_blob_is_206_with_that_part(repo: &Repo) {
    expect_part(repo, "bytes=500-1499", 500..1500);
    expect_part(repo, "bytes=0-0", 0..1);
    expect_part(repo, "bytes=2047-2047", 2047..2048);
}

fn an_open_range_is_206_to_the_end(repo: &Repo) {
    expect_part(repo, "bytes=500-", 500..2048);
    expect_part(repo, "bytes=0-", 0..2048);
}

fn a_suffix_range_is_206_with_the_last_bytes(repo: &Repo) {
    expect_part(repo, "bytes=-500", 1548..2048);
    expect_part(repo, "bytes=-5000", 0..2048);
}

fn a_range_that_ends_past_the_end_is_206_to_the_end(repo: &Repo) {
    expect_part(repo, "bytes=2000-5000", 2000..2048);
    expect_part(repo, "bytes=2000-9223372036854775806", 2000..2048);
}

fn a_range_that_cannot_be_satisfied_is_416_with_the_size(repo: &Repo) {
    for range in ["bytes=2048-", "bytes=5000-10000", "bytes=-0"] {
        let (_, response) = range_of_2048_bytes(repo, range);
        let response = response.expect(416);
        assert_eq!(response.required("content-range"), "bytes */2048", "{range}");
    }
}

/// RFC 9110 lets a server ignore such a range or refuse it; the official suite wants it refused.
fn a_range_that_runs_backwards_is_416(repo: &Repo) {
    range_of_2048_bytes(repo, "bytes=500-0").1.expect(416);
}

fn a_range_in_another_unit_is_ignored(repo: &Repo) {
    let (data, response) = range_of_2048_bytes(repo, "lines=1-2");
    assert_eq!(response.expect(200).body, data);
}

fn a_range_with_another_if_range_is_ignored(repo: &Repo) {
    let data = unique(2048);
    let digest = repo.push_blob(&data);
    let etag = repo.get_blob(&digest).expect(200).required("etag").to_owned();
    let get = || Request::get(repo.blob_path(&digest)).header("range", "bytes=0-9");
    assert_eq!(repo.send(get().header("if-range", etag)).expect(206).body, data[..10]);
    assert_eq!(repo.send(get().header("if-range", "\"another\"")).expect(200).body, data);
}

fn a_range_crosses_the_chunks_of_a_push(repo: &Repo) {
    let data = unique(30_000);
    let mut location = repo.start_upload();
    for start in (0..30_000).step_by(10_000) {
        let chunk = crate::support::repo::chunk(&location, start, &data[start..start + 10_000]);
        location = repo.send(chunk).expect(202).location();
    }
    repo.send(finish(&location, &sha256(&data))).expect(201);
    for range in [9_990..10_010, 0..30_000, 9_999..10_000, 10_000..20_000, 5_000..25_000, 29_999..30_000] {
        let request = Request::get(repo.blob_path(&sha256(&data)))
            .header("range", format!("bytes={}-{}", range.start, range.end - 1));
        assert_eq!(repo.send(request).expect(206).body, data[range]);
    }
}

fn blobs_announce_ranges(repo: &Repo) {
    let digest = repo.push_blob(&unique(100));
    assert_eq!(repo.get_blob(&digest).expect(200).required("accept-ranges"), "bytes");
}

/// RFC 9110, 13.1.2: weak comparison, lists and `*`.
#[track_caller]
fn expect_conditional(repo: &Repo, path: &str) {
    let get = || Request::get(path).header("accept", EVERY_TYPE);
    let etag = repo.send(get()).expect(200).required("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag} is not a strong entity tag");
    for condition in [etag.clone(), format!("W/{etag}"), format!("\"another\", {etag}"), "*".to_owned()] {
        let response = repo.send(get().header("if-none-match", &condition)).expect(304);
        assert_eq!(response.required("etag"), etag, "If-None-Match: {condition}");
        repo.send(Request::head(path).header("accept", EVERY_TYPE).header("if-none-match", &condition)).expect(304);
    }
    repo.send(get().header("if-none-match", "\"another\"")).expect(200);
}

fn a_get_of_an_unchanged_manifest_is_304(repo: &Repo) {
    let digest = repo.push_image("v1", &Image::new(&[100]));
    expect_conditional(repo, &repo.manifest_path("v1"));
    expect_conditional(repo, &repo.manifest_path(&digest));
}

fn a_get_of_a_known_blob_is_304(repo: &Repo) {
    let digest = repo.push_blob(&unique(100));
    expect_conditional(repo, &repo.blob_path(&digest));
}

fn a_moved_tag_is_not_304(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[100]));
    let etag = repo.get_manifest("v1").expect(200).required("etag").to_owned();
    let moved = repo.push_image("v1", &Image::new(&[100]));
    let response = repo
        .send(Request::get(repo.manifest_path("v1")).header("accept", EVERY_TYPE).header("if-none-match", etag))
        .expect(200);
    assert_eq!(response.required("docker-content-digest"), moved);
}

crate::support::on_each_backend!(shared:
    the_base_endpoint_answers_200,
    a_manifest_is_provided_by_tag_as_it_was_pushed,
    a_manifest_is_provided_by_digest_as_it_was_pushed,
    an_unknown_manifest_is_404,
    a_pull_from_an_unknown_repository_is_404,
    a_manifest_of_another_repository_is_404,
    a_blob_is_provided_by_digest,
    a_blob_of_several_megabytes_is_provided_whole,
    a_zero_byte_blob_is_provided,
    a_blob_by_sha512_is_provided,
    an_unknown_blob_is_404,
    a_blob_of_another_repository_is_404,
    head_of_a_manifest_has_the_headers_of_get,
    head_of_a_blob_has_the_headers_of_get,
    head_of_an_unknown_manifest_or_blob_is_404,
    accept_is_understood_with_several_types_and_parameters,
    a_range_of_a_blob_is_206_with_that_part,
    an_open_range_is_206_to_the_end,
    a_suffix_range_is_206_with_the_last_bytes,
    a_range_that_ends_past_the_end_is_206_to_the_end,
    a_range_that_cannot_be_satisfied_is_416_with_the_size,
    a_range_that_runs_backwards_is_416,
    a_range_in_another_unit_is_ignored,
    a_range_with_another_if_range_is_ignored,
    a_range_crosses_the_chunks_of_a_push,
    blobs_announce_ranges,
    a_get_of_an_unchanged_manifest_is_304,
    a_get_of_a_known_blob_is_304,
    a_moved_tag_is_not_304,
);
