//! Uploads that went silent, and bytes that no fact names.

use super::{ALL, World, by, name};
use crate::scrub::world::{chunk, server, sha256, store};
use simple_registry::{
    action::{Upload, UploadId},
    oci::Algorithm,
    records::key::{DataKey, Key, Prefix, Suffix, UploadKey},
    registry::Error,
    scrub::{Pass, Reason, What},
};

#[tokio::test]
async fn an_upload_that_went_silent_goes_and_one_that_is_alive_stays() {
    let world = World::new().await;
    let mut uploads = Vec::new();
    // one is kept in its session, the other is a segment
    let large = vec![b'x'; 70_000];
    for half in [&b"half of it"[..], &large] {
        let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
        let upload = Upload { id: begun.id, state: Some(begun.state) };
        world.server.uploads.append(&name(), &upload, chunk(half)).await.unwrap();
        uploads.push(upload);
    }
    world.age();
    let store = store(world.root()).await;
    store.put(&UploadKey::Alive(Suffix(0x0)).of(&uploads[1].id), Vec::new()).await.unwrap();
    let ran = world.scrub(&[Pass::Uploads]).await;
    assert_eq!(ran.removed(), [(What::Upload, Reason::Expired, 10)]);
    assert_eq!(ran.removals[0].reference, Some(uploads[0].id.to_string()));
    assert_eq!(ran.removals[0].repository, Some(name()));
    assert_eq!(world.containing(&uploads[0].id.to_string()), [""; 0]);
    assert_eq!(world.keys(&Prefix::Data(&uploads[1].id).to_string()).len(), 1);
}

#[tokio::test]
async fn bytes_of_an_upload_that_went_silent_count_wherever_they_are() {
    let world = World::new().await;
    let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let mut upload = Upload { id: begun.id, state: Some(begun.state) };
    let large = vec![b'x'; 70_000];
    for part in [&large[..], b"kept", b"kept too"] {
        upload.state = Some(world.server.uploads.append(&name(), &upload, chunk(part)).await.unwrap().state);
    }
    world.age();
    let ran = world.scrub(&[Pass::Uploads]).await;
    assert_eq!(ran.removed(), [(What::Upload, Reason::Expired, 70_012)]);
    assert_eq!(world.keys("uploads/"), [""; 0]);
    let late = server(world.root()).await.uploads.append(&name(), &upload, chunk(b"late")).await;
    assert!(matches!(late, Err(Error::UploadUnknown(_))), "{late:?}");
}

#[tokio::test]
async fn sessions_without_bytes_and_completed_ones_go() {
    let world = World::new().await;
    let silent = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    let digest = sha256(b"content");
    world.server.uploads.complete(&name(), &upload, &digest, chunk(b"content"), &by()).await.unwrap();
    world.image(&digest, 7).await;
    world.age();
    let ran = world.scrub(&[Pass::Uploads]).await;
    assert_eq!(ran.removed(), [(What::Upload, Reason::Expired, 0)]);
    assert_eq!(ran.removals[0].reference, Some(silent.id.to_string()));
    assert_eq!(world.keys("uploads/"), [""; 0]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn bytes_that_no_fact_names_go_also_beside_those_of_a_blob() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let id = Key::copy(&world.containing("/copy.")[0]).map(|(_, id)| id).unwrap();
    let store = store(world.root()).await;
    let lost = UploadId::random();
    store.put(&DataKey::Segment(0, Suffix(0x0123_4567_89ab_cdef)).of(&lost), "lost").await.unwrap();
    store.put(&DataKey::Segment(0, Suffix(0x0123_4567_89ab_cdef)).of(&id), "failed").await.unwrap();
    assert_eq!(world.scrub(ALL).await.removed(), []);
    assert_eq!(world.keys("data/").len(), 3);
    world.age();
    let ran = world.scrub(ALL).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Unreferenced, 4)]);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(ran.found(), []);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}
