//! Objects that a process deletes again itself: scrub frees them a lease after the process died.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scrub::world::{age, config, keys, name, push_image, scrub_with, server, sha256, store};
use simple_registry::{
    action::UploadId,
    oci::{Algorithm, Reference, Tag},
    records::{
        Actor,
        key::{BlobLink, CatalogKey, DataKey, Key, ManifestKey, Prefix, Suffix, UploadKey, Version},
    },
    registry::{Error, TagDelete},
    scrub::Pass,
};

#[tokio::test]
async fn when_a_process_dies_scrub_frees_what_it_would_have_deleted_a_lease_later() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, app) = (server(root).await, name("team/app"));
    let image = push_image(&server, &app, "one", &["v1"], None).await;
    let version = keys(root).iter().find_map(|key| Version::at_end_of(key)).unwrap();
    let before = keys(root);
    let (gone, scrub) = (UploadId::random(), Suffix::random());
    let blob = sha256("{\"config\":\"one\"}");
    let place = before.iter().find(|key| key.starts_with(&Prefix::Copies(&blob).to_string())).unwrap();
    let left = [
        Key::Clock(Suffix::random()).to_string(),
        Key::Probe(Suffix::random(), "a0".to_owned()).to_string(),
        Key::Probe(Suffix::random(), "B/x".to_owned()).to_string(),
        // marks on bytes that are gone, on those of a blob, and on a repository
        DataKey::Mark(scrub).of(&gone),
        DataKey::Mark(scrub).of(&Key::copy(place).map(|(_, id)| id).unwrap()),
        CatalogKey::Mark(scrub).of(&app),
        Key::Corrupt(1, blob, Suffix::random()).to_string(),
        ManifestKey::PendingDelete(version.ordinal, Suffix::random()).of(&app, &image),
        ManifestKey::PendingDelete(version.ordinal, Suffix::random()).of(&app, &sha256("never was")),
        UploadKey::Alive(Suffix::random()).of(&UploadId::random()),
    ];
    let store = store(root).await;
    for key in &left {
        store.put(key, Vec::new()).await.unwrap();
    }
    // a note about an object that is gone
    let note = Key::Quarantine(BlobLink::Link.of(&blob, &app, Suffix::random()), Suffix::random()).to_string();
    store.put(&note, "{}").await.unwrap();
    server.uploads.start(&app, Algorithm::Sha256, "", &Actor::default()).await.unwrap();
    let scrub = async || scrub_with(root, &config(), |_| {}).await.unwrap().0;
    let is_left = || left.iter().filter(|key| keys(root).contains(key)).cloned().collect::<Vec<_>>();
    scrub().await;
    assert_eq!(is_left(), left, "they are younger than a lease");
    for _ in 0..3 {
        age(root);
        scrub().await;
    }
    assert_eq!(is_left(), Vec::<String>::new());
    // a run itself wishes for a lease
    let kept = ["blobs/", "data/", &Prefix::Leases.to_string()];
    let stays = |key: &&String| before.contains(key) || kept.iter().any(|prefix| key.starts_with(prefix));
    assert_eq!(keys(root).iter().filter(|key| !stays(key)).collect::<Vec<_>>(), Vec::<&String>::new());
    // each of the passes that free anything frees these
    for pass in [Pass::Garbage, Pass::Uploads] {
        store.put(&left[0], Vec::new()).await.unwrap();
        age(root);
        scrub_with(root, &config(), |options| options.passes = [pass].into()).await.unwrap();
        assert_eq!(is_left(), Vec::<String>::new(), "{pass:?}");
    }
}

#[tokio::test]
async fn what_a_delete_left_that_its_second_look_refused_is_freed_a_lease_later() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, app, by) = (server(root).await, name("team/app"), Actor::default());
    let image = push_image(&server, &app, "one", &["v1"], None).await;
    let looks = AtomicUsize::new(0);
    let look = |_: &Tag| {
        let first = looks.fetch_add(1, Ordering::Relaxed) == 0;
        if first { TagDelete::Allowed } else { TagDelete::Denied }
    };
    let refused = server.manifests.delete_under(&app, &image, Some(&look), &by).await;
    assert!(matches!(refused, Err(Error::TagDenied { .. })), "{refused:?}");
    let begun = || keys(root).iter().filter(|key| key.contains("/pending-delete.")).count();
    assert_eq!(begun(), 1);
    let scrub = async || scrub_with(root, &config(), |options| options.passes = [Pass::Garbage].into()).await.unwrap();
    scrub().await;
    assert_eq!(begun(), 1, "it is younger than a lease");
    age(root);
    scrub().await;
    assert_eq!(begun(), 0);
    let pulled = server.manifests.get(&app, &Reference::Tag("v1".parse().unwrap())).await.unwrap();
    assert_eq!(pulled.digest, image);
    // and a delete that nobody refuses goes through
    server.manifests.delete(&app, &image, &by).await.unwrap();
    assert!(server.manifests.get(&app, &Reference::Digest(image)).await.is_err());
}
