//! `simple-registry prefetch`.

use std::process::Command;

use serde_json::json;

use super::{Cached, cache_header, settings_of};
use crate::support::client::Request;
use crate::support::content::{Image, Manifest, OCI_INDEX, index};
use crate::support::server::{Backend, Server};

/// Runs `prefetch` beside the cache. Returns its exit code, and both outputs.
fn prefetch(both: &Cached, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(both.cache.configuration_file()).arg("prefetch").args(arguments);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_prefetched_image_is_here_before_anybody_asks() {
    let mut both = Cached::start(Backend::Directory);
    let (amd, arm) = (Image::new(&[100_000]), Image::new(&[200]));
    let signature = Image::referrer(&amd.manifest, "application/vnd.example.signature");
    for image in [&amd, &arm, &signature] {
        both.there().push_image(&image.manifest.digest(), image);
    }
    let entry = |image: &Image, architecture: &str| {
        let mut entry = image.manifest.descriptor();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    // an index may list one manifest twice
    let entries = [entry(&arm, "arm64"), entry(&arm, "arm64"), entry(&amd, "amd64")];
    let index = Manifest::new(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}));
    both.there().push_manifest("v1", &index);
    let image = "hub/library/app:v1";
    let (code, text) = prefetch(&both, &["--platform", "linux/amd64", "--referrers", image]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("hub/library/app:v1: 3 manifests; "), "{text}");
    both.upstream.kill();
    let here = both.here();
    assert_eq!(cache_header(&here.get_manifest("v1").expect(200)), "stale");
    for image in [&amd, &signature] {
        assert_eq!(here.pull_image(&image.manifest.digest()), image.manifest.digest());
    }
    here.send(Request::get(here.manifest_path(&arm.manifest.digest()))).expect_error(502, "UNAVAILABLE");
    let (code, text) = prefetch(&both, &["hub/library/app:v2", "team/app:v1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("team/app is no cache") && text.contains("2 of 2 images were not fetched"), "{text}");
}

#[test]
fn an_image_without_one_of_its_platforms_is_fetched_but_for_that() {
    let upstream = Server::start_plain(Backend::Directory, "allow_missing_references = true\n");
    let cache = Server::start_plain(Backend::Directory, &settings_of(&upstream, ""));
    let mut both = Cached { upstream, cache };
    let (here, gone) = (Image::new(&[100_000]), Image::new(&[200]));
    both.there().push_image(&here.manifest.digest(), &here);
    both.there().push_manifest("v1", &index(&[&gone.manifest, &here.manifest]));
    let (code, text) = prefetch(&both, &["hub/library/app:v1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("hub/library/app:v1: 2 manifests; "), "{text}");
    let missing =
        format!("hub/library/app:v1: missing: hub/library/app has no manifest {} here", gone.manifest.digest());
    assert!(text.contains(&missing) && text.contains("1 of 1 images were not fetched whole"), "{text}");
    both.upstream.kill();
    assert_eq!(both.here().pull_image(&here.manifest.digest()), here.manifest.digest());
}
