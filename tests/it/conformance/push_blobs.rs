//! "Push", blobs: whole, in one request, by mount, and what is refused. Pieces are in `push_chunks`.

use crate::support::client::Request;
use crate::support::content::{sha256, sha512, unique, unknown_digest};
use crate::support::repo::{Repo, finish};

/// Returns the path of a one-request push.
fn single_post(repo: &Repo, digest: &str) -> String {
    repo.path(&format!("blobs/uploads/?digest={digest}"))
}

fn a_post_begins_an_upload_with_202_and_a_location(repo: &Repo) {
    let response = repo.send(Request::post(repo.path("blobs/uploads/"))).expect(202);
    let location = response.location();
    assert!(location.starts_with('/'), "{location} is neither absolute nor a path");
}

/// RFC 9562 text form: 8-4-4-4-12.
fn an_upload_location_has_a_uuid_of_its_own(repo: &Repo) {
    let uuid = |location: &str| {
        let path = location.split('?').next().unwrap_or_default();
        let uuid = path.split('/').find(|part| uuid::Uuid::try_parse(part).is_ok());
        uuid.unwrap_or_else(|| panic!("no UUID in {location}")).to_owned()
    };
    assert_ne!(uuid(&repo.start_upload()), uuid(&repo.start_upload()));
}

fn the_uploads_path_works_without_its_last_slash(repo: &Repo) {
    repo.send(Request::post(repo.path("blobs/uploads"))).expect(202);
}

fn a_put_after_the_post_is_201_with_a_pullable_location(repo: &Repo) {
    let data = unique(5000);
    let digest = sha256(&data);
    let response = repo.send(finish(&repo.start_upload(), &digest).body(data.clone())).expect(201);
    assert_eq!(response.required("docker-content-digest"), digest);
    let pulled = repo.send(Request::get(response.location())).expect(200);
    assert_eq!(pulled.body, data);
}

fn a_single_post_with_a_digest_is_201_with_a_pullable_location(repo: &Repo) {
    let data = unique(5000);
    let digest = sha256(&data);
    let response = repo.send(Request::post(single_post(repo, &digest)).body(data.clone())).expect(201);
    assert_eq!(repo.send(Request::get(response.location())).expect(200).body, data);
    assert_eq!(repo.get_blob(&digest).expect(200).body, data);
}

fn a_single_post_takes_a_percent_encoded_digest(repo: &Repo) {
    let data = unique(500);
    let digest = sha256(&data).replace(':', "%3A");
    repo.send(Request::post(single_post(repo, &digest)).body(data.clone())).expect(201);
    repo.get_blob(&sha256(&data)).expect(200);
}

fn a_single_post_takes_sha512(repo: &Repo) {
    let data = unique(500);
    repo.send(Request::post(single_post(repo, &sha512(&data))).body(data.clone())).expect(201);
    assert_eq!(repo.get_blob(&sha512(&data)).expect(200).body, data);
}

fn a_single_post_without_bytes_pushes_the_empty_blob(repo: &Repo) {
    repo.send(Request::post(single_post(repo, &sha256(b"")))).expect(201);
    assert!(repo.get_blob(&sha256(b"")).expect(200).body.is_empty());
}

fn a_put_with_the_wrong_digest_is_400_and_stores_nothing(repo: &Repo) {
    let data = unique(500);
    let said = unknown_digest();
    let errors = repo.send(finish(&repo.start_upload(), &said).body(data.clone())).expect_error(400, "DIGEST_INVALID");
    let detail = errors[0]["detail"].to_string();
    assert!(detail.contains(&said) && detail.contains(&sha256(&data)), "both digests are told: {detail}");
    repo.get_blob(&said).expect(404);
    repo.get_blob(&sha256(&data)).expect(404);
}

fn a_single_post_with_the_wrong_digest_is_400_and_stores_nothing(repo: &Repo) {
    let data = unique(500);
    let said = unknown_digest();
    repo.send(Request::post(single_post(repo, &said)).body(data.clone())).expect_error(400, "DIGEST_INVALID");
    repo.get_blob(&said).expect(404);
    repo.get_blob(&sha256(&data)).expect(404);
}

