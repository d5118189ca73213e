//! Tests the objects that scrub keeps although nothing seems to reference them.

use std::{fs, time::Duration};

use crate::scrub::shelf::{Shelf, config};
use serde_json::json;
use simple_registry::{
    config::{Config, Untagged},
    oci::{Name, Reference, Tag},
    records::{
        Actor,
        key::{Key, Prefix},
    },
    registry::{Error, Protection, PutManifest},
    scrub::Reason,
};

const DAY: Duration = Duration::from_hours(24);

fn app() -> Name {
    "team/app".parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Lets time pass for the store and for the servers.
pub(crate) fn pass(shelf: &Shelf, time: Duration) {
    shelf.clock.advance(time);
    shelf.age(time);
}

#[tokio::test]
async fn when_images_were_pulled_is_not_known_where_that_cannot_be_read() {
    let by_pulls = config("[repository.team.retention_policy]\nrules = ['image.last_pulled_at > now() - days(15)']\n");
    for damage in ["", "[{\"digest\":", "{}"] {
        let shelf = Shelf::new().await;
        shelf.store().await.put(&Key::PullsSince.to_string(), json!({ "at": 0 }).to_string()).await.unwrap();
        let used = shelf.image(&app(), "used", &["used"]).await;
        shelf.image(&app(), "idle", &["idle"]).await;
        pass(&shelf, DAY * 30);
        shelf.server.pulls.note(&app(), &Reference::Tag(tag("used")), &used);
        shelf.server.pulls.record().await.unwrap();
        let seen = shelf.keys(&Prefix::Pulls(&app()).to_string());
        let whole = fs::read(shelf.root().join(&seen[0])).unwrap();
        fs::write(shelf.root().join(&seen[0]), damage).unwrap();
        pass(&shelf, DAY);
        assert!(shelf.scrub(&by_pulls).await.is_empty(), "{damage:?}: nobody knows which of them is in use");
        assert_eq!(shelf.tags(&app()).await, ["idle", "used"], "{damage:?}");
        fs::write(shelf.root().join(&seen[0]), whole).unwrap();
        shelf.scrub(&by_pulls).await;
        assert_eq!(shelf.tags(&app()).await, ["used"], "{damage:?}: it can be read again");
    }
}

#[tokio::test]
async fn a_deleted_tag_comes_back_by_its_name_for_as_long_as_the_trash_keeps() {
    let shelf = Shelf::new().await;
    let mut config = config("");
    config.scrub.trash = DAY * 7;
    config.scrub.tag_history.age = DAY;
    shelf.image(&app(), "old", &["v1"]).await;
    pass(&shelf, DAY);
    let image = shelf.image(&app(), "image", &["v1"]).await;
    pass(&shelf, DAY * 30);
    shelf.scrub(&config).await;
    shelf.server.tags.delete(&app(), &tag("v1"), &Actor::default()).await.unwrap();
    for _ in 0..3 {
        pass(&shelf, DAY * 2);
        shelf.scrub(&config).await;
    }
    assert_eq!(shelf.tags(&app()).await, Vec::<String>::new());
    let reference = Reference::Tag(tag("v1"));
    let restored = shelf.server.restore(&app(), &reference, &Actor::default()).await.unwrap().restored;
    assert_eq!(restored.len(), 1, "{restored:?}");
    assert_eq!(shelf.gets(&app(), &reference).await, Some(image));
    // and when the trash is over, the tag goes without a trace; history has its age by the clock of servers
    config.scrub.tag_history.age = Duration::ZERO;
    shelf.server.tags.delete(&app(), &tag("v1"), &Actor::default()).await.unwrap();
    for _ in 0..4 {
        pass(&shelf, DAY * 8);
        shelf.scrub(&config).await;
    }
    assert_eq!(shelf.keys(&Prefix::Tags(&app()).to_string()), Vec::<String>::new());
    assert_eq!(shelf.keys(&Prefix::AllHistory(&app()).to_string()), Vec::<String>::new());
}

fn untagged_go(after: Duration) -> Config {
    let mut config = config("");
    config.scrub.untagged = Untagged::Delete;
    config.scrub.untagged_grace = after;
    config
}

#[tokio::test]
async fn an_image_has_its_grace_from_when_its_last_tag_moved_on() {
    let shelf = Shelf::new().await;
    let week = untagged_go(DAY * 7);
    let moved = shelf.image(&app(), "moved", &["latest"]).await;
    let deleted = shelf.image(&app(), "deleted", &["deleted", "other"]).await;
    let never = shelf.image(&app(), "never", &[]).await;
    pass(&shelf, DAY);
    shelf.scrub(&week).await;
    pass(&shelf, DAY * 30);
    shelf.image(&app(), "new", &["latest", "other"]).await;
    shelf.server.tags.delete(&app(), &tag("deleted"), &Actor::default()).await.unwrap();
    // before its versions become history, and after
    for day in 0..6 {
        pass(&shelf, DAY);
        let removed = shelf.scrub(&week).await;
        assert!(removed.iter().all(|it| it.digest == Some(never)), "day {day}: {removed:?}");
    }
    assert!(shelf.has(&app(), &moved).await && shelf.has(&app(), &deleted).await && !shelf.has(&app(), &never).await);
    pass(&shelf, DAY * 2);
    let removed = shelf.scrub(&week).await;
    assert_eq!(removed.iter().filter(|it| it.reason == Reason::Untagged).count(), 2, "{removed:?}");
    assert!(!shelf.has(&app(), &moved).await && !shelf.has(&app(), &deleted).await);
}

#[tokio::test]
async fn a_damaged_manifest_that_is_to_go_is_no_end_of_a_run() {
    for damage in ["bytes", "head"] {
        let shelf = Shelf::new().await;
        let child = shelf.image(&app(), "child", &[]).await;
        let index = shelf.index(&app(), &[child], &["index"]).await;
        let signature = shelf.referrer(&app(), "signature", Some(&index), &[]).await;
        shelf.image(&app(), "other", &["other"]).await;
        for digest in [&child, &signature] {
            for key in
                shelf.keys(&Prefix::Manifest(&app(), digest).to_string()).iter().filter(|key| key.contains(".put."))
            {
                let path = shelf.root().join(key);
                let mut bytes = fs::read(&path).unwrap();
                let at = if damage == "head" { 0 } else { bytes.len() - 1 };
                bytes[at] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        }
        // servers that have not read them before
        let server = shelf.another_server().await;
        server.manifests.delete(&app(), &index, &Actor::default()).await.unwrap();
        pass(&shelf, DAY * 2);
        let removed = shelf.scrub(&untagged_go(DAY)).await;
        assert!(removed.iter().any(|it| it.digest == Some(child)), "{damage}: {removed:?}");
        let gone = |digest| removed.iter().any(|it| it.digest == Some(digest));
        assert!(gone(signature) || damage == "head", "what it refers to cannot be read: {removed:?}");
        assert_eq!(shelf.tags(&app()).await, ["other"]);
    }
}

#[tokio::test]
async fn what_is_damaged_can_be_deleted() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1", "v2"]).await;
    let child = shelf.image(&app(), "child", &[]).await;
    let index = shelf.index(&app(), &[child], &["index"]).await;
    let lost = shelf.image(&app(), "lost", &["lost"]).await;
    for key in [&image, &index].into_iter().flat_map(|digest| shelf.keys(&Prefix::Manifest(&app(), digest).to_string()))
    {
        fs::write(shelf.root().join(key), "{").unwrap();
    }
    for key in shelf.keys(&Prefix::Manifest(&app(), &lost).to_string()) {
        fs::remove_file(shelf.root().join(key)).unwrap();
    }
    let server = shelf.another_server().await;
    let by = Actor::default();
    for of in ["v1", "lost"] {
        server.tags.delete(&app(), &tag(of), &by).await.unwrap();
        assert!(server.tags.delete(&app(), &tag(of), &by).await.is_err(), "{of}: once");
    }
    assert_eq!(shelf.tags(&app()).await, ["index", "v2"]);
    let needed = server.manifests.delete(&app(), &child, &by).await.unwrap_err().to_string();
    assert!(needed.contains(&index.to_string()), "a damaged index needs it all the same: {needed}");
    for digest in [&image, &index, &child] {
        server.manifests.delete(&app(), digest, &by).await.unwrap();
        assert!(server.manifests.delete(&app(), digest, &by).await.is_err(), "{digest}: once");
    }
    assert_eq!(shelf.tags(&app()).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_immutable_tag_whose_image_is_damaged_can_be_pushed_again_and_be_deleted() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["first"]).await;
    let other = shelf.image(&app(), "other", &["second"]).await;
    let bytes =
        async |digest| shelf.server.manifests.get(&app(), &Reference::Digest(digest)).await.unwrap().bytes.clone();
    let (same, another) = (bytes(image).await, bytes(other).await);
    let by = Actor::default();
    let push = async |bytes| {
        let put = PutManifest { reference: Reference::Tag(tag("v1")), tags: vec![], media_type: None, bytes };
        shelf.another_server().await.manifests.put_under(&app(), &put, &|_| true, &by).await
    };
    push(same.clone()).await.unwrap();
    for key in shelf.keys(&Prefix::Manifest(&app(), &image).to_string()) {
        fs::write(shelf.root().join(key), "{").unwrap();
    }
    let server = shelf.another_server().await;
    let damaged = server.restore(&app(), &Reference::Tag(tag("v1")), &by).await.unwrap_err();
    assert!(damaged.is_damage(), "not as if it were there: {damaged}");
    let refused = push(another.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::TagImmutable { digest, .. } if digest == image), "{refused}");
    push(same).await.unwrap();
    assert!(shelf.has(&app(), &image).await);
    for key in shelf.keys(&Prefix::Manifest(&app(), &image).to_string()) {
        fs::remove_file(shelf.root().join(key)).unwrap();
    }
    let server = shelf.another_server().await;
    server.tags.delete_under(&app(), &tag("v1"), Protection::Immutable, &by).await.unwrap();
    assert_eq!(shelf.tags(&app()).await, ["first", "second"]);
    push(another).await.unwrap();
}

#[tokio::test]
async fn what_a_damaged_fact_names_can_be_pushed_again() {
    let shelf = Shelf::new().await;
    shelf.image(&app(), "image", &["v1"]).await;
    let config = crate::scrub::shelf::sha256("{\"config\":\"image\"}");
    for key in shelf.keys(&Prefix::Copies(&config).to_string()) {
        fs::write(shelf.root().join(key), "{").unwrap();
    }
    let server = shelf.another_server().await;
    let lost = server.blobs.get(&app(), &config).await.unwrap_err();
    assert!(matches!(&lost, Error::Storage(_)), "not as if it never was: {lost}");
    let absent = server.blobs.get_to_rely_on(&app(), &config, &Actor::default()).await.unwrap_err();
    assert!(matches!(absent, Error::BlobUnknown { .. }), "who pushes is to upload it: {absent}");
    shelf.image(&app(), "image", &["v1"]).await;
    assert_eq!(shelf.another_server().await.blobs.get(&app(), &config).await.unwrap().size, 18);
    pass(&shelf, DAY);
    shelf.scrub(&crate::scrub::shelf::config("")).await;
    assert_eq!(shelf.keys(&Prefix::Copies(&config).to_string()).len(), 1, "the whole one took its place");
}
