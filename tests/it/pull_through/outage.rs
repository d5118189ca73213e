//! A day on which the upstream is down.

use serde_json::json;

use super::{Cached, cache_header};
use crate::support::client::Request;
use crate::support::content::{Image, index, sha256};
use crate::support::on_each_backend;
use crate::support::server::{Backend, Server};

on_each_backend! {
    own: everything_that_was_pulled_once_is_pulled_again, an_upstream_that_forgets_deletes_nothing,
}

fn everything_that_was_pulled_once_is_pulled_again(backend: Backend) {
    let mut both = Cached::start(backend);
    let (image, other) = (Image::new(&[100_000]), Image::new(&[10]));
    let platforms = index(&[&image.manifest, &other.manifest]);
    let signature = Image::referrer(&platforms, "application/vnd.example.signature");
    let (there, here) = (both.there(), both.here());
    for image in [&image, &other] {
        there.push_image(&image.manifest.digest(), image);
    }
    there.push_manifest("v1", &platforms);
    there.push_image(&signature.manifest.digest(), &signature);
    let pull = || {
        let index = here.get_manifest("v1").expect(200);
        assert_eq!(here.pull_image(&image.manifest.digest()), image.manifest.digest());
        let list = here.send(Request::get(here.path(&format!("referrers/{}", platforms.digest())))).expect(200);
        assert_eq!(list.json()["manifests"][0]["digest"], json!(signature.manifest.digest()));
        assert_eq!(here.pull_image(&signature.manifest.digest()), signature.manifest.digest());
        cache_header(&index).to_owned()
    };
    assert_eq!(pull(), "miss");
    both.upstream.kill();
    assert_eq!(pull(), "stale");
    both.cache.restart();
    let here = both.here();
    assert_eq!(cache_header(&here.get_manifest("v1").expect(200)), "stale");
    assert_eq!(here.tags(""), ["v1"]);
    assert_eq!(here.pull_image(&image.manifest.digest()), image.manifest.digest());
    // the other platform was never pulled
    here.send(Request::get(here.manifest_path(&other.manifest.digest()))).expect_error(502, "UNAVAILABLE");
}

fn an_upstream_that_forgets_deletes_nothing(backend: Backend) {
    let both = Cached::start(backend);
    let image = Image::new(&[10]);
    let digest = both.there().push_image("v1", &image);
    assert_eq!(both.here().pull_image("v1"), digest);
    both.there().send(Request::delete(both.there().manifest_path(&digest))).expect(202);
    assert_eq!(cache_header(&both.here().get_manifest("v1").expect(200)), "stale");
    assert_eq!(both.here().pull_image("v1"), digest);
}

#[test]
fn a_lost_blob_comes_again() {
    let mut both = Cached::start(Backend::Directory);
    let image = Image::new(&[100_000]);
    let digest = both.there().push_image("v1", &image);
    assert_eq!(both.here().pull_image("v1"), digest);
    lose_the_largest_segment(&both.cache);
    both.cache.restart();
    assert_eq!(both.here().pull_image("v1"), digest);
    let layer = image.blobs.iter().max_by_key(|blob| blob.len()).unwrap();
    assert_eq!(cache_header(&both.here().get_blob(&sha256(layer))), "hit");
}

fn lose_the_largest_segment(server: &Server) {
    let mut files = vec![server.root().join("data")];
    let mut largest = (0, None);
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let size = path.metadata().unwrap().len();
            if size > largest.0 {
                largest = (size, Some(path));
            }
        }
    }
    std::fs::remove_file(largest.1.unwrap()).unwrap();
}
