//! Writes of a tag under a condition on what the tag means.

use simple_registry::{
    records::{Claim, key::RepositoryKey},
    registry::{Condition, Meanings, Protection},
};

use super::*;

const NO_TAG_YET: Condition = Condition { is: None, is_not: Some(Meanings::Any) };

fn still(digest: Digest) -> Condition {
    Condition { is: Some(Meanings::Of(vec![digest])), is_not: None }
}

async fn put_if(server: &Registry, tag: &str, bytes: &Bytes, condition: &Condition) -> Result<Digest, Error> {
    let reference = Reference::Tag(tag.parse().unwrap());
    let put = PutManifest { reference, tags: vec![], media_type: None, bytes: bytes.clone() };
    server.manifests.put_if(&name(), &put, condition, &|_| false, &Actor::default()).await.map(|put| put.digest)
}

/// Returns some images.
async fn images<const N: usize>(server: &Registry) -> [Bytes; N] {
    let config = push(server, b"config").await;
    std::array::from_fn(|number| image(&config, 6, &format!(r#","annotations":{{"a":"{number}"}}"#)))
}

/// Returns the meanings of a tag, newest first.
async fn history(server: &Registry, tag: &str) -> Vec<Option<Digest>> {
    let entries = server.tags.history(&name(), &tag.parse().unwrap(), 1000, None).await.unwrap();
    entries.into_iter().map(|entry| entry.target.map(|(digest, _)| digest)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_pushes_that_race_under_one_condition_one_wins() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let [first, second, third] = images(&one).await;
    for round in 0..30 {
        let tag = format!("v{round}");
        for condition in [NO_TAG_YET, still(sha256(&third))] {
            let (a, b) =
                tokio::join!(put_if(&one, &tag, &first, &condition), put_if(&other, &tag, &second, &condition));
            let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
            let Err(Error::Condition { digest, .. }) = loser else { panic!("both: {winner:?} {loser:?}") };
            assert_eq!(digest.as_deref(), Some(winner.as_ref().unwrap()));
            assert_eq!(by_tag(&one, &tag).await.as_ref(), Some(winner.as_ref().unwrap()));
            put_if(&one, &tag, &third, &Condition::default()).await.unwrap();
        }
    }
}

/// A push without a condition comes before the one with a condition, which then fails, or after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_push_is_overwritten_by_one_that_asked_for_the_meaning_before_it() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let [base, mine, theirs] = images(&one).await;
    for round in 0..50 {
        let tag = format!("v{round}");
        put_if(&one, &tag, &base, &Condition::default()).await.unwrap();
        let (condition, none) = (still(sha256(&base)), Condition::default());
        let (conditional, plain) =
            tokio::join!(put_if(&one, &tag, &mine, &condition), put_if(&other, &tag, &theirs, &none));
        plain.unwrap();
        let meanings = history(&one, &tag).await;
        let (base, mine, theirs) = (Some(sha256(&base)), Some(sha256(&mine)), Some(sha256(&theirs)));
        match conditional {
            Ok(_) => assert_eq!(meanings, [theirs, mine, base]),
            Err(Error::Condition { .. }) => assert_eq!(meanings, [theirs, base]),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_condition_holds_for_a_delete_and_for_a_digest() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let [first, second] = images(&server).await;
    let tag: Tag = "v1".parse().unwrap();
    put_if(&server, "v1", &first, &Condition::default()).await.unwrap();
    let delete = |condition: Condition| {
        let (server, tag) = (&server, &tag);
        async move { server.tags.delete_if(&name(), tag, &condition, Protection::None, &Actor::default()).await }
    };
    let refused = delete(still(sha256(&second))).await;
    assert!(matches!(refused, Err(Error::Condition { .. })), "{refused:?}");
    assert_eq!(by_tag(&server, "v1").await, Some(sha256(&first)));
    delete(still(sha256(&first))).await.unwrap();
    assert_eq!(by_tag(&server, "v1").await, None);
    put_if(&server, "v1", &second, &NO_TAG_YET).await.unwrap();
    let reference = Reference::Digest(sha256(&first));
    let put = PutManifest { reference, tags: vec![], media_type: None, bytes: first };
    let refused = server.manifests.put_if(&name(), &put, &NO_TAG_YET, &|_| false, &Actor::default()).await;
    assert!(matches!(refused, Err(Error::Condition { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_condition_that_holds_gives_an_immutable_tag_no_other_meaning() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let [first, second] = images(&server).await;
    let put = async |bytes: &Bytes, condition: &Condition| {
        let reference = Reference::Tag("v1".parse().unwrap());
        let put = PutManifest { reference, tags: vec![], media_type: None, bytes: bytes.clone() };
        server.manifests.put_if(&name(), &put, condition, &|_| true, &Actor::default()).await.map(|put| put.digest)
    };
    put(&first, &NO_TAG_YET).await.unwrap();
    let refused = put(&second, &still(sha256(&first))).await;
    assert!(matches!(refused, Err(Error::TagImmutable { .. })), "{refused:?}");
    assert_eq!(by_tag(&server, "v1").await, Some(sha256(&first)));
    assert_eq!(put(&first, &still(sha256(&first))).await.unwrap(), sha256(&first));
}

/// A push that died between its claim and its version: within a lease another writer may finish the push, and after that
/// nobody does.
#[tokio::test]
async fn a_dead_push_is_finished_within_a_lease_and_passed_over_later() {
    for old in [false, true] {
        let world = World::new();
        let server = world.server(Duration::ZERO);
        let [base, dead, mine] = images(&server).await;
        put_if(&server, "dead", &dead, &Condition::default()).await.unwrap();
        put_if(&server, "v1", &base, &Condition::default()).await.unwrap();
        let seen = server.tags.history(&name(), &"v1".parse().unwrap(), 1, None).await.unwrap()[0].ordinal;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let two_days = 2 * 24 * 3600 * 1000;
        let dead_version =
            server.tags.history(&name(), &"dead".parse().unwrap(), 1, None).await.unwrap()[0].target.unwrap().1;
        let claim = Claim {
            once: false,
            digest: Some(sha256(&dead)),
            version: Some(dead_version),
            ordinal: Some(seen + 1),
            attempt: Suffix::random(),
            at: u64::try_from(now).unwrap() - if old { two_days } else { 0 },
            by: Actor::default(),
        };
        let key = RepositoryKey::TagClaim("v1".parse().unwrap(), Ordinal(seen)).of(&name());
        world.operator().write(&key, serde_json::to_vec(&claim).unwrap()).await.unwrap();
        let outcome = put_if(&server, "v1", &mine, &still(sha256(&base))).await;
        if old {
            assert_eq!(outcome.unwrap(), sha256(&mine));
        } else {
            let Err(Error::Condition { digest, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(digest.as_deref(), Some(&sha256(&dead)));
        }
    }
}
