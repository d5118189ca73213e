//! The history of tags, the times of pulls, and restores of deleted things.

use super::*;
use simple_registry::{
    records::{
        Actor, Pull, PullsSince, TagEntry,
        key::{Key, ManifestKey, Ordinal, Prefix, RepositoryKey, Suffix, TagVersion, Version},
    },
    registry::Restored,
};

async fn restore(server: &Registry, reference: &str) -> Result<Vec<Restored>, Error> {
    let came = server.restore(&name(), &reference.parse().unwrap(), &Actor::default()).await?;
    assert_eq!(came.lost, []);
    Ok(came.restored)
}

fn tag(tag: &str) -> Tag {
    tag.parse().unwrap()
}

#[tokio::test]
async fn a_deleted_image_comes_back_with_its_tag_its_blobs_and_its_place_among_referrers() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let subject = sha256(b"a subject");
    let more = format!(r#","subject":{{"mediaType":"{}","size":9,"digest":"{subject}"}}"#, MediaType::OCI_MANIFEST);
    let bytes = image(&config, 6, &more);
    let digest = put_tagged(&server, "v1", &bytes).await;
    assert!(restore(&server, "v1").await.unwrap().is_empty(), "what is there is not restored");
    server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    server.blobs.delete(&name(), &config, &Actor::default()).await.unwrap();
    assert!(server.blobs.get(&name(), &config).await.is_err());
    let restored = restore(&server, "v1").await.unwrap();
    assert_eq!(restored, [Restored::Tag(tag("v1"), digest), Restored::Manifest(digest)]);
    assert_eq!(by_tag(&world.server(Duration::ZERO), "v1").await, Some(digest));
    assert_eq!(server.blobs.get(&name(), &config).await.unwrap().size, 6);
    let referrers = server.referrers.list(&name(), &subject, None, &Page::default()).await.unwrap();
    assert_eq!(referrers.descriptors[0].digest, digest);
}

#[tokio::test]
async fn a_deleted_index_brings_its_children_back() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let child = image(&config, 6, "");
    let child_digest = put(&server, &child).await.unwrap();
    let parent = index(&child_digest, child.len());
    let parent_digest = put(&server, &parent).await.unwrap();
    for digest in [&parent_digest, &child_digest] {
        server.manifests.delete(&name(), digest, &Actor::default()).await.unwrap();
    }
    let restored = restore(&server, &parent_digest.to_string()).await.unwrap();
    assert_eq!(restored, [Restored::Manifest(child_digest), Restored::Manifest(parent_digest)]);
    let refused = server.manifests.delete(&name(), &child_digest, &Actor::default()).await;
    assert!(matches!(refused, Err(Error::Needed { .. })), "the index needs its child again: {refused:?}");
}

