//! Tests that scrub frees unneeded bytes, and keeps needed ones.

use std::{fs, path::Path, time::Duration, time::SystemTime};

use super::{ALL, GARBAGE, World, by, name};
use crate::scrub::world::{chunk, sha256, store};
use simple_registry::{
    action::Upload,
    oci::{Algorithm, Digest},
    records::key::{BlobKey, BlobLink, Key, Suffix},
    scrub::{Reason, What},
};

fn directories(at: &Path) -> usize {
    let below = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    below.map(|path| 1 + directories(&path)).sum()
}

/// Lets the directories below be three days old.
fn old(at: &Path) {
    for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        old(&path);
        fs::File::open(&path).unwrap().set_modified(SystemTime::now() - Duration::from_hours(72)).unwrap();
    }
}

#[tokio::test]
async fn a_blob_that_nothing_needs_goes_once_it_is_old() {
    let world = World::new().await;
    let needed = world.pushed(b"needed").await;
    world.push(b"not needed").await;
    assert_eq!(world.scrub(GARBAGE).await.removed(), [], "all of it is young");
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Unreferenced, 10)]);
    assert_eq!(ran.removals[0].digest, Some(sha256(b"not needed")));
    assert!(ran.summary.freed > 10 && ran.findings.is_empty());
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.keys("blobs/").len(), 2, "a place and a pin");
    assert_eq!(world.read(&needed).await.unwrap(), b"needed");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    let world = World::new().await;
    world.pushed(b"needed").await;
    world.push(b"not needed").await;
    let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    world.server.uploads.append(&name(), &Upload { id: begun.id, state: None }, chunk(b"half")).await.unwrap();
    world.age();
    let before = world.keys("");
    let dry = world.scrub_with(ALL, |options| options.dry_run = true).await;
    assert_eq!(world.keys(""), before);
    let wet = world.scrub(ALL).await;
    assert_eq!(dry.removed(), wet.removed());
    assert_eq!(dry.removals.len(), 2);
    assert_eq!(dry.summary.freed, wet.summary.freed);
}

#[tokio::test]
async fn bytes_that_a_user_deleted_go_in_their_name() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    world.server.blobs.delete(&name(), &digest, &by()).await.unwrap();
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Deleted, 7)]);
    assert_eq!(ran.removals[0].deleted.as_ref().unwrap().by.identity, "ann");
}

#[tokio::test]
async fn of_many_pins_of_a_manifest_one_stays() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.image(&digest, 7).await;
    world.age();
    world.image(&digest, 7).await;
    assert_eq!(world.containing("/pin.").len(), 3);
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/pin.").len(), 2, "the newest old one and the young one");
    world.age();
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/pin.").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_pin_without_a_manifest_holds_for_a_lease() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    world.age();
    let store = store(world.root()).await;
    let pin = BlobLink::Pin(sha256(b"a manifest that never came")).of(&digest, &name(), Suffix(0x0));
    store.put(&pin, "{}").await.unwrap();
    assert_eq!(world.scrub(GARBAGE).await.removed(), []);
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.removed(), [(What::Blob, Reason::Unreferenced, 7)]);
    assert_eq!(world.keys("blobs/"), [""; 0]);
}

#[tokio::test]
async fn bytes_that_two_digests_name_stay_while_one_is_needed() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let place = &world.containing("/copy.")[0];
    let id = Key::copy(place).map(|(_, id)| id).unwrap();
    let other = Digest::of(Algorithm::Sha512, b"content");
    let store = store(world.root()).await;
    store.put(&BlobKey::Copy(id.clone()).of(&other), fs::read(world.root().join(place)).unwrap()).await.unwrap();
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.removed(), []);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    for key in world.containing("/in/") {
        fs::remove_file(world.root().join(key)).unwrap();
    }
    assert_eq!(world.scrub(GARBAGE).await.removed(), [(What::Blob, Reason::Unreferenced, 7)]);
    assert_eq!(world.keys("data/"), [""; 0]);
    assert_eq!(world.keys("blobs/"), [""; 0]);
}

#[tokio::test]
async fn directories_that_are_empty_go_and_what_was_left_behind() {
    let world = World::new().await;
    world.push(b"content").await;
    let left = world.root().join(".tmp/0123456789abcdef-0");
    fs::write(&left, b"left behind").unwrap();
    world.age();
    fs::File::open(&left).unwrap().set_modified(SystemTime::now() - Duration::from_hours(72)).unwrap();
    world.scrub(GARBAGE).await;
    assert!(!left.exists());
    assert!(directories(world.root()) > 2, "directories that became empty just now stay");
    old(world.root());
    let ran = world.scrub(GARBAGE).await;
    assert!(ran.summary.removed[&What::Housekeeping][&Reason::Empty].number > 5);
    assert_eq!(directories(world.root()), 4, ".tmp, and those of the clock and of wishes, which were just written to");
    world.pushed(b"content").await;
}
