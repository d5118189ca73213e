//! "Content Management": deleting tags, manifests (end-9) and blobs (end-10).

use crate::support::client::{Request, Response};
use crate::support::content::{Image, index, sha256, unique, unknown_digest};
use crate::support::repo::Repo;

#[track_caller]
fn delete_manifest(repo: &Repo, reference: &str) -> Response {
    repo.send(Request::delete(repo.manifest_path(reference)))
}

#[track_caller]
fn delete_blob(repo: &Repo, digest: &str) -> Response {
    repo.send(Request::delete(repo.blob_path(digest)))
}

fn a_deleted_tag_is_202_and_then_404(repo: &Repo) {
    let digest = repo.push_image("v1", &Image::new(&[50]));
    repo.push_image("v2", &Image::new(&[50]));
    delete_manifest(repo, "v1").expect(202);
    repo.get_manifest("v1").expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(repo.tags(""), ["v2"]);
    assert_eq!(repo.pull_image(&digest), digest, "deleting a tag leaves its manifest");
}

fn a_deleted_tag_can_be_pushed_again(repo: &Repo) {
    let image = Image::new(&[50]);
    for _ in 0..3 {
        let digest = repo.push_image("v1", &image);
        assert_eq!(repo.pull_image("v1"), digest);
        delete_manifest(repo, "v1").expect(202);
        repo.get_manifest("v1").expect(404);
        assert!(repo.tags("").is_empty());
    }
}

fn deleting_an_unknown_tag_is_404(repo: &Repo) {
    repo.push_image("v1", &Image::new(&[50]));
    delete_manifest(repo, "v2").expect_error(404, "MANIFEST_UNKNOWN");
    delete_manifest(repo, "v1").expect(202);
    delete_manifest(repo, "v1").expect_error(404, "MANIFEST_UNKNOWN");
}

fn a_deleted_manifest_is_202_and_then_404_by_digest_and_by_every_tag(repo: &Repo) {
    let image = Image::new(&[50]);
    let digest = repo.push_image("v1", &image);
    repo.push_manifest("v2", &image.manifest);
    let other = repo.push_image("v3", &Image::new(&[50]));
    delete_manifest(repo, &digest).expect(202);
    for reference in ["v1", "v2", &digest] {
        repo.get_manifest(reference).expect_error(404, "MANIFEST_UNKNOWN");
        repo.send(Request::head(repo.manifest_path(reference))).expect(404);
    }
    assert_eq!(repo.tags(""), ["v3"]);
    assert_eq!(repo.pull_image("v3"), other);
}

fn deleting_an_unknown_manifest_is_404(repo: &Repo) {
    let digest = repo.push_image("v1", &Image::new(&[50]));
    delete_manifest(repo, &unknown_digest()).expect_error(404, "MANIFEST_UNKNOWN");
    delete_manifest(repo, &digest).expect(202);
    delete_manifest(repo, &digest).expect_error(404, "MANIFEST_UNKNOWN");
}

fn deleting_in_an_unknown_repository_is_404(repo: &Repo) {
    delete_manifest(repo, &unknown_digest()).expect(404);
    delete_manifest(repo, "v1").expect(404);
    delete_blob(repo, &unknown_digest()).expect(404);
}

/// A tag says what was pushed under it; that its manifest comes back under another tag does not bring it back.
fn a_tag_of_a_deleted_manifest_stays_deleted_when_the_manifest_is_pushed_again(repo: &Repo) {
    let image = Image::new(&[50]);
    let digest = repo.push_image("v1", &image);
    delete_manifest(repo, &digest).expect(202);
    repo.push_image("v2", &image);
    assert_eq!(repo.pull_image("v2"), digest);
    repo.get_manifest("v1").expect(404);
    assert_eq!(repo.tags(""), ["v2"]);
}

fn a_deleted_manifest_can_be_pushed_again(repo: &Repo) {
    let image = Image::new(&[50]);
    let digest = repo.push_image("v1", &image);
    delete_manifest(repo, &digest).expect(202);
    assert_eq!(repo.push_image("v1", &image), digest);
    assert_eq!(repo.pull_image("v1"), digest);
    assert_eq!(repo.pull_image(&digest), digest);
}

