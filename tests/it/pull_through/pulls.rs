//! Pulls through a cache.

use super::{Cached, cache_header};
use crate::support::client::Request;
use crate::support::content::{Image, OCI_INDEX, index, sha256, unique};
use crate::support::on_each_backend;
use crate::support::server::Backend;

on_each_backend! {
    own: an_image_comes_through_and_stays, an_index_brings_only_what_is_asked_for, a_moved_tag_is_followed,
        ranges_and_heads_of_blobs_that_are_not_here_yet, a_hundred_clients_at_once_cost_one_download,
        a_pushed_repository_is_beside, a_blob_that_the_client_has_is_not_downloaded, metrics_and_the_log_name_the_upstream,
}

fn an_image_comes_through_and_stays(backend: Backend) {
    let both = Cached::start(backend);
    let image = Image::new(&[3_000_000, 10, 0]);
    let digest = both.there().push_image("v1", &image);
    assert_eq!(both.here().pull_image("v1"), digest);
    assert_eq!(cache_header(&both.here().get_manifest(&digest)), "hit");
    for blob in &image.blobs {
        assert_eq!(cache_header(&both.here().get_blob(&sha256(blob))), "hit");
    }
    assert_eq!(both.here().pull_image("v1"), digest);
    assert_eq!(both.here().tags(""), ["v1"]);
}

fn an_index_brings_only_what_is_asked_for(backend: Backend) {
    let both = Cached::start(backend);
    let (one, other) = (Image::new(&[100]), Image::new(&[200]));
    let (there, here) = (both.there(), both.here());
    there.push_image(&one.manifest.digest(), &one);
    there.push_image(&other.manifest.digest(), &other);
    let both_platforms = index(&[&one.manifest, &other.manifest]);
    there.push_manifest("v1", &both_platforms);
    let got = here.get_manifest("v1").expect(200);
    assert_eq!((cache_header(&got), got.required("content-type")), ("miss", OCI_INDEX));
    assert_eq!(here.pull_image(&one.manifest.digest()), one.manifest.digest());
    let count = both.asked().iter().filter(|action| *action == "get-blob").count();
    assert_eq!(count, one.blobs.len());
}

fn a_moved_tag_is_followed(backend: Backend) {
    let both = Cached::start(backend);
    let (first, second) = (Image::new(&[10]), Image::new(&[20]));
    both.there().push_image("latest", &first);
    assert_eq!(both.here().pull_image("latest"), first.manifest.digest());
    both.there().push_image("latest", &second);
    let head = both.here().send(Request::head(both.here().manifest_path("latest"))).expect(200);
    assert_eq!((cache_header(&head), head.required("docker-content-digest")), ("miss", &*second.manifest.digest()));
    assert_eq!(both.here().pull_image("latest"), second.manifest.digest());
    assert_eq!(both.here().pull_image(&first.manifest.digest()), first.manifest.digest());
}

fn ranges_and_heads_of_blobs_that_are_not_here_yet(backend: Backend) {
    let both = Cached::start(backend);
    let data = unique(1_000_000);
    let digest = both.there().push_blob(&data);
    let here = both.here();
    let head = here.send(Request::head(here.blob_path(&digest))).expect(200);
    assert_eq!((cache_header(&head), head.required("content-length")), ("miss", "1000000"));
    let range = here.send(Request::get(here.blob_path(&digest)).header("range", "bytes=500000-500009")).expect(206);
    assert_eq!(range.body, data[500_000..500_010]);
    assert_eq!(range.required("content-range"), "bytes 500000-500009/1000000");
    let unknown = here.send(Request::get(here.blob_path(&sha256(b"nothing"))));
    let errors = unknown.expect_error(404, "BLOB_UNKNOWN");
    assert!(errors[0]["message"].as_str().unwrap().contains("127.0.0.1: 404"), "{errors:?}");
}

fn a_hundred_clients_at_once_cost_one_download(backend: Backend) {
    let both = Cached::start(backend);
    let image = Image::new(&[200_000; 10]);
    let digest = both.there().push_image("v1", &image);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..131).map(|_| scope.spawn(|| both.here().pull_image("v1"))).collect();
        for pull in all {
            assert_eq!(pull.join().unwrap(), digest);
        }
    });
    let asked = both.asked();
    let count = |action: &str| asked.iter().filter(|asked| *asked == action).count();
    assert_eq!(count("get-blob"), image.blobs.len(), "{asked:?}");
}

fn a_pushed_repository_is_beside(backend: Backend) {
    let both = Cached::start(backend);
    let image = Image::new(&[10]);
    let pushed = both.cache.repo("team/app");
    let digest = pushed.push_image("v1", &image);
    assert_eq!(pushed.pull_image("v1"), digest);
    assert!(pushed.get_manifest("v1").expect(200).header("x-cache").is_none());
}

fn a_blob_that_the_client_has_is_not_downloaded(backend: Backend) {
    let both = Cached::start(backend);
    let (digest, unknown, here) = (both.there().push_blob(&unique(1_000_000)), sha256(b"nothing"), both.here());
    let unless =
        |digest: &str| here.send(Request::get(here.blob_path(digest)).header("if-none-match", format!("\"{digest}\"")));
    assert_eq!(cache_header(&unless(&digest).expect(304)), "miss");
    unless(&unknown).expect_error(404, "BLOB_UNKNOWN");
    let metrics = both.cache.client().send(Request::get("/metrics")).expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    let count = |outcome, count: u32| {
        let line = format!(
            "\nsimple_registry_upstream_questions_total{{upstream=\"127.0.0.1\",outcome=\"{outcome}\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    };
    count("answered", 1);
    count("not-found", 1);
}

fn metrics_and_the_log_name_the_upstream(backend: Backend) {
    let both = Cached::start(backend);
    let image = Image::new(&[1000]);
    both.there().push_image("v1", &image);
    both.here().pull_image("v1");
    both.here().get_manifest(&image.manifest.digest()).expect(200);
    let metrics = both.cache.client().send(Request::get("/metrics")).expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    let has = |line: &str| assert!(metrics.contains(&format!("\nsimple_registry_{line}\n")), "{line}\n{metrics}");
    has("cache_answers_total{served=\"hit\"} 1");
    has("cache_answers_total{served=\"miss\"} 3");
    // a HEAD and a GET of the manifest, and two blobs
    has("upstream_questions_total{upstream=\"127.0.0.1\",outcome=\"answered\"} 4");
    has("upstream_resting{upstream=\"127.0.0.1\"} 0");
    both.cache.wait_for_line(0, &["get-blob", "\"cache\":\"miss\"", "\"upstream\":\"127.0.0.1\""]);
}