fn a_malformed_or_unsupported_digest_is_400(repo: &Repo) {
    let data = unique(500);
    let hex = &sha256(&data)["sha256:".len()..].to_owned();
    for digest in [
        "sha256:beef".to_owned(),
        hex.clone(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{hex}00"),
        format!("sha256:{}z", &hex[..63]),
        String::new(),
    ] {
        repo.send(finish(&repo.start_upload(), &digest).body(data.clone())).expect_error(400, "DIGEST_INVALID");
        repo.send(Request::post(single_post(repo, &digest)).body(data.clone())).expect_error(400, "DIGEST_INVALID");
    }
    repo.get_blob(&sha256(&data)).expect(404);
}

fn a_closing_put_without_a_digest_is_400(repo: &Repo) {
    repo.send(Request::put(repo.start_upload()).body(unique(100))).expect_error(400, "DIGEST_INVALID");
}

fn an_unsupported_digest_algorithm_is_400(repo: &Repo) {
    repo.send(Request::post(repo.path("blobs/uploads/?digest-algorithm=md5"))).expect_error(400, "DIGEST_INVALID");
}

fn an_announced_digest_algorithm_can_be_used(repo: &Repo) {
    let data = unique(5000);
    for (algorithm, digest) in [("sha256", sha256(&data)), ("sha512", sha512(&data))] {
        let start = Request::post(repo.path(&format!("blobs/uploads/?digest-algorithm={algorithm}")));
        let location = repo.send(start).expect(202).location();
        let location = repo.send(Request::patch(location).body(data.clone())).expect(202).location();
        let response = repo.send(finish(&location, &digest)).expect(201);
        assert_eq!(response.required("docker-content-digest"), digest);
        assert_eq!(repo.get_blob(&digest).expect(200).body, data);
    }
}

/// A SHOULD of the client, so a server that can does without.
fn sha512_works_without_being_announced(repo: &Repo) {
    let data = unique(5000);
    let location = repo.send(Request::patch(repo.start_upload()).body(data.clone())).expect(202).location();
    repo.send(finish(&location, &sha512(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha512(&data)).expect(200).body, data);
}

fn an_unknown_upload_is_404(repo: &Repo) {
    let data = unique(100);
    repo.push_blob(&unique(10));
    let path = repo.path(&format!("blobs/uploads/{}", uuid::Uuid::new_v4()));
    repo.send(Request::get(&path)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(Request::patch(&path).body(data.clone())).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(finish(&path, &sha256(&data)).body(data.clone())).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.send(Request::delete(&path)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    repo.get_blob(&sha256(&data)).expect(404);
}

fn an_upload_of_another_repository_is_404(repo: &Repo) {
    let location = repo.start_upload();
    let id = location.split('?').next().and_then(|path| path.rsplit('/').next()).expect("a path has a last part");
    repo.sibling("other").push_blob(&unique(10));
    repo.send(Request::get(repo.sibling("other").path(&format!("blobs/uploads/{id}")))).expect(404);
}

fn a_blob_that_is_pushed_again_is_201(repo: &Repo) {
    let data = unique(3000);
    assert_eq!(repo.push_blob(&data), repo.push_blob(&data));
    repo.send(Request::post(single_post(repo, &sha256(&data))).body(data.clone())).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn the_status_of_a_completed_upload_is_404(repo: &Repo) {
    let data = unique(100);
    let location = repo.start_upload();
    repo.send(finish(&location, &sha256(&data)).body(data.clone())).expect(201);
    repo.send(Request::get(&location)).expect(404);
}

fn mount(repo: &Repo, digest: &str, from: Option<&Repo>) -> Request {
    let from = from.map_or(String::new(), |from| format!("&from={}", from.name));
    Request::post(repo.path(&format!("blobs/uploads/?mount={digest}{from}")))
}

fn a_mount_from_another_repository_is_201_with_a_pullable_location(repo: &Repo) {
    let data = unique(4000);
    let digest = repo.push_blob(&data);
    let target = repo.sibling("target");
    let response = target.send(mount(&target, &digest, Some(repo))).expect(201);
    assert_eq!(response.required("docker-content-digest"), digest);
    assert!(response.location().contains(&target.name), "the location is in the repository that it was mounted to");
    assert_eq!(target.send(Request::get(response.location())).expect(200).body, data);
    assert_eq!(target.get_blob(&digest).expect(200).body, data);
}

fn a_mount_lasts_when_the_source_is_deleted(repo: &Repo) {
    let data = unique(4000);
    let digest = repo.push_blob(&data);
    let target = repo.sibling("target");
    target.send(mount(&target, &digest, Some(repo))).expect(201);
    repo.send(Request::delete(repo.blob_path(&digest))).expect(202);
    repo.get_blob(&digest).expect(404);
    assert_eq!(target.get_blob(&digest).expect(200).body, data);
}

fn a_mount_of_a_blob_that_the_source_lacks_is_202_and_continues_as_an_upload(repo: &Repo) {
    let data = unique(4000);
    let target = repo.sibling("target");
    repo.push_blob(&unique(10));
    let location = target.send(mount(&target, &sha256(&data), Some(repo))).expect(202).location();
    target.send(finish(&location, &sha256(&data)).body(data.clone())).expect(201);
    assert_eq!(target.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_mount_from_an_unknown_repository_is_202(repo: &Repo) {
    let target = repo.sibling("target");
    target.send(mount(&target, &unknown_digest(), Some(&repo.sibling("nowhere")))).expect(202);
}

/// The registry may answer in two ways, and each has its consequence.
fn a_mount_without_from_is_201_or_202_and_the_answer_is_true(repo: &Repo) {
    let data = unique(4000);
    let digest = repo.push_blob(&data);
    let target = repo.sibling("target");
    let response = target.send(mount(&target, &digest, None));
    match response.status {
        201 => assert_eq!(target.send(Request::get(response.location())).expect(200).body, data),
        202 => drop(target.send(finish(&response.location(), &digest).body(data.clone())).expect(201)),
        _ => panic!("neither 201 nor 202\n{response:?}"),
    }
    assert_eq!(target.get_blob(&digest).expect(200).body, data);
}

fn a_mount_that_cannot_be_is_202_and_continues_as_an_upload(repo: &Repo) {
    let data = unique(100);
    repo.push_blob(&data);
    let digest = sha256(&data);
    for query in [
        format!("mount=sha256:beef&from={}", repo.name),
        format!("mount=md5:d41d8cd98f00b204e9800998ecf8427e&from={}", repo.name),
        format!("mount=&from={}", repo.name),
        format!("mount={digest}&from=UPPER"),
        format!("mount={digest}&from=localhost:5000/a"),
        format!("mount={digest}&from=%ff"),
        format!("mount={digest}&from={name}&from={name}", name = repo.name),
    ] {
        let target = repo.sibling("mounts");
        let path = target.path(&format!("blobs/uploads/?{query}"));
        let location = target.send(Request::post(path)).expect(202).location();
        target.send(finish(&location, &digest).body(data.clone())).expect(201);
    }
}

crate::support::on_each_backend!(shared:
    a_post_begins_an_upload_with_202_and_a_location,
    an_upload_location_has_a_uuid_of_its_own,
    the_uploads_path_works_without_its_last_slash,
    a_put_after_the_post_is_201_with_a_pullable_location,
    a_single_post_with_a_digest_is_201_with_a_pullable_location,
    a_single_post_takes_a_percent_encoded_digest,
    a_single_post_takes_sha512,
    a_single_post_without_bytes_pushes_the_empty_blob,
    a_put_with_the_wrong_digest_is_400_and_stores_nothing,
    a_single_post_with_the_wrong_digest_is_400_and_stores_nothing,
    a_malformed_or_unsupported_digest_is_400,
    a_closing_put_without_a_digest_is_400,
    an_unsupported_digest_algorithm_is_400,
    an_announced_digest_algorithm_can_be_used,
    sha512_works_without_being_announced,
    an_unknown_upload_is_404,
    an_upload_of_another_repository_is_404,
    a_blob_that_is_pushed_again_is_201,
    the_status_of_a_completed_upload_is_404,
    a_mount_from_another_repository_is_201_with_a_pullable_location,
    a_mount_lasts_when_the_source_is_deleted,
    a_mount_of_a_blob_that_the_source_lacks_is_202_and_continues_as_an_upload,
    a_mount_from_an_unknown_repository_is_202,
    a_mount_without_from_is_201_or_202_and_the_answer_is_true,
    a_mount_that_cannot_be_is_202_and_continues_as_an_upload,
);
