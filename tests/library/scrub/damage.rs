//! Damages every object of a store in every way. Scrub reports each damage, repairs or notes it, and finds nothing new
//! the next time. No client can notice a damage that scrub does not report.

use std::{collections::HashMap, fs, path::Path, time::Duration};

use simple_registry::{config::Untagged, oci::Reference, scrub::Outcome};

use crate::scrub::world::{
    age, age_one, config, content, copy, full, keys, name, push_image, push_index, read, rejuvenate, scrub, scrub_with,
    server, sha256, view,
};

/// A kind of damage to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    CutInHalf,
    Emptied,
    ABitFlipped,
    Removed,
    Doubled,
}

/// The number of objects of one kind that are damaged.
const OF_A_KIND: usize = 6;

const DAMAGES: [Damage; 5] =
    [Damage::CutInHalf, Damage::Emptied, Damage::ABitFlipped, Damage::Removed, Damage::Doubled];

impl Damage {
    /// Damages an object. Returns whether there was anything to damage in that way.
    fn happens_to(self, root: &Path, key: &str) -> bool {
        let path = root.join(key);
        let mut bytes = fs::read(&path).unwrap();
        if bytes.is_empty() && self != Self::Removed && self != Self::Doubled {
            return false;
        }
        let half = bytes.len() / 2;
        match self {
            Self::CutInHalf => bytes.truncate(half),
            Self::Emptied => bytes.clear(),
            Self::ABitFlipped => bytes[half] ^= 1,
            Self::Removed => {
                fs::remove_file(&path).unwrap();
                return true;
            }
            Self::Doubled => {
                // an attempt of another name; what has none, two attempts write alike
                let Some((front, attempt)) = key.rsplit_once(['.', '-', '/']) else { return false };
                let hexadecimal = attempt.len() == 16 && attempt.bytes().all(|byte| byte.is_ascii_hexdigit());
                let tags_version = key.contains("/tags/");
                if !hexadecimal || tags_version {
                    return false;
                }
                let joint = &key[front.len()..=front.len()];
                let double = root.join(format!("{front}{joint}{}", "0123456789abcdef"));
                fs::copy(&path, &double).unwrap();
                age_one(&double);
                return true;
            }
        }
        fs::write(&path, bytes).unwrap();
        age_one(&path);
        true
    }
}

/// Returns whether a key is a wish for a lease. Wishes have no content, and each server and scrub adds its own.
fn is_wish(key: &str) -> bool {
    key.starts_with("leases/")
}

/// Returns the kind of an object, by its key.
fn kind(key: &str) -> &'static str {
    let last = key.rsplit_once('/').map_or(key, |(_, last)| last);
    let word = |word: &str| last.split('.').any(|part| part == word);
    match key.split('/').next().unwrap() {
        "data" => "data",
        "uploads" => "session",
        "catalog" => "catalog",
        "blobs" if last.starts_with("copy.") => "copy",
        "blobs" if last.starts_with("link.") => "link",
        "blobs" if last.starts_with("unlinked.") => "unlinked",
        "blobs" if last.starts_with("pin.") => "pin",
        "repos" if key.contains("/tags/") => {
            if word("not") {
                "tag gone"
            } else {
                "tag"
            }
        }
        "repos" if key.contains("/referrers/") => {
            if word("not") {
                "referrer gone"
            } else {
                "referrer"
            }
        }
        "repos" if last.starts_with("index-ref.") => "index reference",
        "repos" if last.starts_with("pending-delete.") => "pending delete",
        "repos" if key.contains("/manifests/") => {
            if word("rm") {
                "manifest gone"
            } else {
                "manifest"
            }
        }
        "repos" if key.contains("/history/") => "history",
        "repos" if key.contains("/tag-claims/") => "claim of a tag",
        "repos" if key.contains("/manifest-claims/") => "claim of a manifest",
        "repos" if key.contains("/pulls/") => "pulls",
        "pulls-recorded-since" => "pulls since",
        "format" => "format",
        other => panic!("{key}: what is {other}?"),
    }
}

/// Returns whether the loss of a record leaves a whole store, which says something else. Nothing in the store
/// contradicts such a loss.
fn says_something_else_when_removed(kind: &str) -> bool {
    matches!(
        kind,
        "tag"
            | "tag gone"
            | "manifest gone"
            | "session"
            | "pending delete"
            | "unlinked"
            | "link"
            | "history"
            | "claim of a tag"
            | "claim of a manifest"
            | "pulls"
            | "pulls since"
            | "referrer gone"
    )
}

