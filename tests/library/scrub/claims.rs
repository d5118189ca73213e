//! Claims on versions of tags and manifests: when scrub frees them, and that it finishes none.

use crate::scrub::{
    repositories::{DAY, YEAR, app, tag},
    shelf::{Shelf, config},
};
use simple_registry::{
    oci::{Digest, Reference},
    records::{
        Actor,
        key::{Ordinal, Prefix, RepositoryKey, Suffix, Version},
    },
};

fn claims(shelf: &Shelf) -> Vec<String> {
    let mut keys = shelf.keys(&Prefix::AllTagClaims(&app()).to_string());
    keys.extend(shelf.keys(&Prefix::AllManifestClaims(&app()).to_string()));
    keys
}

/// Writes the claim of a writer that died, on a version of the tag after `after` that means `digest`.
async fn claim(shelf: &Shelf, after: Option<Ordinal>, digest: Digest, once: bool) -> String {
    let of = shelf.keys(&Prefix::Manifest(&app(), &digest).to_string());
    let version = of.first().and_then(|key| Version::at_end_of(key)).map_or(1, |version| version.ordinal.0);
    let claim = serde_json::json!({
        "ordinal": after.map_or(1_000, |after| after.0 + 1), "once": once, "digest": digest, "version": version,
        "attempt": Suffix::random(), "at": 1, "by": Actor::default(),
    });
    let key = RepositoryKey::TagClaim(tag("v1"), after.unwrap_or(Ordinal(0))).of(&app());
    shelf.store().await.put(&key, claim.to_string()).await.unwrap();
    key
}

fn newest(shelf: &Shelf) -> Ordinal {
    let keys = shelf.keys(&Prefix::Tag(&app(), &tag("v1")).to_string());
    RepositoryKey::tag_version(&app(), &keys[0]).unwrap().1.ordinal
}

fn v1() -> Reference {
    Reference::Tag(tag("v1"))
}

#[tokio::test]
async fn scrub_frees_claims_a_lease_after_a_newer_version_and_finishes_none() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    let other = shelf.image(&app(), "other", &[]).await;
    assert_eq!(claims(&shelf).len(), 3, "one for the tag, one for each manifest");
    let unfinished = claim(&shelf, Some(newest(&shelf)), other, true).await;
    shelf.scrub(&config("")).await;
    assert_eq!(claims(&shelf).len(), 4, "those who claim may be at work");
    shelf.age(DAY);
    shelf.scrub(&config("")).await;
    assert_eq!(claims(&shelf), [unfinished], "nothing newer is there");
    assert_eq!(shelf.gets(&app(), &v1()).await, Some(image));
    shelf.image(&app(), "third", &["v1"]).await;
    shelf.age(DAY);
    shelf.scrub(&config("")).await;
    assert_eq!(claims(&shelf), Vec::<String>::new());
}

#[tokio::test]
async fn an_old_claim_keeps_no_tag_from_going_and_no_tombstone_for_ever() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    let other = shelf.image(&app(), "other", &["v2"]).await;
    shelf.server.tags.delete(&app(), &tag("v1"), &Actor::default()).await.unwrap();
    claim(&shelf, Some(newest(&shelf)), other, true).await;
    for _ in 0..5 {
        shelf.age(YEAR);
        shelf.scrub(&config("")).await;
        assert_eq!(shelf.gets(&app(), &v1()).await, None, "{image} was deleted, and {other} never acknowledged");
    }
    assert_eq!(shelf.keys(&Prefix::Tag(&app(), &tag("v1")).to_string()), Vec::<String>::new());
    assert_eq!(claims(&shelf), Vec::<String>::new());
}

#[tokio::test]
async fn a_claim_that_lands_after_the_last_tombstone_went_is_freed() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v2"]).await;
    for after in [None, Some(Ordinal(1_000))] {
        claim(&shelf, after, image, true).await;
        for _ in 0..4 {
            shelf.age(YEAR);
            shelf.scrub(&config("")).await;
            assert_eq!(shelf.gets(&app(), &v1()).await, None);
        }
        assert_eq!(shelf.keys(&Prefix::Tag(&app(), &tag("v1")).to_string()), Vec::<String>::new());
        assert_eq!(claims(&shelf), Vec::<String>::new());
    }
}
