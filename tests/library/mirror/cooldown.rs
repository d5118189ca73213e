//! Caches that hold new manifests back. A clock that the tests move tells the time.

use std::{fs, time::Duration};

use simple_registry::{mirror::Served, oci::Reference, upstream::Kind};

use super::{
    Error, Server, answer, by,
    manifests::{INDEX, index},
    name,
    world::{COOLDOWN, Exempt, HOUR, REST, World, about, forget, silent, text},
};
use crate::support::sha256;

#[tokio::test]
async fn a_tag_means_its_old_manifest_until_the_new_one_is_old_enough() {
    let world = World::new().await;
    let server = &world.server;
    let [a, b, c] = [1, 2, 3].map(|number| index(number, &[]));
    world.has_old("latest", &a).await;
    world.hub.has("latest", &b);
    assert_eq!(server.pulled("latest").await, (sha256(&a), Served::Hit));
    world.clock.advance(REST);
    world.hub.has("latest", &c);
    assert_eq!(server.pulled("latest").await, (sha256(&a), Served::Hit));
    // the second one has its time, and is the meaning no more
    world.clock.advance(2 * HOUR);
    assert_eq!(server.pulled("latest").await, (sha256(&a), Served::Hit));
    world.clock.advance(Duration::from_millis(70 * 3_600_000 - 1));
    assert_eq!(server.pulled("latest").await, (sha256(&a), Served::Hit));
    assert_eq!(server.stored("latest").await, Some(sha256(&a)));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(server.pulled("latest").await, (sha256(&c), Served::Miss));
    assert_eq!(server.stored("latest").await, Some(sha256(&c)));
    // nothing of what waited was fetched before
    let fetched: Vec<String> = world.upstream.lines().into_iter().filter(|line| line.starts_with("GET")).collect();
    let of = |manifest: &[u8]| format!("GET /v2/hub/app/manifests/{}", sha256(manifest));
    assert_eq!(fetched, [of(&a), of(&c)]);
}

#[tokio::test]
async fn a_tag_without_an_old_manifest_is_refused_with_the_date() {
    let world = World::new().await;
    let first = index(1, &[]);
    world.hub.has("latest", &first);
    let server = &world.server;
    assert_eq!(server.held("latest").await, (sha256(&first), COOLDOWN));
    world.clock.advance(HOUR);
    assert_eq!(server.held("latest").await, (sha256(&first), REST));
    let error = server.asked("latest", &|_, _| false, false).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "tag `latest` of hub/app is held back until 2027-01-18T08:00:00Z: {} was first seen here at \
             2027-01-15T08:00:00Z, and `cooldown` is 72h",
            sha256(&first)
        )
    );
    assert!(server.is_empty().await && server.stored(&text(&first)).await.is_none());
    assert!(world.upstream.lines().iter().all(|line| line.starts_with("HEAD")), "{:?}", world.upstream.lines());
    world.clock.advance(REST);
    assert_eq!(server.pulled("latest").await, (sha256(&first), Served::Miss));
}

#[tokio::test]
async fn a_young_digest_is_refused_with_the_date() {
    let world = World::new().await;
    let first = index(1, &[]);
    world.hub.has("latest", &first);
    let digest = text(&first);
    assert_eq!(world.server.held(&digest).await, (sha256(&first), COOLDOWN));
    let error = world.server.asked(&digest, &|_, _| false, false).await.unwrap_err().to_string();
    assert!(error.starts_with("a manifest of hub/app is held back until 2027-01-18T08:00:00Z: sha256:"), "{error}");
    // it is kept, and no tag means it
    assert!(world.server.stored(&digest).await.is_some() && world.server.stored("latest").await.is_none());
    world.clock.advance(COOLDOWN);
    assert_eq!(world.server.pulled(&digest).await, (sha256(&first), Served::Hit));
    assert_eq!(world.upstream.lines().len(), 1);
    assert_eq!(world.server.refusal(&text(b"nothing")).await, Kind::NotFound);
}

