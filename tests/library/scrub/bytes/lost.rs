//! Tests scrub on lost bytes, lost records and foreign objects.

use std::fs;

use simple_registry::{
    action::Upload,
    oci::Algorithm,
    scrub::{Finding, Outcome, Pass, Reason, What},
};

use super::{ALL, Ran, World, by, name};
use crate::scrub::world::{chunk, sha256};

#[tokio::test]
async fn bytes_that_are_gone_are_noted_until_they_are_pushed_again() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.age();
    fs::remove_file(world.root().join(&world.keys("data/")[0])).unwrap();
    let passes = [Pass::Garbage, Pass::Uploads, Pass::Links];
    let ran = world.scrub(&passes).await;
    let of_bytes = |ran: &Ran| -> Vec<Finding> {
        ran.findings.iter().filter(|finding| finding.key.starts_with("blobs/")).cloned().collect()
    };
    assert_eq!(of_bytes(&ran).len(), 1);
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Quarantined);
    let says = &of_bytes(&ran)[0].says;
    assert!(says.contains(&digest.to_string()) && says.contains("a/b") && says.contains("push it again"), "{says}");
    assert!(!ran.summary.is_clean());
    let ran = world.scrub(&passes).await;
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Known);
    assert_eq!(world.keys("quarantine/blobs/").len(), 1);
    world.push(b"content").await;
    world.age();
    let ran = world.scrub(&passes).await;
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Repaired);
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 0)]);
    assert_eq!(world.keys("quarantine/"), [""; 0]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_fact_that_is_lost_is_written_again_from_the_bytes() {
    for damage in ["removed", "emptied"] {
        let world = World::new().await;
        let begun = world.server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
        let mut upload = Upload { id: begun.id, state: Some(begun.state) };
        let whole = vec![b'x'; 140_000];
        for part in whole.chunks(70_000) {
            let status = world.server.uploads.append(&name(), &upload, chunk(part)).await.unwrap();
            upload.state = Some(status.state);
        }
        let digest = sha256(&whole);
        world.server.uploads.complete(&name(), &upload, &digest, chunk(b""), &by()).await.unwrap();
        world.image(&digest, 140_000).await;
        let place = world.root().join(&world.containing("/copy.")[0]);
        match damage {
            "removed" => fs::remove_file(&place).unwrap(),
            _ => fs::write(&place, b"").unwrap(),
        }
        world.age();
        let ran = world.scrub(&[Pass::Garbage, Pass::Uploads, Pass::Links]).await;
        assert!(ran.found().contains(&Outcome::Repaired), "{damage}: {:?}", ran.findings);
        assert_eq!(ran.removed(), [], "{damage}");
        assert!(world.read(&digest).await.unwrap() == whole, "{damage}");
        assert_eq!(world.scrub(ALL).await.found(), [], "{damage}");
    }
}

#[tokio::test]
async fn what_is_no_key_of_the_layout_is_told_once_and_stays() {
    let world = World::new().await;
    let strange = ["blobs/what", "data/what/is/this", "uploads/what/0"];
    for key in strange {
        let path = world.root().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"what").unwrap();
    }
    world.age();
    let ran = world.scrub(&[Pass::Garbage, Pass::Links]).await;
    assert_eq!(ran.found(), [Outcome::Quarantined; 3]);
    let ran = world.scrub(&[Pass::Garbage, Pass::Links]).await;
    assert_eq!(ran.found(), [Outcome::Known; 3]);
    assert!(strange.iter().all(|key| world.root().join(key).exists()));
}