#[tokio::test]
async fn a_store_that_nobody_damaged_has_nothing_wrong() {
    let store = full().await;
    let before = view(store.path()).await;
    for _ in 0..3 {
        let (summary, told) = scrub(store.path(), false).await.unwrap();
        assert_eq!(told.findings().iter().map(|finding| &finding.says).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(summary.is_clean());
        assert_eq!(view(store.path()).await, before, "no client sees that it was there");
        age(store.path());
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing_whatever_is_wrong() {
    let store = full().await;
    for (at, key) in keys(store.path()).into_iter().filter(|key| key != "format" && !is_wish(key)).enumerate() {
        if at % 3 == 0 {
            let _ = DAMAGES[at / 3 % DAMAGES.len()].happens_to(store.path(), &key);
        }
    }
    let before = content(store.path());
    let (_, told) = scrub(store.path(), true).await.unwrap();
    assert!(told.findings().iter().all(|finding| finding.outcome == Outcome::DryRun));
    assert!(!told.findings().is_empty());
    assert_eq!(content(store.path()), before);
}

/// Returns a few objects of each kind with every damage. The store has more objects of some kinds, which differ in nothing.
fn cases(root: &Path, of_a_kind: usize) -> Vec<(String, Damage)> {
    let mut of_kind: HashMap<&'static str, usize> = HashMap::new();
    let few = keys(root).into_iter().filter(|key| !is_wish(key) && kind(key) != "format").filter(|key| {
        let number = of_kind.entry(kind(key)).or_default();
        *number += 1;
        *number <= of_a_kind
    });
    few.flat_map(|key| DAMAGES.map(|damage| (key.clone(), damage))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_at_once_and_what_is_not_cannot_be_told_from_a_push_or_delete_under_way() {
    use futures::StreamExt as _;
    let store = full().await;
    let root = store.path();
    // a push writes a blob copy after its bytes, and a referrer after its manifest; a delete writes the tombstones of tags and
    // referrers before that of their manifest
    let may_be_under_way = |key: &str, damage: Damage| {
        let written_later = ["copy", "referrer", "manifest gone", "referrer gone", "tag gone"].contains(&kind(key));
        damage == Damage::Removed && written_later
    };
    let case = async |(key, damage): (String, Damage)| -> Option<String> {
        let damaged = [copy(root), copy(root)];
        if !damaged.iter().all(|copy| damage.happens_to(copy.path(), &key)) {
            return None;
        }
        rejuvenate(damaged[0].path());
        let (summary, told) = scrub(damaged[0].path(), false).await.unwrap();
        if !told.news().is_empty() || (may_be_under_way(&key, damage) && summary.too_young > 0) {
            return None;
        }
        let (_, old) = scrub(damaged[1].path(), false).await.unwrap();
        let told = old.news();
        (!told.is_empty())
            .then(|| format!("{damage:?} {} {key}: nobody was told while it is young: {told:?}", kind(&key)))
    };
    let each = futures::stream::iter(cases(root, 2)).map(case);
    let failed: Vec<String> = each.buffer_unordered(4).filter_map(std::future::ready).collect().await;
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_told_once_and_what_is_not_told_nobody_can_tell() {
    use futures::StreamExt as _;
    let store = full().await;
    let root = store.path();
    let sound = view(root).await;
    let case = async |(key, damage): (String, Damage)| -> Option<String> {
        let damaged = copy(root);
        let at = damaged.path();
        if !damage.happens_to(at, &key) {
            return None;
        }
        let what = format!("{damage:?} {} {key}", kind(&key));
        let told = match scrub(at, false).await {
            Ok((_, told)) => told.news(),
            Err(error) => return Some(format!("{what}: the run failed: {error}")),
        };
        let seen = view(at).await;
        let changed: Vec<_> = sound.iter().filter(|(asked, was)| seen.get(*asked) != Some(*was)).collect();
        // nothing says of an image that nothing names that there was one
        let digest = key.rsplit('/').nth(1).unwrap_or_default();
        let named = sound.iter().any(|(asked, was)| !asked.starts_with("blob ") && was.contains(digest));
        let unnamed = kind(&key) == "manifest" && !named;
        let may_change = damage == Damage::Removed && (unnamed || says_something_else_when_removed(kind(&key)));
        if told.is_empty() && !changed.is_empty() && !may_change {
            return Some(format!("{what}: nobody was told, and clients see it: {changed:?}"));
        }
        age(at);
        match scrub(at, false).await {
            Err(error) => return Some(format!("{what}: the second run failed: {error}")),
            Ok((_, again)) if !again.news().is_empty() => {
                return Some(format!("{what}: told {told:?}, and the second run finds {:?}", again.news()));
            }
            Ok(_) => {}
        }
        let later = view(at).await;
        (later != seen).then(|| format!("{what}: the second run changed what clients see, from {seen:?} to {later:?}"))
    };
    let failed: Vec<String> = futures::stream::iter(cases(root, OF_A_KIND))
        .map(case)
        .buffer_unordered(4)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn a_lost_manifest_comes_back_alone_however_often_scrub_ran() {
    for lost in ["an image", "an image of an index", "an index"] {
        let directory = tempfile::tempdir().unwrap();
        let (root, app) = (directory.path(), name("team/app"));
        let tags: &[&str] = if lost == "an image" { &["v1"] } else { &[] };
        let before = server(root).await;
        let image = push_image(&before, &app, "one", tags, None).await;
        let index = if lost == "an image" { image } else { push_index(&before, &app, &image, &["v1"]).await };
        drop(before);
        age(root);
        let digest = if lost == "an index" { index } else { image };
        let key =
            keys(root).into_iter().find(|key| key.contains(&format!("{}/", digest.hex())) && key.contains(".put."));
        let file = root.join(key.unwrap());
        let backup = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let mut config = config();
        (config.scrub.untagged, config.scrub.untagged_grace) = (Untagged::Delete, Duration::ZERO);
        for _ in 0..3 {
            scrub_with(root, &config, |_| {}).await.unwrap();
            age(root);
        }
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, backup).unwrap();
        let after = server(root).await;
        for digest in [index, image] {
            let got = after.manifests.get(&app, &Reference::Digest(digest)).await;
            assert!(got.is_ok(), "{lost} was lost: {got:?}");
        }
        for bytes in ["{\"config\":\"one\"}".to_owned(), "the layer of one".repeat(100)] {
            let read = read(&after, &app, &sha256(bytes.as_bytes())).await;
            assert!(read.is_ok(), "{lost} was lost: {read:?}");
        }
    }
}