#[tokio::test]
async fn a_child_of_an_index_that_may_leave_may_leave() {
    let world = World::new().await;
    let server = &world.server;
    let leaf = index(1, &[]);
    let inner = index(2, &[&leaf]);
    let outer = index(3, &[&inner]);
    for (tag, manifest) in [("leaf", &leaf), ("inner", &inner)] {
        world.hub.has(tag, manifest);
    }
    world.has_old("latest", &outer).await;
    assert_eq!(server.pulled(&text(&inner)).await, (sha256(&inner), Served::Miss));
    assert_eq!(server.pulled(&text(&leaf)).await, (sha256(&leaf), Served::Miss));
    // no tag is exempt: the same manifest by a tag is young
    assert_eq!(server.held("leaf").await, (sha256(&leaf), COOLDOWN));
    // a child of a young index is young, and old as soon as an old index has it
    let child = index(4, &[]);
    let young = index(5, &[&child]);
    world.hub.has("child", &child);
    world.hub.has("young", &young);
    assert_eq!(server.held(&text(&young)).await.1, COOLDOWN);
    assert_eq!(server.held(&text(&child)).await.1, COOLDOWN);
    world.clock.advance(HOUR);
    assert_eq!(server.held(&text(&child)).await.1, REST);
}

#[tokio::test]
async fn signatures_of_a_manifest_that_may_leave_may_leave() {
    let world = World::new().await;
    let server = &world.server;
    let image = index(1, &[]);
    world.has_old("latest", &image).await;
    let signature = about(&image);
    world.hub.has("signed", &signature);
    let schema = format!("sha256-{}", sha256(&image).hex());
    assert_eq!(server.pulled(&text(&signature)).await, (sha256(&signature), Served::Miss));
    // reached by another tag it is not exempt
    for tag in ["signed".to_owned(), format!("{schema}.img"), format!("{schema}-sig")] {
        world.hub.has(&tag, &signature);
        assert_eq!(server.held(&tag).await.0, sha256(&signature), "{tag}");
    }
    for (number, end) in ["", ".sig", ".att", ".sbom"].into_iter().enumerate() {
        let manifest = index(100 + u32::try_from(number).unwrap(), &[]);
        let tag = format!("{schema}{end}");
        world.hub.has(&tag, &manifest);
        assert_eq!(server.pulled(&tag).await, (sha256(&manifest), Served::Miss), "{tag}");
        assert_eq!(server.pulled(&tag).await, (sha256(&manifest), Served::Hit), "{tag}");
        // many clients find the digest by the tag, and ask for the digest
        assert_eq!(world.other().pulled(&text(&manifest)).await, (sha256(&manifest), Served::Hit), "{tag}");
    }
    // those of a manifest that is held back are held back
    let young = index(2, &[]);
    world.hub.has("young", &young);
    world.hub.has("of-young", &about(&young));
    let tag = format!("sha256-{}.sig", sha256(&young).hex());
    world.hub.has(&tag, &index(3, &[]));
    for reference in ["young", &text(&about(&young)), &tag] {
        server.held(reference).await;
    }
}

#[tokio::test]
async fn where_only_the_bytes_tell_the_digest_the_same_holds() {
    let world = World::new().await;
    let (first, second) = (index(1, &[]), index(2, &[]));
    world.hub.on("latest", silent(first.clone()));
    let server = &world.server;
    assert_eq!(server.held("latest").await, (sha256(&first), COOLDOWN));
    assert!(server.is_empty().await);
    world.clock.advance(COOLDOWN);
    assert_eq!(server.pulled("latest").await, (sha256(&first), Served::Miss));
    world.hub.on("latest", silent(second.clone()));
    assert_eq!(server.pulled("latest").await, (sha256(&first), Served::Hit));
    assert_eq!(server.stored("latest").await, Some(sha256(&first)));
    world.clock.advance(COOLDOWN);
    assert_eq!(server.pulled("latest").await, (sha256(&second), Served::Miss));
}

