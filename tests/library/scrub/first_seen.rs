//! Tests what scrub does to the times at which manifests of caches were first seen.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use simple_registry::{
    oci::{Digest, MediaType, Name},
    records::Actor,
    registry::{CachedManifest, Registry},
    scrub::{Pass, Summary},
};

use crate::scrub::world::{config, keys, name, scrub_with, server, sha256, tag};

const DAY: Duration = Duration::from_hours(24);

fn manifest() -> CachedManifest {
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
    CachedManifest {
        digest: sha256(&bytes),
        media_type: MediaType::OCI_INDEX.parse().unwrap(),
        bytes: bytes.into(),
        tag: Some(tag("latest")),
    }
}

/// Records that a manifest was seen, and that a tag leads to it.
async fn see(server: &Registry, at: &Name, digest: &Digest) {
    server.first_seen.note(at, digest, false, &Actor::default()).await.unwrap();
    server.first_seen.note_tag(at, digest, &tag("latest"), &Actor::default()).await.unwrap();
}

/// Makes all records of first-seen times this old.
fn age(root: &Path, days: u32) {
    for key in keys(root).into_iter().filter(|key| key.contains("/first-seen/")) {
        let file = fs::File::options().write(true).open(root.join(key)).unwrap();
        file.set_modified(SystemTime::now() - days * DAY).unwrap();
    }
}

fn seen(root: &Path) -> Vec<String> {
    keys(root).into_iter().filter(|key| key.contains("/first-seen/")).collect()
}

async fn run(root: &Path, of: Option<Name>) -> Summary {
    let passes = if of.is_some() { vec![Pass::Links, Pass::Garbage] } else { Pass::ALL.to_vec() };
    let change = |options: &mut simple_registry::scrub::Options| {
        (options.repository, options.passes) = (of, passes.into_iter().collect());
    };
    let (summary, told) = scrub_with(root, &config(), change).await.unwrap();
    assert!(told.findings().is_empty(), "{:?}", told.findings());
    summary
}

#[tokio::test]
async fn the_time_of_a_manifest_goes_long_after_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (app, other) = (name("hub/app"), name("hub/other"));
    let (here, gone) = (manifest(), sha256("never here"));
    see(&server, &app, &here.digest).await;
    server.manifests.put_cached(&app, &here, &Actor::default()).await.unwrap();
    // the second repository has nothing else
    for at in [&app, &other] {
        see(&server, at, &gone).await;
    }
    let all = seen(root);
    assert_eq!(all.len(), 6, "{all:?}");
    for days in [0, 179] {
        age(root, days);
        run(root, None).await;
        assert_eq!(seen(root), all, "{days} days");
    }
    // one that was asked for lately stays with its tag
    age(root, 181);
    let young = all.iter().find(|key| key.contains("/other!/") && key.contains("tag.")).unwrap();
    fs::File::options().write(true).open(root.join(young)).unwrap().set_modified(SystemTime::now()).unwrap();
    run(root, Some(other.clone())).await;
    assert_eq!(seen(root), all);
    age(root, 181);
    let (summary, _) = scrub_with(root, &config(), |options| options.dry_run = true).await.unwrap();
    assert_eq!((seen(root), summary.freed > 0), (all, true));
    run(root, Some(other)).await;
    assert!(seen(root).iter().all(|key| key.contains("/app!/")), "{:?}", seen(root));
    run(root, None).await;
    let time = format!("repos/hub/app!/first-seen/sha256/{}/at", here.digest.hex());
    assert_eq!(seen(root), [time]);
}

#[tokio::test]
async fn the_time_of_a_deleted_manifest_stays_as_long_as_its_tombstone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (app, put) = (name("hub/app"), manifest());
    server.first_seen.note(&app, &put.digest, false, &Actor::default()).await.unwrap();
    server.manifests.put_cached(&app, &put, &Actor::default()).await.unwrap();
    server.manifests.delete(&app, &put.digest, &Actor::default()).await.unwrap();
    age(root, 181);
    let all = seen(root);
    assert_eq!(all.len(), 1);
    run(root, None).await;
    assert_eq!(seen(root), all);
    for key in keys(root).into_iter().filter(|key| key.contains("/manifests/")) {
        fs::remove_file(root.join(key)).unwrap();
    }
    run(root, None).await;
    assert!(seen(root).is_empty());
}

#[tokio::test]
async fn a_time_that_cannot_be_read_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let app = name("hub/app");
    let digest = sha256("image");
    see(&server, &app, &digest).await;
    for key in seen(root) {
        fs::write(root.join(key), "{").unwrap();
    }
    let (_, told) = scrub_with(root, &config(), |options| options.passes = [Pass::Links].into()).await.unwrap();
    let mut said: Vec<String> = told.findings().into_iter().map(|finding| finding.says).collect();
    said.sort();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("the record that tag hub/app:latest leads to sha256:"), "{said:?}");
    assert!(
        said[1].starts_with(&format!("the time at which {digest} of hub/app was first seen cannot be read")),
        "{said:?}"
    );
}
