//! Tests scrub on bytes that no longer match their digest.

use std::{fs, time::Duration};

use super::{ALL, World, by, name};
use crate::scrub::world::{chunk, server, sha256};
use simple_registry::{
    action::Upload,
    oci::{Algorithm, Reference},
    records::key::{Key, Prefix},
    scrub::{Outcome, Pass},
};

#[tokio::test]
async fn rot_is_found_noted_and_never_served() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let bytes = world.root().join(&world.keys("data/")[0]);
    fs::write(&bytes, b"cOntent").unwrap();
    world.age();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!(ran.found(), [Outcome::Quarantined]);
    let says = &ran.findings[0].says;
    assert!(says.contains(&digest.to_string()) && says.contains("a/b") && says.contains("push it again"), "{says}");
    assert!(world.read(&digest).await.is_err());
    assert_eq!(world.scrub(ALL).await.found().into_iter().filter(|found| *found != Outcome::Known).count(), 0);
    // a controller failed, and the bytes on the disk were right
    fs::write(&bytes, b"content").unwrap();
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Repaired]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_rotten_copy_is_not_read_where_there_is_another() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let id = Key::copy(&world.containing("/copy.")[0]).map(|(_, id)| id).unwrap();
    fs::write(world.root().join(&world.keys(&Prefix::Data(&id).to_string())[0]), b"cOntent").unwrap();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!(ran.found(), [Outcome::Repaired]);
    assert_eq!(ran.summary.verified.number, 3, "both, and the manifest");
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), []);
}

#[tokio::test]
async fn a_check_without_time_goes_on_the_next_time() {
    let world = World::new().await;
    let mut rotten = 0;
    for number in 0..5_u8 {
        world.pushed(&[number]).await;
    }
    for key in world.keys("data/") {
        fs::write(world.root().join(&key), b"x").unwrap();
    }
    let mut runs = 0;
    loop {
        let ran = world.scrub_with(&[Pass::Content], |options| options.max_duration = Some(Duration::ZERO)).await;
        rotten += ran.found().iter().filter(|found| **found == Outcome::Quarantined).count();
        assert!(ran.summary.content_left);
        assert_eq!(world.keys("scrub/content/").len(), 1, "one cursor");
        runs += 1;
        if rotten == 5 {
            break;
        }
        assert!(runs < 20, "it does not come around");
    }
    let ran = world.scrub(&[Pass::Content]).await;
    assert!(!ran.summary.content_left);
    assert_eq!(world.keys("scrub/"), [""; 0]);
}

#[tokio::test]
async fn a_large_blob_of_several_segments_is_hashed_as_a_whole() {
    let world = World::new().await;
    let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let mut upload = Upload { id: begun.id, state: Some(begun.state) };
    let part = vec![7_u8; 300_000];
    for _ in 0..4 {
        let status = world.server.uploads.append(&name(), &upload, chunk(&part)).await.unwrap();
        upload.state = Some(status.state);
    }
    let digest = sha256(part.repeat(4));
    world.server.uploads.complete(&name(), &upload, &digest, chunk(b""), &by()).await.unwrap();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!((ran.findings.len(), ran.summary.verified.bytes), (0, 1_200_000));
    let last = world.root().join(world.keys("data/").last().unwrap());
    let mut bytes = fs::read(&last).unwrap();
    bytes[299_999] ^= 1;
    fs::write(&last, bytes).unwrap();
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Quarantined]);
}

#[tokio::test]
async fn a_rotten_manifest_is_written_again_from_another_version() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    let manifest = world.image(&digest, 7).await;
    let flip = |key: &str| {
        let path = world.root().join(key);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    world.image(&digest, 7).await;
    let versions = world.containing(".put.");
    flip(&versions[0]);
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Repaired]);
    let server = server(world.root()).await;
    server.manifests.get(&name(), &Reference::Digest(manifest)).await.unwrap();
    for key in &versions {
        flip(key);
    }
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Quarantined]);
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Known]);
}
