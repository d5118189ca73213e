//! "Push", blobs in pieces (end-5, end-6), their status (end-13) and their end without a blob (end-14).

use crate::support::client::{Request, Response};
use crate::support::content::{sha256, unique, unknown_digest};
use crate::support::repo::{Repo, chunk, finish};

/// Asks where an upload is; returns its location and how many bytes it has, as `Range` tells.
#[track_caller]
fn status(repo: &Repo, location: &str) -> (String, Response) {
    let response = repo.send(Request::get(location)).expect(204);
    assert!(response.body.is_empty());
    (response.location(), response)
}

fn a_chunk_is_202_with_location_and_range(repo: &Repo) {
    let data = unique(3000);
    let first = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202);
    assert_eq!(first.required("range"), "0-999");
    let second = repo.send(chunk(&first.location(), 1000, &data[1000..])).expect(202);
    assert_eq!(second.required("range"), "0-2999");
}

fn chunks_closed_by_an_empty_put_are_201_with_a_pullable_location(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let location = repo.send(chunk(&location, 1000, &data[1000..])).expect(202).location();
    let response = repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(repo.send(Request::get(response.location())).expect(200).body, data);
}

fn the_last_chunk_may_come_in_the_closing_put(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let last = finish(&location, &sha256(&data)).header("content-range", "1000-2999").body(&data[1000..]);
    repo.send(last).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn the_last_chunk_in_the_closing_put_needs_no_content_range(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    repo.send(finish(&location, &sha256(&data)).body(&data[1000..])).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_patch_without_content_range_is_appended(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(Request::patch(repo.start_upload()).body(&data[..1000])).expect(202).location();
    let response = repo.send(Request::patch(location).body(&data[1000..])).expect(202);
    assert_eq!(response.required("range"), "0-2999");
    repo.send(finish(&response.location(), &sha256(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn many_chunks_make_one_blob(repo: &Repo) {
    let data = unique(40 * 997);
    let mut location = repo.start_upload();
    for start in (0..data.len()).step_by(997) {
        location = repo.send(chunk(&location, start, &data[start..start + 997])).expect(202).location();
    }
    repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

#[track_caller]
fn expect_out_of_order(repo: &Repo, request: Request, has: &str) -> String {
    let response = repo.send(request).expect(416);
    assert_eq!(response.required("range"), has, "\n{response:?}");
    response.location()
}

fn a_chunk_out_of_order_is_416_with_range_and_location(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let location = expect_out_of_order(repo, chunk(&location, 2000, &data[2000..]), "0-999");
    let location = expect_out_of_order(repo, chunk(&location, 0, &data[..1000]), "0-999");
    let location = expect_out_of_order(repo, chunk(&location, 999, &data[999..2000]), "0-999");
    let location = repo.send(chunk(&location, 1000, &data[1000..])).expect(202).location();
    repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_first_chunk_that_does_not_begin_at_0_is_416(repo: &Repo) {
    let data = unique(2000);
    let location = repo.start_upload();
    let location = expect_out_of_order(repo, chunk(&location, 1000, &data[1000..]), "0-0");
    let location = repo.send(chunk(&location, 0, &data)).expect(202).location();
    repo.send(finish(&location, &sha256(&data))).expect(201);
}

fn a_final_chunk_out_of_order_is_416_and_the_upload_goes_on(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let skipped = finish(&location, &sha256(&data)).header("content-range", "2000-2999").body(&data[2000..]);
    let location = expect_out_of_order(repo, skipped, "0-999");
    let last = finish(&location, &sha256(&data)).header("content-range", "1000-2999").body(&data[1000..]);
    repo.send(last).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_malformed_content_range_is_refused(repo: &Repo) {
    let location = repo.start_upload();
    for range in ["bytes", "-", "0-", "-9", "9-0", "a-b", "0-99999999999999999999999"] {
        let request = Request::patch(&location).header("content-range", range).body(unique(10));
        let response = repo.send(request);
        assert!(response.status == 400 || response.status == 416, "{range}\n{response:?}");
    }
    assert_eq!(status(repo, &location).1.required("range"), "0-0");
}

fn a_chunk_with_another_length_than_its_range_is_400(repo: &Repo) {
    let location = repo.start_upload();
    for range in ["0-4", "0-99"] {
        let request = Request::patch(&location).header("content-range", range).body(unique(10));
        let response = repo.send(request);
        assert!(response.status == 400 || response.status == 416, "{range}\n{response:?}");
    }
    assert_eq!(status(repo, &location).1.required("range"), "0-0");
}

fn the_status_of_an_upload_is_204_with_location_and_range(repo: &Repo) {
    let data = unique(3000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let (location, response) = status(repo, &location);
    assert_eq!(response.required("range"), "0-999");
    repo.send(chunk(&location, 1000, &data[1000..])).expect(202);
    assert_eq!(status(repo, &location).1.required("range"), "0-2999");
}

/// `0-0` is what registries answer for nothing and for one byte alike; the grammar has no other word for nothing.
fn the_status_of_an_upload_without_bytes_has_range_0_0(repo: &Repo) {
    assert_eq!(status(repo, &repo.start_upload()).1.required("range"), "0-0");
}

/// A client may follow the location of the last answer or keep the first.
fn every_location_of_an_upload_stays_valid(repo: &Repo) {
    let data = unique(3000);
    let first = repo.start_upload();
    let second = repo.send(chunk(&first, 0, &data[..1000])).expect(202).location();
    assert_eq!(status(repo, &first).1.required("range"), "0-999");
    assert_eq!(status(repo, &second).1.required("range"), "0-999");
}

fn a_cancelled_upload_is_204_and_then_unknown(repo: &Repo) {
    let data = unique(1000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data)).expect(202).location();
    repo.send(Request::delete(&location)).expect(204);
    repo.send(Request::get(&location)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(chunk(&location, 1000, &data)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(finish(&location, &sha256(&data))).expect(404);
    repo.send(Request::delete(&location)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.get_blob(&sha256(&data)).expect(404);
}

fn chunks_with_the_wrong_digest_are_400_and_store_nothing(repo: &Repo) {
    let data = unique(1000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data)).expect(202).location();
    let said = unknown_digest();
    repo.send(finish(&location, &said)).expect_error(400, "DIGEST_INVALID");
    repo.get_blob(&said).expect(404);
    repo.get_blob(&sha256(&data)).expect(404);
}

fn an_upload_closed_without_any_bytes_is_the_empty_blob(repo: &Repo) {
    repo.send(finish(&repo.start_upload(), &sha256(b""))).expect(201);
    assert!(repo.get_blob(&sha256(b"")).expect(200).body.is_empty());
}

crate::support::on_each_backend!(shared:
    a_chunk_is_202_with_location_and_range,
    chunks_closed_by_an_empty_put_are_201_with_a_pullable_location,
    the_last_chunk_may_come_in_the_closing_put,
    the_last_chunk_in_the_closing_put_needs_no_content_range,
    a_patch_without_content_range_is_appended,
    many_chunks_make_one_blob,
    a_chunk_out_of_order_is_416_with_range_and_location,
    a_first_chunk_that_does_not_begin_at_0_is_416,
    a_final_chunk_out_of_order_is_416_and_the_upload_goes_on,
    a_malformed_content_range_is_refused,
    a_chunk_with_another_length_than_its_range_is_400,
    the_status_of_an_upload_is_204_with_location_and_range,
    the_status_of_an_upload_without_bytes_has_range_0_0,
    every_location_of_an_upload_stays_valid,
    a_cancelled_upload_is_204_and_then_unknown,
    chunks_with_the_wrong_digest_are_400_and_store_nothing,
    an_upload_closed_without_any_bytes_is_the_empty_blob,
);
