//! New releases of an upstream are held back for a cooldown.

use std::time::{Duration, Instant};

use super::{Cached, cache_header, settings_of};
use crate::support::client::Request;
use crate::support::content::{Image, index};
use crate::support::on_each_backend;
use crate::support::server::{Backend, Server};

on_each_backend! {
    own: a_young_release_is_refused_by_every_request_for_it,
}

fn a_young_release_is_refused_by_every_request_for_it(backend: Backend) {
    let both = Cached::start_with(backend, "[repository.hub]\ncooldown = \"3 days\"\n");
    let (there, here) = (both.there(), both.here());
    let image = Image::new(&[1_000]);
    let digest = there.push_image("v1", &image);
    for reference in ["v1", &digest] {
        let refused = here.get_manifest(reference);
        let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        refused.expect_error(403, "DENIED");
        for part in ["is held back until 2", &digest, "`cooldown` is 72h"] {
            assert!(message.contains(part), "{message}");
        }
        here.send(Request::head(here.manifest_path(reference))).expect(403);
    }
    assert_eq!(here.tags(""), ["v1"], "lists show what the upstream has");
    let log = both.cache.log();
    assert!(log.iter().any(|line| line.contains("a younger manifest waits for the cooldown")), "{log:#?}");
}

#[test]
fn an_exception_of_the_configuration_lets_what_it_names_leave() {
    let settings = "[repository.hub]\ncooldown = \"3 days\"\ncooldown_exceptions = [\"request.reference == 'v1'\"]\n";
    let both = Cached::start_with(Backend::Directory, settings);
    let image = Image::new(&[1_000]);
    let digest = both.there().push_image("v1", &image);
    both.there().push_image("v2", &image);
    both.here().get_manifest("v2").expect_error(403, "DENIED");
    assert_eq!(both.here().pull_image("v1"), digest);
    // the tag leads to the digest, for clients that ask for that next
    both.here().get_manifest(&digest).expect(200);
    both.here().get_manifest("v2").expect_error(403, "DENIED");
}

#[test]
fn an_edit_of_the_cooldown_holds_at_once() {
    let mut both = Cached::start_with(Backend::Directory, "[repository.hub]\ncooldown = \"3 days\"\n");
    let image = Image::new(&[10]);
    let (first, second) = (both.there().push_image("v1", &image), Image::new(&[20]));
    both.here().get_manifest("v1").expect(403);
    let edit = |both: &mut Cached, settings: &str| {
        let lines = both.cache.log().len();
        both.cache.edit(&settings_of(&both.upstream, settings));
        both.cache.wait_for_line(lines, &["reloaded: configuration"]);
    };
    edit(&mut both, "[repository.hub]\n");
    assert_eq!(both.here().pull_image("v1"), first);
    edit(&mut both, "[repository.hub]\ncooldown = \"3 days\"\n");
    // the first time was recorded a moment ago
    both.here().get_manifest("v1").expect(403);
    both.there().push_image("v1", &second);
    both.here().get_manifest("v1").expect(403);
}

/// The store is asked once what the tag means here, with a cooldown and without.
#[test]
fn a_warm_pull_costs_one_request_to_the_store() {
    let upstream = Server::start_plain(Backend::Directory, "");
    let image = Image::new(&[1_000]);
    let repo = upstream.repo("library/app");
    let platforms = index(&[&image.manifest]);
    repo.push_image(&image.manifest.digest(), &image);
    repo.push_manifest("v1", &platforms);
    for cooldown in ["0s", "1s"] {
        let settings = format!("cache_ttl = \"0s\"\n[repository.hub]\ncooldown = \"{cooldown}\"\n");
        let cache = Server::start_on_own_s3(&settings_of(&upstream, &settings));
        let here = cache.repo("hub/library/app");
        let total = || cache.s3().requests().values().sum::<usize>();
        let deadline = Instant::now() + Duration::from_mins(1);
        while here.get_manifest("v1").status != 200 {
            assert!(cooldown != "0s" && Instant::now() < deadline);
        }
        here.get_manifest(&image.manifest.digest()).expect(200);
        // the server has requests of its own now and then
        let costs = (0..10).map(|_| {
            let before = total();
            assert_eq!(cache_header(&here.get_manifest("v1").expect(200)), "hit");
            total() - before
        });
        assert_eq!(costs.min(), Some(1), "cooldown {cooldown}: {:?}", cache.s3().requests());
    }
}