#[tokio::test]
async fn without_upstreams_the_cache_answers_what_may_leave() {
    let mut world = World::new().await;
    let (old, young) = (index(1, &[]), index(2, &[]));
    world.has_old("old", &old).await;
    // pulled while there was no cooldown
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    world.hub.has("young", &young);
    assert_eq!(world.server.pulled("young").await, (sha256(&young), Served::Miss));
    world.set(|namespace| namespace.cooldown = COOLDOWN);
    world.hub.on_all(|_| answer(503, &[], b""));
    assert_eq!(world.server.pulled("old").await, (sha256(&old), Served::Stale));
    assert_eq!(world.server.held("young").await, (sha256(&young), COOLDOWN));
    world.clock.advance(COOLDOWN);
    assert_eq!(world.server.pulled("young").await, (sha256(&young), Served::Stale));
}

#[tokio::test]
async fn immutable_tags_and_trusted_ones_are_held_back_too() {
    let mut world = World::new().await;
    let (first, second) = (index(1, &[]), index(2, &[]));
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    world.hub.has("v1", &first);
    assert_eq!(world.server.pulled("v1").await, (sha256(&first), Served::Miss));
    world.set(|namespace| (namespace.cooldown, namespace.manifest_ttl) = (COOLDOWN, 10 * COOLDOWN));
    let before = world.upstream.lines().len();
    for immutable in [true, false] {
        let error = world.server.asked("v1", &|_, _| false, immutable).await.unwrap_err();
        assert!(matches!(error, Error::Held(_)), "{error:?}");
    }
    world.clock.advance(COOLDOWN);
    for immutable in [true, false] {
        let pulled = world.server.asked("v1", &|_, _| false, immutable).await.unwrap();
        assert_eq!(pulled, (sha256(&first), Served::Hit));
    }
    assert_eq!(world.upstream.lines().len(), before, "the tag was trusted");
    // the upstream is asked once about the tag, and again when what waits has its time
    world.hub.has("v1", &second);
    world.clock.advance(10 * COOLDOWN);
    for _ in 0..3 {
        assert_eq!(world.server.pulled("v1").await, (sha256(&first), Served::Hit));
    }
    assert_eq!(world.upstream.lines().len(), before + 1);
    world.clock.advance(COOLDOWN);
    assert_eq!(world.server.pulled("v1").await, (sha256(&second), Served::Miss));
    // one that is not here at all is asked for once as well
    world.hub.has("v2", &index(3, &[]));
    let before = world.upstream.lines().len();
    for _ in 0..3 {
        world.server.held("v2").await;
    }
    assert_eq!(world.upstream.lines().len(), before + 1);
}

#[tokio::test]
async fn the_first_time_counts_for_all_servers_and_for_ever() {
    let mut world = World::new().await;
    let first = index(1, &[]);
    let digest = sha256(&first);
    assert_eq!(world.server.seen(&digest).await, None);
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    world.hub.has("latest", &first);
    let (began, other) = (world.clock.time_ms(), world.other());
    assert_eq!(world.server.pulled("latest").await, (digest, Served::Miss));
    world.clock.advance(HOUR);
    assert_eq!(other.seen(&digest).await, Some(began), "it is recorded without a cooldown");
    assert_eq!(other.held("latest").await, (digest, REST));
    // it is deleted, and comes again
    other.registry.manifests.delete(&name(), &digest, &by()).await.unwrap();
    world.server.registry.manifests.get(&name(), &Reference::Digest(digest)).await.unwrap_err();
    assert_eq!(world.server.pulled("latest").await, (digest, Served::Miss));
    assert_eq!(world.other().held("latest").await, (digest, REST));
    // two servers that see it at once
    let second = index(2, &[]);
    world.hub.has("latest", &second);
    let (one, two) = (world.other(), world.other());
    let (here, there) = tokio::join!(one.held("latest"), two.held("latest"));
    assert_eq!(here, there);
    assert_eq!(one.seen(&sha256(&second)).await, two.seen(&sha256(&second)).await);
}

#[tokio::test]
async fn a_manifest_that_was_here_before_is_as_old_as_its_oldest_version() {
    let world = World::new().await;
    let first = index(1, &[]);
    let digest = world.has_old("latest", &first).await;
    let cached = world.clock.time_ms();
    world.clock.advance(HOUR);
    // a new version, as an index that lists it makes one
    let put = simple_registry::registry::CachedManifest {
        digest,
        media_type: INDEX.parse().unwrap(),
        bytes: first.clone().into(),
        tag: None,
    };
    world.server.registry.manifests.put_cached(&name(), &put, &by()).await.unwrap();
    forget(&world);
    let server = world.other();
    assert_eq!(server.held("latest").await, (digest, REST));
    assert_eq!(world.other().seen(&digest).await, Some(cached), "the time was not recorded");
}

