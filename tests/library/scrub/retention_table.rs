//! Retention of tags as people really make them; who survives is written out by hand.

use std::{collections::BTreeMap, time::Duration};

use crate::scrub::shelf::{Shelf, config, sha256};
use serde_json::json;
use simple_registry::{
    config::Config,
    oci::{Digest, Name, Reference},
    records::key::{Key, RepositoryKey, Suffix},
    scrub::{Reason, What},
};

const DAY: Duration = Duration::from_hours(24);

fn app() -> Name {
    "prod/app".parse().unwrap()
}

/// Rules of `prod`, and pulls as old as the store.
fn rules(rules: &[&str]) -> Config {
    let rules: Vec<String> = rules.iter().map(|rule| format!("'{rule}'")).collect();
    config(&format!("[repository.prod.retention_policy]\nrules = [{}]\n", rules.join(", ")))
}

/// An image: its tags, and how many days ago it was pushed.
type Pushed<'p> = (&'p [&'p str], u32);

/// Pushes different images so many days ago. Then days and a lease pass for the store.
async fn pushed(images: &[Pushed<'_>]) -> (Shelf, BTreeMap<String, Digest>) {
    let shelf = Shelf::new().await;
    shelf.store().await.put(&Key::PullsSince.to_string(), json!({ "at": 0 }).to_string()).await.unwrap();
    let mut images = images.to_vec();
    images.sort_by_key(|(_, days)| std::cmp::Reverse(*days));
    let mut digests = BTreeMap::new();
    let mut last = images.first().map_or(0, |(_, days)| *days);
    for (tags, days) in images {
        shelf.clock.advance(DAY * (last - days));
        last = days;
        let digest = shelf.image(&app(), &format!("{tags:?} of {days}"), tags).await;
        digests.extend(tags.iter().map(|tag| ((*tag).to_owned(), digest)));
    }
    shelf.clock.advance(DAY * last);
    shelf.age(DAY);
    (shelf, digests)
}

/// Checks who survives: the tags, and of the images each whose tag does, and no other.
async fn survive(says: &str, rules: &[&str], images: &[Pushed<'_>], survivors: &[&str]) {
    let (shelf, digests) = pushed(images).await;
    shelf.scrub(&self::rules(rules)).await;
    let mut survivors: Vec<&str> = survivors.to_vec();
    survivors.sort_unstable();
    assert_eq!(shelf.tags(&app()).await, survivors, "{says}");
    for (tag, digest) in &digests {
        let is_meant = digests.iter().any(|(other, meant)| meant == digest && survivors.contains(&other.as_str()));
        assert_eq!(shelf.has(&app(), digest).await, is_meant, "{says}: the image of {tag}");
    }
}

#[tokio::test]
async fn tags_as_people_make_them() {
    survive(
        "releases stay, whatever their age",
        &[r#"image.tag.matches("^v?[0-9]+\\.[0-9]+\\.[0-9]+$")"#],
        &[
            (&["v1.0.0"], 900),
            (&["v1.0.1", "v1.0", "v1"], 400),
            (&["1.2.3"], 300),
            (&["v2.0.0-rc.1"], 30),
            (&["v2.0.0", "latest"], 20),
            (&["test"], 1),
        ],
        &["v1.0.0", "v1.0.1", "1.2.3", "v2.0.0"],
    )
    .await;
    survive(
        "builds of branches: the last three, and those of this week",
        &[r#"image.tag == "latest""#, "top(image.tag, last_pushed, 3)", "image.pushed_at > now() - days(7)"],
        &[
            (&["main-3f2a91c"], 40),
            (&["main-9ab01de"], 30),
            (&["latest", "main-77e0c1d"], 20),
            (&["feature-login-12ab34c"], 10),
            (&["main-0a1b2c3"], 6),
            (&["main-ffffff0"], 5),
            (&["main-1234567"], 4),
            (&["main-7654321"], 3),
        ],
        &["latest", "main-0a1b2c3", "main-ffffff0", "main-1234567", "main-7654321"],
    )
    .await;
    survive(
        "nightly builds for two weeks, the firsts of months for a year",
        &[
            r#"image.tag.startsWith("nightly-") && image.pushed_at > now() - days(14)"#,
            r#"image.tag.matches("^nightly-[0-9]{4}-[0-9]{2}-01$") && image.pushed_at > now() - days(365)"#,
            r#"!image.tag.startsWith("nightly-")"#,
        ],
        &[
            (&["nightly-2025-12-01"], 400),
            (&["nightly-2026-11-01"], 75),
            (&["nightly-2026-12-31"], 15),
            (&["nightly-2027-01-01"], 14),
            (&["nightly-2027-01-02"], 13),
            (&["nightly-2027-01-14", "nightly"], 1),
            (&["stable"], 500),
        ],
        &["nightly", "nightly-2026-11-01", "nightly-2027-01-01", "nightly-2027-01-02", "nightly-2027-01-14", "stable"],
    )
    .await;
    survive("no rules: everything stays", &[], &[(&["old"], 1000), (&["new"], 0)], &["old", "new"]).await;
    survive("nothing is kept", &[r#"image.tag == "none""#], &[(&["a", "b"], 3), (&["c"], 0)], &[]).await;
}

#[tokio::test]
async fn the_rules_of_the_handbook_work_as_written() {
    let written = [
        r#"image.tag != "latest""#,
        "image.pushed_at > now() - days(15)",
        "image.last_pulled_at > now() - days(15)",
        "top(image.tag, last_pulled, 10)",
        "top(image.tag, last_pushed, 10)",
    ];
    let images: Vec<(String, u32)> = (0..12).map(|i| (format!("b{i:02}"), 100 - i)).collect();
    let tags: Vec<[&str; 1]> = images.iter().map(|(tag, _)| [tag.as_str()]).collect();
    let mut pushed: Vec<Pushed<'_>> = tags.iter().zip(&images).map(|(tags, (_, days))| (&tags[..], *days)).collect();
    pushed.push((&["latest"], 200));
    // the first of them keeps all but latest, which is old, was never pulled, and is the thirteenth of thirteen
    let all: Vec<&str> = tags.iter().map(|tags| tags[0]).collect();
    survive("all of them", &written, &pushed, &all).await;
    // without it, the last ten stay
    survive("all but the first", &written[1..], &pushed, &all[2..]).await;
    survive("by age alone", &written[1..3], &pushed, &[]).await;
}

#[tokio::test]
async fn what_was_pulled_lately_stays_and_what_nobody_recorded_is_not_known() {
    let by_pulls = rules(&["image.last_pulled_at > now() - days(15)"]);
    let images: &[Pushed<'_>] =
        &[(&["by-tag"], 100), (&["by-digest"], 90), (&["long-ago"], 80), (&["never"], 70), (&["new"], 1)];
    for recorded in [true, false] {
        let (shelf, digests) = pushed(images).await;
        let store = shelf.store().await;
        if !recorded {
            store.delete(&Key::PullsSince.to_string()).await.unwrap();
        }
        let now = shelf.clock.now_ms();
        let days = |days: u64| now - days * 86_400_000;
        let seen = [
            json!([{ "tag": "by-tag", "digest": digests["by-tag"], "at": days(20) }]),
            json!([{ "tag": "by-tag", "digest": digests["by-tag"], "at": days(2) }, { "digest": digests["by-digest"], "at": days(3) }]),
            json!([{ "tag": "long-ago", "digest": digests["long-ago"], "at": days(16) }]),
        ];
        for pulls in seen {
            let key = RepositoryKey::Pulls(now, Suffix::random()).of(&app());
            store.put(&key, pulls.to_string()).await.unwrap();
        }
        shelf.age(DAY);
        // the second time what was seen of pulls has been merged
        for _ in 0..2 {
            shelf.scrub(&by_pulls).await;
            let known = ["by-digest", "by-tag", "new"];
            let survivors = if recorded { &known[..] } else { &["by-digest", "by-tag", "never", "new"] };
            assert_eq!(shelf.tags(&app()).await, survivors, "recorded: {recorded}");
            assert_eq!(shelf.keys("repos/prod/app!/pulls/").len(), 1);
        }
    }
}

#[tokio::test]
async fn images_for_many_platforms_go_and_stay_with_their_index() {
    let shelf = Shelf::new().await;
    let mut indexes = Vec::new();
    for release in ["1.0", "2.0"] {
        let amd = shelf.image(&app(), &format!("{release} for amd64"), &[]).await;
        let arm = shelf.image(&app(), &format!("{release} for arm64"), &[&format!("{release}-arm64")]).await;
        let attestation = shelf.image(&app(), &format!("how {release} was built"), &[]).await;
        let index = shelf.index(&app(), &[amd, arm, attestation], &[release]).await;
        indexes.push((index, amd, arm, attestation));
    }
    // one child is in another index as well
    let both = shelf.index(&app(), &[indexes[0].1], &["kept-index"]).await;
    shelf.age(DAY);
    let keep = rules(&[r#"image.tag in ["2.0", "1.0-arm64", "kept-index"]"#]);
    let removed = shelf.scrub(&keep).await;
    assert_eq!(shelf.tags(&app()).await, ["1.0-arm64", "2.0", "kept-index"]);
    let (one, two) = (indexes[0], indexes[1]);
    for (digest, stays) in [
        (one.0, false),
        (one.1, true), // in another index
        (one.2, true), // has a tag of its own
        (one.3, false),
        (two.0, true),
        (two.1, true),
        (two.2, true), // its own tag is gone, its index is not
        (two.3, true),
        (both, true),
    ] {
        assert_eq!(shelf.has(&app(), &digest).await, stays, "{digest}");
    }
    let with_index: Vec<_> = removed.iter().filter(|removal| removal.reason == Reason::WithIndex).collect();
    assert_eq!(with_index.len(), 1);
    assert_eq!(with_index[0].digest, Some(one.3));
    let policies: Vec<_> = removed.iter().filter_map(|removal| removal.policy.as_deref()).collect();
    assert_eq!(policies.len(), 3, "two tags and an index: {removed:?}");
    assert!(removed.iter().filter(|removal| removal.policy.is_some()).all(|removal| removal.policy_sha256.is_some()));
}

#[tokio::test]
async fn signatures_go_and_stay_with_what_they_sign() {
    let shelf = Shelf::new().await;
    let mut of = BTreeMap::new();
    for what in ["keep", "drop"] {
        let image = shelf.image(&app(), what, &[what]).await;
        let signature = shelf.referrer(&app(), &format!("signature of {what}"), Some(&image), &[]).await;
        let of_signature = shelf.referrer(&app(), &format!("signature of that of {what}"), Some(&signature), &[]).await;
        let named = format!("sha256-{}", image.hex());
        let sig = shelf.image(&app(), &format!("cosign of {what}"), &[&format!("{named}.sig")]).await;
        let fallback = shelf.image(&app(), &format!("referrers of {what}"), &[&named]).await;
        of.insert(what, [image, signature, of_signature, sig, fallback]);
    }
    let elsewhere = format!("sha256-{}.sig", sha256("an image of another repository").hex());
    let unrelated = shelf.image(&app(), "a signature of what never was here", &[&elsewhere]).await;
    shelf.age(DAY);
    shelf.scrub(&rules(&[r#"image.tag == "keep""#])).await;
    for digest in of["keep"] {
        assert!(shelf.has(&app(), &digest).await, "{digest} of what is kept");
    }
    for digest in of["drop"] {
        assert!(!shelf.has(&app(), &digest).await, "{digest} of what is dropped");
    }
    assert!(!shelf.has(&app(), &unrelated).await, "what it signs never was in this repository");
    let named = format!("sha256-{}", of["keep"][0].hex());
    assert_eq!(shelf.tags(&app()).await, ["keep".to_owned(), named.clone(), format!("{named}.sig")]);
}

#[tokio::test]
async fn an_image_that_a_subject_or_a_tag_needs_outlives_its_tag() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1", "also"]).await;
    let tagged = shelf.referrer(&app(), "a signature with a tag", Some(&image), &["signature"]).await;
    shelf.age(DAY);
    shelf.scrub(&rules(&[r#"image.tag == "v1""#])).await;
    assert_eq!(shelf.tags(&app()).await, ["v1"]);
    assert!(shelf.has(&app(), &image).await && shelf.has(&app(), &tagged).await);
}

#[tokio::test]
async fn what_is_not_enforced_removes_nothing_and_immutable_tags_go_only_where_a_rule_says_so() {
    let images: &[Pushed<'_>] = &[(&["v1"], 30), (&["main-1"], 30), (&["main-2"], 1)];
    let table = |more: &str, rule: &str| {
        config(&format!("[repository.prod]\n{more}\n[repository.prod.retention_policy]\nrules = ['{rule}']\n"))
    };
    let immutable = r#"immutable_tags = ["^v[0-9]"]"#;
    for (more, rule, survivors) in [
        ("", "image.pushed_at > now() - days(7)", &["main-2"][..]),
        (immutable, "image.pushed_at > now() - days(7)", &["main-2", "v1"]),
        (immutable, "image.pushed_at > now() - days(7) && (image.immutable || true)", &["main-2"]),
        (immutable, "image.immutable || image.pushed_at > now() - days(7)", &["main-2", "v1"]),
    ] {
        let (shelf, _) = pushed(images).await;
        shelf.scrub(&table(more, rule)).await;
        assert_eq!(shelf.tags(&app()).await, survivors, "{more} {rule}");
    }
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    let images: &[Pushed<'_>] = &[(&["v1", "one"], 30), (&["v2"], 20), (&["v3"], 1)];
    let (shelf, digests) = pushed(images).await;
    let index = shelf.index(&app(), &[digests["v1"]], &["old-index"]).await;
    shelf.image(&app(), "signature", &[&format!("sha256-{}.sig", digests["v2"].hex())]).await;
    shelf.age(DAY);
    let keep = rules(&[r#"image.tag == "v3""#]);
    let before = shelf.keys("");
    let (summary, told) = shelf.scrub_with(&keep, |options| options.dry_run = true).await;
    assert!(summary.dry_run);
    assert_eq!(shelf.keys(""), before);
    assert!(shelf.has(&app(), &index).await);
    let words = |removals: &[simple_registry::scrub::Removal]| {
        let mut words: Vec<_> = removals
            .iter()
            .map(|removal| {
                format!("{:?} {:?} {:?} {:?}", removal.what, removal.reason, removal.reference, removal.digest)
            })
            .collect();
        words.sort();
        words
    };
    let done = shelf.scrub(&keep).await;
    assert_eq!(words(&told), words(&done));
    assert_eq!(done.iter().filter(|removal| removal.what == What::Tag).count(), 5, "{done:?}");
    assert_eq!(shelf.tags(&app()).await, ["v3"]);
    assert!(shelf.scrub(&keep).await.is_empty());
}

#[tokio::test]
async fn what_is_pushed_again_before_the_next_run_starts_a_new_life() {
    let (shelf, digests) = pushed(&[(&["v1"], 30)]).await;
    shelf.scrub(&rules(&["image.pushed_at > now() - days(7)"])).await;
    assert!(!shelf.has(&app(), &digests["v1"]).await);
    shelf.clock.advance(Duration::from_secs(1));
    let again = shelf.image(&app(), &format!("{:?} of 30", ["v1"]), &["v1"]).await;
    assert_eq!(again, digests["v1"]);
    shelf.age(DAY);
    shelf.scrub(&rules(&["image.pushed_at > now() - days(7)"])).await;
    assert_eq!(shelf.gets(&app(), &Reference::Tag("v1".parse().unwrap())).await, Some(again));
}

#[tokio::test]
async fn only_the_repositories_that_are_asked_for() {
    let (shelf, _) = pushed(&[(&["v1"], 30)]).await;
    let other: Name = "production/app".parse().unwrap();
    shelf.image(&other, "another", &["v1"]).await;
    shelf.age(DAY);
    let all = config("[repository.\"*\".retention_policy]\nrules = ['image.tag == \"none\"']\n");
    shelf.scrub_with(&all, |options| options.repository = Some("prod".parse().unwrap())).await;
    assert_eq!((shelf.tags(&app()).await.len(), shelf.tags(&other).await.len()), (0, 1));
}