fn a_deleted_blob_is_202_and_then_404(repo: &Repo) {
    let data = unique(1000);
    let digest = repo.push_blob(&data);
    delete_blob(repo, &digest).expect(202);
    repo.get_blob(&digest).expect_error(404, "BLOB_UNKNOWN");
    repo.send(Request::head(repo.blob_path(&digest))).expect(404);
    delete_blob(repo, &digest).expect_error(404, "BLOB_UNKNOWN");
    repo.push_blob(&data);
    assert_eq!(repo.get_blob(&digest).expect(200).body, data);
}

fn deleting_an_unknown_blob_is_404(repo: &Repo) {
    repo.push_blob(&unique(10));
    delete_blob(repo, &unknown_digest()).expect_error(404, "BLOB_UNKNOWN");
}

fn a_blob_deleted_in_one_repository_stays_in_another(repo: &Repo) {
    let data = unique(1000);
    let digest = repo.push_blob(&data);
    repo.sibling("other").push_blob(&data);
    delete_blob(repo, &digest).expect(202);
    repo.get_blob(&digest).expect(404);
    assert_eq!(repo.sibling("other").get_blob(&digest).expect(200).body, data);
}

fn deleting_a_malformed_digest_is_400(repo: &Repo) {
    repo.push_blob(&unique(10));
    delete_blob(repo, "sha256:beef").expect_error(400, "DIGEST_INVALID");
    delete_manifest(repo, "sha256:beef").expect_error(400, "DIGEST_INVALID");
}

/// Fails unless a deletion was refused with a reason that names `needed_by`.
#[track_caller]
fn expect_refused(response: Response, needed_by: &str) {
    assert!([400, 405, 409].contains(&response.status), "\n{response:?}");
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert!(text.contains(needed_by), "the answer names {needed_by}\n{response:?}");
    drop(response);
}

fn a_blob_that_a_manifest_needs_is_not_deleted(repo: &Repo) {
    let image = Image::new(&[50]);
    let digest = repo.push_image("v1", &image);
    for blob in &image.blobs {
        expect_refused(delete_blob(repo, &sha256(blob)), &digest);
    }
    repo.pull_image("v1");
    delete_manifest(repo, &digest).expect(202);
    for blob in &image.blobs {
        delete_blob(repo, &sha256(blob)).expect(202);
    }
}

fn a_manifest_that_an_index_needs_is_not_deleted(repo: &Repo) {
    let child = Image::new(&[50]);
    repo.push_image("child", &child);
    let parent = index(&[&child.manifest]);
    repo.push_manifest("parent", &parent);
    expect_refused(delete_manifest(repo, &child.manifest.digest()), &parent.digest());
    repo.pull_image("child");
    delete_manifest(repo, &parent.digest()).expect(202);
    delete_manifest(repo, &child.manifest.digest()).expect(202);
}

/// A refused manifest needs nothing.
fn a_refused_manifest_does_not_keep_blobs_or_children_from_deletion(repo: &Repo) {
    let child = Image::new(&[50]);
    repo.push_image("child", &child);
    let absent = Image::new(&[50]);
    repo.send(repo.put_manifest("parent", &index(&[&child.manifest, &absent.manifest]))).expect(404);
    delete_manifest(repo, &child.manifest.digest()).expect(202);
    repo.push_blob(&absent.blobs[0]);
    repo.send(repo.put_manifest("image", &absent.manifest)).expect(404);
    delete_blob(repo, &sha256(&absent.blobs[0])).expect(202);
}

crate::support::on_each_backend!(shared:
    a_deleted_tag_is_202_and_then_404,
    a_deleted_tag_can_be_pushed_again,
    deleting_an_unknown_tag_is_404,
    a_deleted_manifest_is_202_and_then_404_by_digest_and_by_every_tag,
    deleting_an_unknown_manifest_is_404,
    deleting_in_an_unknown_repository_is_404,
    a_tag_of_a_deleted_manifest_stays_deleted_when_the_manifest_is_pushed_again,
    a_deleted_manifest_can_be_pushed_again,
    a_deleted_blob_is_202_and_then_404,
    deleting_an_unknown_blob_is_404,
    a_blob_deleted_in_one_repository_stays_in_another,
    deleting_a_malformed_digest_is_400,
    a_blob_that_a_manifest_needs_is_not_deleted,
    a_manifest_that_an_index_needs_is_not_deleted,
    a_refused_manifest_does_not_keep_blobs_or_children_from_deletion,
);
