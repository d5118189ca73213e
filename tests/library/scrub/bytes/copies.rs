//! Tests that one of several copies of a digest stays.

use std::fs;

use super::{ALL, GARBAGE, World};
use crate::scrub::world::store;
use simple_registry::{
    records::key::{DataKey, Key, Prefix, Suffix},
    scrub::{Outcome, Reason, What},
};

#[tokio::test]
async fn of_two_copies_the_smaller_id_stays() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let places = world.containing("/copy.");
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(world.containing("/copy."), places[..1]);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(ALL).await.removed(), []);
}

#[tokio::test]
async fn a_rotten_copy_does_not_stay_for_its_smaller_id() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let id = Key::copy(&world.containing("/copy.")[0]).map(|(_, id)| id).unwrap();
    let bytes = &world.keys(&Prefix::Data(&id).to_string())[0];
    fs::write(world.root().join(bytes), b"cOntent").unwrap();
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), []);
    assert_eq!(ran.found(), [Outcome::Repaired]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    world.age();
    let ran = world.scrub(ALL).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(ran.found(), []);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn the_mark_of_a_scrub_that_died_is_mended_and_its_bytes_go() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let id = Key::copy(&world.containing("/copy.")[0]).map(|(_, id)| id).unwrap();
    let store = store(world.root()).await;
    store.put(&DataKey::Mark(Suffix(0x0123_4567_89ab_cdef)).of(&id), Vec::new()).await.unwrap();
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/copy.").len(), 1, "the mark is young, and its scrub may be at work");
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.found(), [Outcome::Repaired]);
    assert_eq!(world.containing("/copy.").len(), 2);
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(world.keys("data/").len(), 1, "the marked bytes are gone, and the mark");
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(ALL).await.found(), []);
}
