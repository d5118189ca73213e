//! Tags that a cache keeps warm by itself.

use super::{Cached, cache_header, settings_of};
use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::server::Backend;

#[test]
fn a_tag_that_moved_comes_before_anybody_asks_and_edits_begin_and_end_that() {
    let mut both = Cached::start(Backend::Directory);
    let (first, second, other) = (Image::new(&[10]), Image::new(&[100_000]), Image::new(&[20]));
    for tag in ["v1", "latest"] {
        both.there().push_image(tag, &first);
        assert_eq!(both.here().pull_image(tag), first.manifest.digest());
    }
    both.there().push_image("v1", &second);
    both.there().push_image("latest", &other);
    both.there().push_image("v2", &other);
    let lines = both.cache.log().len();
    let refresh = "[repository.hub]\nrefresh = { tags = ['^v'], interval = '1h' }\n";
    let without = settings_of(&both.upstream, "");
    both.cache.edit(&settings_of(&both.upstream, refresh));
    let lines = both.cache.wait_for_line(lines, &["the refresh of tags begins", "hub"]);
    let digest = second.manifest.digest();
    let lines = both.cache.wait_for_line(lines, &["a tag was refreshed", "v1", &digest, "127.0.0.1"]);
    let metrics = both.cache.client().send(Request::get("/metrics")).expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("\nsimple_registry_refreshes_total{outcome=\"fetched\"} 1\n"), "{metrics}");
    both.upstream.kill();
    assert_eq!(cache_header(&both.here().get_manifest("v1").expect(200)), "stale");
    assert_eq!(both.here().pull_image("v1"), digest);
    // no pattern covers one, and nobody has pulled the other
    assert_eq!(both.here().pull_image("latest"), first.manifest.digest());
    assert_eq!(both.here().tags(""), ["latest", "v1"]);
    both.cache.edit(&without);
    both.cache.wait_for_line(lines, &["the refresh of tags ends", "hub"]);
}
