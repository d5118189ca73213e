//! Immutable tags: one meaning, whoever races for it and whoever dies on the way.

use super::*;
use simple_registry::{
    records::{
        Actor, Claim,
        key::{Ordinal, Prefix, RepositoryKey, Suffix, TagVersion, Version},
    },
    registry::{LookAtTag, Protection, TagDelete},
};

async fn put_once(server: &Registry, tag: &str, bytes: &Bytes) -> Result<Digest, Error> {
    let reference = Reference::Tag(tag.parse().unwrap());
    let put = PutManifest { reference, tags: vec![], media_type: None, bytes: bytes.clone() };
    server.manifests.put_under(&name(), &put, &|_| true, &Actor::default()).await.map(|put| put.digest)
}

async fn images(server: &Registry) -> (Bytes, Bytes) {
    let config = push(server, b"config").await;
    (image(&config, 6, r#","annotations":{"a":"1"}"#), image(&config, 6, r#","annotations":{"a":"2"}"#))
}

#[track_caller]
fn refused(outcome: &Result<Digest, Error>, means: Digest) {
    let Err(Error::TagImmutable { digest, .. }) = outcome else { panic!("it was not refused: {outcome:?}") };
    assert_eq!(*digest, means);
}

fn tag() -> Tag {
    "v1".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_pushes_that_race_one_wins_and_the_other_is_told_of_it() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let (first, second) = images(&one).await;
    for round in 0..50 {
        let tag = format!("v{round}");
        let (a, b) = tokio::join!(put_once(&one, &tag, &first), put_once(&other, &tag, &second));
        let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
        refused(&loser, winner.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_of_the_same_digest_that_race_all_win() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let (image, another) = images(&one).await;
    for _ in 0..10 {
        let (a, b) = tokio::join!(put_once(&one, "v1", &image), put_once(&other, "v1", &image));
        assert_eq!((a.unwrap(), b.unwrap()), (sha256(&image), sha256(&image)));
        refused(&put_once(&one, "v1", &another).await, sha256(&image));
    }
}

/// Writes the claim of a push that died before it wrote the tag.
async fn claim(world: &World, after: Option<Ordinal>, says: TagVersion) {
    let (digest, version) = says.target.unwrap();
    let claim = Claim {
        once: true,
        digest: Some(digest),
        version: Some(version.0),
        ordinal: Some(says.ordinal.0),
        attempt: Suffix::random(),
        at: 7,
        by: Actor { identity: "who died".to_owned(), request: "r".to_owned() },
    };
    let key = RepositoryKey::TagClaim(tag(), after.unwrap_or(Ordinal(0))).of(&name());
    world.operator().write(&key, serde_json::to_vec(&claim).unwrap()).await.unwrap();
}

async fn version_of(world: &World, digest: &Digest) -> Ordinal {
    let keys = world.keys(&Prefix::Manifest(&name(), digest).to_string()).await;
    keys.iter().filter_map(|key| Version::at_end_of(key)).map(|version| version.ordinal).max().unwrap()
}

#[tokio::test]
async fn a_claim_counts_though_who_made_it_died_unless_its_manifest_is_gone() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let (died, comes) = images(&server).await;
    let digest = put(&server, &died).await.unwrap();
    let target = Some((digest, version_of(&world, &digest).await));
    claim(&world, None, TagVersion { ordinal: Ordinal(1000), target }).await;
    assert_eq!(by_tag(&server, "v1").await, None);
    refused(&put_once(&server, "v1", &comes).await, digest);
    assert_eq!(by_tag(&server, "v1").await, Some(digest));
    let history = server.tags.history(&name(), &tag(), 10, None).await.unwrap();
    assert_eq!((history[0].by.identity.as_str(), history[0].at, history.len()), ("who died", 7, 1));
    server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    assert_eq!(put_once(&server, "v1", &comes).await.unwrap(), sha256(&comes), "what is gone is claimed no more");
    assert_eq!(by_tag(&server, "v1").await, Some(sha256(&comes)));
}

/// Returns the newest version of the tag.
async fn newest(server: &Registry) -> TagVersion {
    let newest = server.tags.history(&name(), &tag(), 1, None).await.unwrap().remove(0);
    let target = newest.target.map(|(digest, version)| (digest, Ordinal(version)));
    TagVersion { ordinal: Ordinal(newest.ordinal), target }
}

#[tokio::test]
async fn scrub_leaves_a_tag_to_a_young_claim_and_ends_it_above_an_old_one() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let (died, comes) = images(&server).await;
    let digest = put_once(&server, "v1", &died).await.unwrap();
    let seen = newest(&server).await;
    // the same again, which died
    let target = Some((digest, version_of(&world, &digest).await));
    claim(&world, Some(seen.ordinal), TagVersion { ordinal: Ordinal(seen.ordinal.0 + 1), target }).await;
    let by = Actor::default();
    assert!(!server.tags.end(&name(), &tag(), Some(seen), &|_| false, &by).await.unwrap());
    assert_eq!(by_tag(&server, "v1").await, Some(digest));
    assert!(server.tags.end(&name(), &tag(), Some(seen), &|_| true, &by).await.unwrap());
    assert_eq!(by_tag(&server, "v1").await, None);
    assert_eq!(newest(&server).await, TagVersion { ordinal: Ordinal(seen.ordinal.0 + 2), target: None });
    put_once(&server, "v1", &comes).await.unwrap();
    assert_eq!(by_tag(&server, "v1").await, Some(sha256(&comes)));
}

#[tokio::test]
async fn a_delete_of_a_manifest_leaves_its_tag_to_the_claim_of_a_push() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let (before, comes) = images(&server).await;
    let deleted = put_once(&server, "v1", &before).await.unwrap();
    let digest = put(&server, &comes).await.unwrap();
    let seen = newest(&server).await;
    let target = Some((digest, version_of(&world, &digest).await));
    claim(&world, Some(seen.ordinal), TagVersion { ordinal: Ordinal(seen.ordinal.0 + 1), target }).await;
    server.manifests.delete(&name(), &deleted, &Actor::default()).await.unwrap();
    assert_eq!(by_tag(&server, "v1").await, Some(digest), "the claim is the commit");
}

#[tokio::test]
async fn pushes_that_meet_a_closed_order_race_at_the_first_place() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let (first, second) = images(&one).await;
    put_once(&one, "v1", &first).await.unwrap();
    one.tags.delete_under(&name(), &tag(), Protection::Immutable, &Actor::default()).await.unwrap();
    let tombstone = newest(&one).await;
    for key in world.keys(&Prefix::TagClaims(&name(), &tag()).to_string()).await {
        world.operator().delete(&key).await.unwrap();
    }
    assert!(one.tags.close(&name(), &tag(), tombstone.ordinal, &Actor::default()).await.unwrap());
    let (a, b) = tokio::join!(put_once(&one, "v1", &first), put_once(&other, "v1", &second));
    let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
    refused(&loser, winner.unwrap());
    assert!(newest(&one).await.ordinal > tombstone.ordinal);
}

