//! Garbage in repositories, over the life of what becomes garbage.

use std::time::Duration;

use crate::scrub::shelf::{Shelf, config};
use simple_registry::{
    action::Page,
    config::Untagged,
    oci::{Digest, Name, Reference, Tag},
    records::{
        Actor, Claim, TagEntry,
        key::{CatalogKey, Key, Ordinal, Prefix, RepositoryKey, Suffix},
    },
    registry::Error,
    scrub::{Pass, Reason, What},
};

pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const YEAR: Duration = Duration::from_hours(24 * 365);

pub(crate) fn app() -> Name {
    "team/app".parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn manifest_keys(shelf: &Shelf, digest: &Digest) -> Vec<String> {
    shelf.keys(&Prefix::Manifest(&app(), digest).to_string())
}

async fn history(shelf: &Shelf, of: &str) -> Vec<TagEntry> {
    let keys = shelf.keys(&Prefix::History(&app(), &tag(of)).to_string());
    assert!(keys.len() <= 1, "{keys:?}");
    let Some(key) = keys.first() else { return vec![] };
    serde_json::from_slice(&shelf.store().await.get(key).await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn versions_of_a_tag_that_something_newer_replaced_become_its_history() {
    let shelf = Shelf::new().await;
    let mut pushed = Vec::new();
    for i in 0..5 {
        pushed.push(shelf.image(&app(), &i.to_string(), &["latest"]).await);
        shelf.clock.advance(Duration::from_secs(1));
    }
    let config = config("");
    // young ones may be somebody's
    let before = shelf.keys("");
    shelf.scrub(&config).await;
    assert_eq!(shelf.keys(""), before);
    shelf.age(DAY);
    shelf.scrub(&config).await;
    assert_eq!(shelf.keys(&Prefix::Tag(&app(), &tag("latest")).to_string()).len(), 1);
    let meant = |entries: &[TagEntry]| entries.iter().map(|entry| entry.target.map(|it| it.0)).collect::<Vec<_>>();
    let expected: Vec<_> = pushed[..4].iter().rev().map(|digest| Some(*digest)).collect();
    assert_eq!(meant(&history(&shelf, "latest").await), expected);
    // it moves on, is deleted, and is pushed again: one object, all of it in it
    shelf.image(&app(), "5", &["latest"]).await;
    shelf.server.tags.delete(&app(), &tag("latest"), &Actor::default()).await.unwrap();
    let last = shelf.image(&app(), "6", &["latest"]).await;
    shelf.age(DAY);
    shelf.scrub(&config).await;
    let entries = history(&shelf, "latest").await;
    assert_eq!(entries.len(), 7);
    assert_eq!(entries[0].target, None);
    assert!(entries.windows(2).all(|pair| pair[0].ordinal > pair[1].ordinal));
    assert_eq!(shelf.gets(&app(), &Reference::Tag(tag("latest"))).await, Some(last));
    let settled = shelf.keys("");
    shelf.scrub(&config).await;
    assert_eq!(shelf.keys(""), settled, "there was nothing left to do");
    let told = shelf.server.tags.history(&app(), &tag("latest"), 100, None).await.unwrap();
    assert_eq!(told.len(), 8);
}

#[tokio::test]
async fn history_is_kept_as_long_as_the_configuration_says() {
    let shelf = Shelf::new().await;
    for i in 0..6 {
        shelf.image(&app(), &i.to_string(), &["latest"]).await;
    }
    shelf.age(DAY);
    let mut few = config("");
    few.scrub.tag_history.count = 3;
    shelf.scrub(&few).await;
    assert_eq!(history(&shelf, "latest").await.len(), 3);
    let mut none = config("");
    none.scrub.tag_history.age = Duration::ZERO;
    shelf.age(DAY);
    shelf.scrub(&none).await;
    assert_eq!(history(&shelf, "latest").await.len(), 0);
    assert_eq!(shelf.tags(&app()).await, ["latest"]);
}

#[tokio::test]
async fn an_image_that_is_pushed_over_and_over_has_one_version() {
    let shelf = Shelf::new().await;
    let child = shelf.image(&app(), "child", &[]).await;
    let mut index = child;
    for _ in 0..4 {
        index = shelf.index(&app(), &[child], &["latest"]).await;
    }
    assert_eq!(manifest_keys(&shelf, &child).len(), 5 + 4);
    shelf.age(DAY);
    shelf.scrub(&config("")).await;
    assert_eq!(manifest_keys(&shelf, &index).len(), 1);
    assert_eq!(manifest_keys(&shelf, &child).len(), 2, "a version, and that the index needs it");
    assert!(shelf.has(&app(), &child).await && shelf.has(&app(), &index).await);
}

#[tokio::test]
async fn what_was_deleted_is_kept_for_the_trash_and_then_freed_until_the_repository_is_no_more() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1", "v2"]).await;
    let signature = shelf.referrer(&app(), "signature", Some(&image), &[]).await;
    shelf.age(YEAR);
    for digest in [&signature, &image] {
        shelf
            .server
            .manifests
            .delete(&app(), digest, &Actor { identity: "ana".into(), request: "r1".into() })
            .await
            .unwrap();
    }
    let mut config = config("");
    config.scrub.trash = DAY * 7;
    config.scrub.tag_history.age = DAY;
    shelf.age(DAY);
    assert!(shelf.scrub(&config).await.is_empty());
    assert_eq!(manifest_keys(&shelf, &image).len(), 2, "it can be brought back");
    shelf.age(DAY * 8);
    let removed = shelf.scrub(&config).await;
    assert_eq!(
        removed.iter().filter(|it| it.what == What::Manifest && it.reason == Reason::Deleted).count(),
        2,
        "{removed:?}"
    );
    assert!(
        removed
            .iter()
            .filter(|it| it.what == What::Manifest)
            .all(|it| it.deleted.as_ref().unwrap().by.identity == "ana")
    );
    assert_eq!(shelf.keys("blobs/").iter().filter(|key| key.contains("/pin.")).count(), 0);
    assert_eq!(manifest_keys(&shelf, &image).len(), 1, "the last word goes when it is found alone");
    // history has its own age, counted from when it was written by the servers' clock: let it be long ago
    shelf.age(YEAR);
    config.scrub.tag_history.age = Duration::ZERO;
    let mut left = Vec::new();
    for _ in 0..6 {
        left = shelf.scrub(&config).await;
        shelf.age(YEAR);
        if shelf.keys("catalog/").is_empty() {
            break;
        }
    }
    assert_eq!(shelf.keys("repos/"), Vec::<String>::new());
    assert_eq!(shelf.keys("catalog/"), Vec::<String>::new());
    assert!(left.iter().any(|it| it.what == What::Repository && it.reason == Reason::Empty), "{left:?}");
}

#[tokio::test]
async fn a_repository_that_is_pushed_to_stays_in_the_catalog() {
    let shelf = Shelf::new().await;
    let store = shelf.store().await;
    let fact = CatalogKey::Entry(Suffix::random()).of(&app());
    store.put(&fact, "{}").await.unwrap();
    shelf.age(DAY);
    shelf.scrub(&config("")).await;
    assert_eq!(shelf.keys("catalog/").len(), 2, "a mark, and what is there");
    // not yet a lease ago
    shelf.scrub(&config("")).await;
    assert_eq!(shelf.keys("catalog/").len(), 2);
    shelf.age(DAY);
    let image = shelf.image(&app(), "image", &["v1"]).await;
    shelf.scrub(&config("")).await;
    let keys = shelf.keys("catalog/");
    assert!(
        !keys.iter().any(|key| matches!(Key::catalog(key), Some((_, CatalogKey::Mark(_))))) && keys.len() == 2,
        "{keys:?}"
    );
    assert!(shelf.has(&app(), &image).await);
}

async fn is_listed(shelf: &Shelf) -> bool {
    shelf.server.catalog.list(&Page { n: None, last: None }, &[""], |_| true).await.unwrap().entries.contains(&app())
}

#[tokio::test]
async fn a_repository_of_which_only_its_past_is_known_leaves_the_catalog_until_something_is_pushed_again() {
    let shelf = Shelf::new().await;
    let (config, v1) = (config(""), tag("v1"));
    let pass = |days: u32| {
        shelf.age(DAY * days);
        shelf.clock.advance(DAY * days);
    };
    let scrub = async || shelf.scrub_with(&config, |options| options.passes = Pass::ALL.into()).await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    shelf.server.manifests.delete(&app(), &image, &Actor::default()).await.unwrap();
    for _ in 0..3 {
        pass(1);
        scrub().await;
        assert!(is_listed(&shelf).await, "it can be brought back");
    }
    shelf.server.restore(&app(), &Reference::Tag(v1.clone()), &Actor::default()).await.unwrap();
    shelf.server.manifests.delete(&app(), &image, &Actor::default()).await.unwrap();
    // past the trash; then the last words of tag and manifest go
    for days in [8, 1] {
        pass(days);
        scrub().await;
        assert!(is_listed(&shelf).await, "it was not found empty before, a lease ago");
    }
    // a claim closes the order of the tag for a lease
    let is_history = |key: &String| match RepositoryKey::under(&app(), key) {
        Some(RepositoryKey::History(..)) => true,
        Some(RepositoryKey::TagClaim(tag, _)) => tag == v1,
        _ => false,
    };
    assert!(shelf.keys(&Prefix::Repository(&app()).to_string()).iter().all(is_history));
    pass(1);
    // records that may exist beside them
    let (attempt, by) = (Suffix::random(), Actor::default());
    let claim = Claim { digest: None, version: None, ordinal: None, once: false, attempt, at: 0, by };
    let key = RepositoryKey::TagClaim(v1.clone(), Ordinal(1)).of(&app());
    shelf.store().await.put(&key, serde_json::to_vec(&claim).unwrap()).await.unwrap();
    shelf.server.pulls.note(&app(), &Reference::Tag(v1.clone()), &image);
    shelf.server.pulls.record().await.unwrap();
    let (_, removed) = scrub().await;
    let left: Vec<_> = removed.iter().filter(|it| it.what == What::Repository).map(|it| it.reason).collect();
    assert_eq!(left, [Reason::Empty]);
    assert!(!is_listed(&shelf).await);
    let unknown = shelf.server.tags.list(&app(), &Page { n: None, last: None }).await;
    assert!(matches!(unknown, Err(Error::NameUnknown(_))), "{unknown:?}");
    let known = shelf.server.tags.history(&app(), &v1, 100, None).await.unwrap();
    assert_eq!(known.last().unwrap().target.unwrap().0, image);
    // nobody puts it back, tells of it or finds it empty again
    for _ in 0..2 {
        pass(1);
        let (summary, removed) = scrub().await;
        assert!(!removed.iter().any(|it| it.what == What::Repository), "{removed:?}");
        assert!(summary.findings.is_empty(), "{summary:?}");
        assert_eq!(shelf.keys("catalog/"), Vec::<String>::new());
    }
    let again = shelf.image(&app(), "again", &["v1"]).await;
    assert!(is_listed(&shelf).await);
    assert_eq!(shelf.tags(&app()).await, ["v1"]);
    let longer = shelf.server.tags.history(&app(), &v1, 100, None).await.unwrap();
    assert_eq!((longer[0].target.unwrap().0, &longer[1..]), (again, &known[..]));
}

/// Checks that the catalog that a server remembers does not outlast the mark.
#[tokio::test]
async fn a_push_right_after_a_repository_was_found_without_images_keeps_it_in_the_catalog() {
    let shelf = Shelf::new().await;
    let config = config("");
    let image = shelf.image(&app(), "image", &["v1"]).await;
    shelf.server.manifests.delete(&app(), &image, &Actor::default()).await.unwrap();
    for _ in 0..2 {
        shelf.age(DAY * 8);
        shelf.clock.advance(DAY * 8);
        shelf.scrub(&config).await;
    }
    let is_mark = |key: &String| matches!(Key::catalog(key), Some((_, CatalogKey::Mark(_))));
    assert_eq!(shelf.keys("catalog/").iter().filter(|key| is_mark(key)).count(), 1);
    assert!(!shelf.keys(&Prefix::AllHistory(&app()).to_string()).is_empty());
    let again = shelf.image(&app(), "again", &[]).await;
    shelf.server.manifests.delete(&app(), &again, &Actor::default()).await.unwrap();
    for _ in 0..2 {
        shelf.age(DAY);
        shelf.clock.advance(DAY);
        shelf.scrub(&config).await;
        assert!(is_listed(&shelf).await, "what was pushed since can be brought back");
    }
    let keys = shelf.keys("catalog/");
    assert!(!keys.iter().any(is_mark), "{keys:?}");
    let restored = shelf.server.restore(&app(), &Reference::Digest(again), &Actor::default()).await.unwrap();
    assert!(!restored.restored.is_empty() && is_listed(&shelf).await);
}

#[tokio::test]
async fn untagged_images_stay_or_go_as_the_configuration_says() {
    let shelf = Shelf::new().await;
    let by_digest = shelf.image(&app(), "by digest", &[]).await;
    let moved_on = shelf.image(&app(), "old", &["latest"]).await;
    let latest = shelf.image(&app(), "new", &["latest"]).await;
    let child = shelf.image(&app(), "child", &[]).await;
    shelf.index(&app(), &[child], &["index"]).await;
    let signature = shelf.referrer(&app(), "signature", Some(&latest), &[]).await;
    let mut config = config("");
    config.scrub.untagged_grace = DAY * 2;
    shelf.age(DAY);
    assert!(shelf.scrub(&config).await.is_empty());
    config.scrub.untagged = Untagged::Delete;
    assert!(shelf.scrub(&config).await.is_empty(), "they have two days");
    shelf.age(DAY * 3);
    let removed = shelf.scrub(&config).await;
    assert!(removed.iter().all(|it| it.reason == Reason::Untagged) && removed.len() == 2, "{removed:?}");
    for (digest, stays) in [(by_digest, false), (moved_on, false), (latest, true), (child, true), (signature, true)] {
        assert_eq!(shelf.has(&app(), &digest).await, stays, "{digest}");
    }
}

#[tokio::test]
async fn what_went_with_a_delete_goes_with_what_goes_with_it() {
    let shelf = Shelf::new().await;
    let child = shelf.image(&app(), "child", &[]).await;
    let inner = shelf.index(&app(), &[child], &[]).await;
    let outer = shelf.index(&app(), &[inner], &["all"]).await;
    let signature = shelf.referrer(&app(), "of the child", Some(&child), &[]).await;
    let other = shelf.image(&app(), "other", &["other"]).await;
    shelf.server.manifests.delete(&app(), &outer, &Actor::default()).await.unwrap();
    // the pusher of the children may be at work
    let removed = shelf.scrub(&config("")).await;
    assert!(removed.is_empty(), "{removed:?}");
    shelf.age(DAY);
    let removed = shelf.scrub(&config("")).await;
    let reasons: Vec<_> = removed.iter().map(|it| (it.digest.unwrap(), it.reason)).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for expected in [(inner, Reason::WithIndex), (child, Reason::WithIndex), (signature, Reason::WithSubject)] {
        assert!(reasons.contains(&expected), "{expected:?} {reasons:?}");
    }
    assert!(shelf.has(&app(), &other).await && !shelf.has(&app(), &child).await);
}

#[tokio::test]
async fn a_tag_that_died_with_its_image_stays_dead_when_the_image_comes_again() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["dead"]).await;
    shelf.server.manifests.delete(&app(), &image, &Actor::default()).await.unwrap();
    // as a server leaves it that did not see the tag when it said all of them gone
    let is_gone = |key: &String| RepositoryKey::tag_version(&app(), key).is_some_and(|(_, said)| said.target.is_none());
    let gone: Vec<String> = shelf.keys("repos/").into_iter().filter(is_gone).collect();
    assert_eq!(gone.len(), 1);
    shelf.store().await.delete(&gone[0]).await.unwrap();
    shelf.image(&app(), "image", &["alive"]).await;
    for _ in 0..3 {
        shelf.age(YEAR);
        shelf.scrub(&config("")).await;
        assert_eq!(shelf.gets(&app(), &Reference::Tag(tag("dead"))).await, None);
        assert_eq!(shelf.gets(&app(), &Reference::Tag(tag("alive"))).await, Some(image));
    }
    assert_eq!(manifest_keys(&shelf, &image).len(), 1);
    assert_eq!(shelf.tags(&app()).await, ["alive"]);
}

#[tokio::test]
async fn a_dry_run_of_garbage_changes_nothing() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1", "v1"]).await;
    shelf.image(&app(), "other", &["v1"]).await;
    shelf.server.manifests.delete(&app(), &image, &Actor::default()).await.unwrap();
    shelf.age(YEAR);
    let before = shelf.keys("");
    let dry = shelf
        .scrub_with(&config(""), |options| {
            options.dry_run = true;
            options.passes = [Pass::Garbage].into();
        })
        .await;
    assert_eq!(shelf.keys(""), before);
    let done = shelf.scrub(&config("")).await;
    let manifests = |removed: &[simple_registry::scrub::Removal]| {
        removed.iter().filter(|it| it.what == What::Manifest).map(|it| it.digest).collect::<Vec<_>>()
    };
    assert_eq!(manifests(&dry.1), [Some(image)]);
    assert_eq!(manifests(&done), [Some(image)]);
}