#[tokio::test]
async fn a_store_that_takes_no_record_lets_nothing_pass() {
    let mut world = World::new().await;
    let first = index(1, &[]);
    world.has_old("old", &first).await;
    forget(&world);
    fs::write(world.directory.path().join("repos/hub/app!/first-seen"), b"in the way").unwrap();
    world.hub.has("latest", &index(2, &[]));
    let server = world.other();
    let refused = async |server: &Server, reference: &str| {
        let error = server.asked(reference, &|_, _| false, false).await.unwrap_err();
        let Error::Registry(error) = error else { panic!("{reference}: {error:?}") };
        assert!(matches!(*error, simple_registry::registry::Error::Storage(_)), "{error:?}");
    };
    for reference in ["latest", "old", &text(&first), &text(&index(2, &[]))] {
        refused(&server, reference).await;
    }
    // nor is anything cached whose time cannot be recorded
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    refused(&world.server, "latest").await;
    assert!(server.stored(&text(&index(2, &[]))).await.is_none());
}

#[tokio::test]
async fn an_exception_lets_a_client_have_what_waits_and_moves_no_tag() {
    let world = World::new().await;
    let server = &world.server;
    let (old, child) = (index(1, &[]), index(2, &[]));
    let new = index(3, &[&child]);
    world.hub.has("child", &child);
    world.has_old("v1", &old).await;
    world.hub.has("v1", &new);
    let seen = world.clock.time_ms();
    let exempt: Exempt<'_> = &|reference, at| *reference == "v1".parse().unwrap() && at == seen;
    assert_eq!(server.asked("v1", exempt, false).await.unwrap(), (sha256(&new), Served::Miss));
    assert_eq!(server.asked("v1", exempt, false).await.unwrap(), (sha256(&new), Served::Hit));
    // that client goes on by digest, at any server
    let other = world.other();
    assert_eq!(other.asked(&text(&new), exempt, false).await.unwrap(), (sha256(&new), Served::Hit));
    assert_eq!(other.asked(&text(&child), exempt, false).await.unwrap(), (sha256(&child), Served::Miss));
    // all others wait
    assert_eq!(server.stored("v1").await, Some(sha256(&old)));
    for server in [server, &other] {
        assert_eq!(server.pulled("v1").await, (sha256(&old), Served::Hit));
        assert_eq!(server.held(&text(&new)).await, (sha256(&new), COOLDOWN));
        server.held(&text(&child)).await;
    }
    world.clock.advance(COOLDOWN);
    assert_eq!(server.pulled("v1").await, (sha256(&new), Served::Hit));
    assert_eq!(server.stored("v1").await, Some(sha256(&new)));
}

#[tokio::test]
async fn an_exception_for_a_manifest_moves_no_tag_of_its_signature() {
    let world = World::new().await;
    let image = index(1, &[]);
    world.hub.has("image", &image);
    world.server.held("image").await;
    let tag = format!("sha256-{}.sig", sha256(&image).hex());
    let signature = index(2, &[]);
    world.hub.has(&tag, &signature);
    let digest = Reference::Digest(sha256(&image));
    let exempt: Exempt<'_> = &|reference, _| *reference == digest;
    assert_eq!(world.server.asked(&tag, exempt, false).await.unwrap(), (sha256(&signature), Served::Miss));
    assert_eq!(world.server.stored(&tag).await, None);
    assert_eq!(world.server.held(&tag).await.0, sha256(&signature));
}

#[tokio::test]
async fn a_cooldown_that_is_turned_off_holds_nothing_back() {
    let mut world = World::new().await;
    let first = index(1, &[]);
    world.hub.has("latest", &first);
    world.set(|namespace| namespace.manifest_ttl = COOLDOWN);
    world.server.held("latest").await;
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    assert_eq!(world.server.pulled("latest").await, (sha256(&first), Served::Miss));
}