/// Returns a look that keeps one tag.
fn keeps(kept: &str) -> impl Fn(&Tag) -> TagDelete + Sync {
    move |tag| if tag.as_str() == kept { TagDelete::Kept } else { TagDelete::Allowed }
}

/// Deletes a manifest with the tag `a` and a subject. A push that began before writes the tag `v1` at look number `comes`, and
/// nobody may delete that tag. Returns the tags that were asked about, and whether `a` and `v1` are there afterwards.
async fn delete_beside_a_late_tag(comes: usize) -> (Vec<String>, [bool; 2]) {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let (image, _) = images(&server).await;
    let subject = put(&server, &image).await.unwrap();
    let config = push(&server, b"{}").await;
    let about = super::image(
        &config,
        2,
        &format!(
            r#","subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{subject}","size":{}}}"#,
            image.len()
        ),
    );
    let digest = put_tagged(&server, "a", &about).await;
    let version = version_of(&world, &digest).await;
    let (asked, late) = (std::sync::Mutex::new(Vec::new()), "v1".parse::<Tag>().unwrap());
    let look = |tag: &Tag| {
        let mut asked = asked.lock().unwrap();
        asked.push(tag.to_string());
        if asked.len() == comes {
            // the tag means the version that the delete saw
            let key =
                RepositoryKey::Tag(late.clone(), TagVersion { ordinal: Ordinal(7), target: Some((digest, version)) })
                    .of(&name());
            let fact = br#"{"at":1,"by":{"identity":"ana","request":"1"}}"#.to_vec();
            let path = world.directory.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, fact).unwrap();
        }
        if *tag == late { TagDelete::Denied } else { TagDelete::Allowed }
    };
    let look: &LookAtTag<'_> = &look;
    let done = server.manifests.delete_under(&name(), &digest, Some(look), &Actor::default()).await;
    assert!(matches!(&done, Err(Error::TagDenied { tag, .. }) if *tag == late), "{done:?}");
    let listed = server.referrers.list(&name(), &subject, None, &Page::default()).await.unwrap();
    assert_eq!(listed.descriptors.len(), 1, "it refers to its subject as before");
    let there = [by_tag(&server, "a").await == Some(digest), by_tag(&server, "v1").await == Some(digest)];
    (asked.into_inner().unwrap(), there)
}

#[tokio::test]
async fn when_a_tag_comes_after_the_first_look_the_delete_looks_at_it_before_anything_goes() {
    let (asked, there) = delete_beside_a_late_tag(1).await;
    assert_eq!((asked.join(" "), there), ("a a v1".to_owned(), [true, true]));
}

#[tokio::test]
async fn when_a_tag_comes_after_the_second_look_it_is_looked_at_before_it_goes() {
    let (asked, there) = delete_beside_a_late_tag(2).await;
    assert_eq!((asked.join(" "), there), ("a a a v1".to_owned(), [false, true]));
}

#[tokio::test]
async fn an_immutable_tag_and_its_manifest_are_deleted_only_where_that_is_allowed() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let (first, second) = images(&server).await;
    let by = Actor::default();
    let digest = put_once(&server, "v1", &first).await.unwrap();
    let kept = server.tags.delete_under(&name(), &tag(), Protection::Kept, &by).await;
    assert!(matches!(kept, Err(Error::TagKept { .. })), "{kept:?}");
    let kept = server.manifests.delete_under(&name(), &digest, Some(&keeps("v1")), &by).await;
    assert!(matches!(kept, Err(Error::TagKept { .. })), "{kept:?}");
    assert_eq!(by_tag(&server, "v1").await, Some(digest));
    server.tags.delete_under(&name(), &tag(), Protection::Immutable, &by).await.unwrap();
    assert_eq!(by_tag(&server, "v1").await, None);
    let digest = put_once(&server, "v1", &second).await.unwrap();
    server.manifests.delete_under(&name(), &digest, Some(&keeps("v2")), &by).await.unwrap();
    put_once(&server, "v1", &first).await.unwrap();
}