#[tokio::test]
async fn a_deleted_blob_comes_back() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let blob = push(&server, b"blob").await;
    server.blobs.delete(&name(), &blob, &Actor::default()).await.unwrap();
    assert_eq!(restore(&server, &blob.to_string()).await.unwrap(), [Restored::Blob(blob)]);
    assert_eq!(server.blobs.get(&name(), &blob).await.unwrap().size, 4);
    assert!(restore(&server, &blob.to_string()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_gone_for_good_is_named() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let digest = put_tagged(&server, "v1", &image(&config, 6, "")).await;
    server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    for key in world.keys("data/").await {
        world.operator().delete(&key).await.unwrap();
    }
    // a server that has not made sure of the bytes a moment ago
    let later = world.server(Duration::ZERO);
    let says = restore(&later, "v1").await.unwrap_err().to_string();
    assert!(says.contains(&config.to_string()) && says.contains("a/b"), "{says}");
    assert_eq!(by_tag(&later, "v1").await, None);
    for never in ["v9", &sha256(b"never").to_string()] {
        let error = restore(&server, never).await.unwrap_err();
        assert!(matches!(error, Error::GoneForGood { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_tags_history_is_what_is_there_and_what_was_gathered() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let mut pushed = Vec::new();
    for n in 0..5 {
        pushed.push(put_tagged(&server, "v1", &image(&config, 6, &format!(r#","annotations":{{"n":"{n}"}}"#))).await);
    }
    server
        .tags
        .delete(&name(), &tag("v1"), &Actor { identity: "ana".to_owned(), request: "r".to_owned() })
        .await
        .unwrap();
    let whole = server.tags.history(&name(), &tag("v1"), 100, None).await.unwrap();
    let meant: Vec<Option<Digest>> = whole.iter().map(|entry| entry.target.map(|target| target.0)).collect();
    let expected: Vec<_> = [None].into_iter().chain(pushed.iter().rev().copied().map(Some)).collect();
    assert_eq!(meant, expected);
    assert_eq!(whole[0].by.identity, "ana");
    // as a scrub gathers them, in two objects, the second of which was not merged yet, and one version not freed yet
    for (part, attempt) in [(&whole[2..4], Suffix(1)), (&whole[3..], Suffix(2))] {
        let key = RepositoryKey::History(tag("v1"), attempt).of(&name());
        world.operator().write(&key, serde_json::to_vec(part).unwrap()).await.unwrap();
    }
    let keys = world.keys(&Prefix::Tag(&name(), &tag("v1")).to_string()).await;
    for key in &keys[3..] {
        world.operator().delete(key).await.unwrap();
    }
    assert_eq!(server.tags.history(&name(), &tag("v1"), 100, None).await.unwrap(), whole);
    let mut paged: Vec<TagEntry> = Vec::new();
    loop {
        let last = paged.last().map(|entry| entry.ordinal);
        let page = server.tags.history(&name(), &tag("v1"), 2, last).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    assert_eq!(restore(&server, "v1").await.unwrap()[0], Restored::Tag(tag("v1"), pushed[4]));
    assert!(server.tags.history(&name(), &tag("never"), 100, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn pulls_are_written_once_for_a_repository_and_again_where_the_store_failed() {
    let world = World::new();
    let server = World::server_on(
        &Store::over(world.operator(), None, Metrics::new()).with_clock(simple_registry::registry::Clock::by_hand()),
        |_| {},
    );
    let digest = sha256(b"manifest");
    server.pulls.record().await.unwrap();
    let since: PullsSince =
        serde_json::from_slice(&world.operator().read(&Key::PullsSince.to_string()).await.unwrap().to_bytes()).unwrap();
    for _ in 0..3 {
        server.pulls.note(&name(), &Reference::Tag(tag("v1")), &digest);
    }
    server.pulls.note(&name(), &Reference::Digest(digest), &digest);
    // where the objects are to be, there is something that is no directory
    let file = world.directory.path().join("repos");
    std::fs::write(&file, "in the way").unwrap();
    server.pulls.record().await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    server.pulls.record().await.unwrap();
    server.pulls.record().await.unwrap();
    let keys = world.keys(&Prefix::Pulls(&name()).to_string()).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    let mut pulls: Vec<Pull> =
        serde_json::from_slice(&world.operator().read(&keys[0]).await.unwrap().to_bytes()).unwrap();
    pulls.sort_by_key(|pull| pull.tag.is_none());
    // by the store's clock, which the server knows since its first write
    let at = pulls[0].at;
    assert!(at > 0);
    assert_eq!(pulls, [Pull { tag: Some(tag("v1")), digest, at }, Pull { tag: None, digest, at }]);
    world.server(Duration::ZERO).pulls.record().await.unwrap();
    let again: PullsSince =
        serde_json::from_slice(&world.operator().read(&Key::PullsSince.to_string()).await.unwrap().to_bytes()).unwrap();
    assert_eq!(again, since, "the first server says since when");
}

#[tokio::test]
async fn bytes_that_one_server_found_rotten_are_not_served_by_another() {
    let world = World::new();
    let one = world.server_with(|options| options.verify_pulls = VerifyPulls::OneIn(1));
    let blob = push(&one, b"blob").await;
    let key = world.keys("data/").await.remove(0);
    world.operator().write(&key, "glob").await.unwrap();
    let found = one.blobs.get(&name(), &blob).await.unwrap();
    let read = one.blobs.read(&name(), &found, None).await.unwrap();
    read.try_collect::<Vec<Bytes>>().await.unwrap_err();
    let other = world.server(Duration::ZERO);
    assert!(other.blobs.get(&name(), &blob).await.is_err(), "no look at the bytes, and yet it is known");
    assert!(world.keys("data/").await.iter().any(|key| key.contains("!corrupt.")));
    assert_eq!(push(&one, b"blob").await, blob);
    let found = other.blobs.get(&name(), &blob).await.unwrap();
    let bytes: Vec<Bytes> = other.blobs.read(&name(), &found, None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"blob");
}

/// The image is restored after a scrub has seen that it is gone, and before the scrub removes its signature.
#[tokio::test]
async fn a_signature_that_a_scrub_is_about_to_let_go_stays_with_its_restored_image() {
    let world = World::new();
    let (server, operator, by) = (world.server(Duration::ZERO), world.operator(), Actor::default());
    let config = push(&server, b"config").await;
    let image_digest = put_tagged(&server, "v1", &image(&config, 6, "")).await;
    let subject =
        format!(r#","subject":{{"mediaType":"{}","size":1,"digest":"{image_digest}"}}"#, MediaType::OCI_MANIFEST);
    let signature = put(&server, &image(&config, 6, &subject)).await.unwrap();
    let named = tag(&format!("{}.sig", image_digest.to_string().replace(':', "-")));
    let by_name = put_tagged(&server, &named.to_string(), &image(&config, 6, r#","annotations":{"a":"b"}"#)).await;
    server.manifests.delete(&name(), &image_digest, &by).await.unwrap();
    let stamp = r#"{"at":1,"by":{"identity":"scrub","request":"run"}}"#;
    let mut ends = Vec::new();
    for digest in [&signature, &by_name] {
        let keys = world.keys(&Prefix::Manifest(&name(), digest).to_string()).await;
        let seen = keys.iter().filter_map(|key| Version::at_end_of(key)).max_by_key(|version| version.ordinal);
        let end = Ordinal(seen.unwrap().ordinal.0 + 1);
        operator.write(&ManifestKey::PendingDelete(end, Suffix(1)).of(&name(), digest), stamp).await.unwrap();
        ends.push(ManifestKey::Version(Version { ordinal: end, there: false }, Suffix(1)).of(&name(), digest));
    }
    let tags = world.keys(&Prefix::Tag(&name(), &named).to_string()).await;
    let seen = RepositoryKey::tag_version(&name(), &tags[0]).unwrap().1.ordinal;
    let tag_end = TagVersion { ordinal: Ordinal(seen.0 + 1), target: None };
    server.restore(&name(), &Reference::Tag(tag("v1")), &by).await.unwrap();
    // the scrub goes on
    ends.push(RepositoryKey::Tag(named.clone(), tag_end).of(&name()));
    for end in ends {
        operator.write(&end, stamp).await.unwrap();
    }
    let referrers = server.referrers.list(&name(), &image_digest, None, &Page::default()).await.unwrap();
    assert_eq!(referrers.descriptors.iter().map(|it| it.digest).collect::<Vec<_>>(), [signature]);
    server.manifests.get(&name(), &Reference::Digest(signature)).await.unwrap();
    assert_eq!(by_tag(&server, &named.to_string()).await, Some(by_name));
}
