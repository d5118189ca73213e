//! The recipe for a copy of the files, as `docs/how-to/run-in-production.md` has it: it is run, word for word.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use simple_registry::{action::Page, oci::Reference, storage::ROOTS};

use crate::scrub::world::{full, keys, name, push_image, push_index, server};

/// Returns the commands of the page that copy the files of the store into `archive`.
fn recipe(archive: &Path) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/how-to/run-in-production.md")).unwrap();
    let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let begin = lines.iter().position(|line| line.starts_with("( find ")).expect("the page has the recipe");
    let length = lines[begin..].iter().position(|line| line.contains("| tar ")).expect("it ends in tar") + 1;
    let text = lines[begin..begin + length].join("\n");
    assert!(text.contains("/backup/registry.tar"), "{text}");
    text.replace("/backup/registry.tar", &archive.display().to_string())
}

/// Copies the store in `root`. Returns the keys of the copy in the order in which they were copied.
fn back_up(root: &Path, archive: &Path) -> Vec<String> {
    // not in a pipe of its own: what is gone meanwhile is no failure
    let done = Command::new("sh").arg("-c").arg(recipe(archive)).current_dir(root).output().unwrap();
    let listed = Command::new("tar").arg("-tf").arg(archive).output().unwrap();
    assert!(listed.status.success(), "{done:?} {listed:?}");
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_recipe_copies_every_key_and_what_names_before_what_is_named() {
    let store = full().await;
    let root = store.path();
    // a store without damage has nothing below some prefixes of the layout
    for prefix in ROOTS {
        if !keys(root).iter().any(|key| key.starts_with(prefix)) {
            fs::create_dir_all(root.join(prefix)).unwrap();
            fs::write(root.join(prefix).join("some"), "{}").unwrap();
        }
    }
    fs::create_dir_all(root.join(".tmp")).unwrap();
    fs::write(root.join(".tmp/half"), "half").unwrap();
    let beside = tempfile::tempdir().unwrap();
    let copied = back_up(root, &beside.path().join("copy.tar"));
    let mut sorted = copied.clone();
    sorted.sort();
    assert_eq!(sorted, keys(root), "every key once, and no other");
    let rank = |key: &String| match key.split('/').next().unwrap() {
        "repos" if key.contains("!/tags/") => Some(0),
        "repos" if key.contains("!/manifests/") => Some(2),
        "repos" => Some(1),
        "blobs" => Some(3),
        "data" => Some(4),
        _ => None,
    };
    let ranks: Vec<i32> = copied.iter().filter_map(rank).collect();
    assert!(ranks.is_sorted(), "{copied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_while_pushes_run_has_all_that_its_tags_name() {
    let store = full().await;
    let root = store.path();
    let (stop, pushed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let pushers: Vec<_> = (0..3)
        .map(|pusher| {
            let (root, stop, pushed) = (root.to_owned(), Arc::clone(&stop), Arc::clone(&pushed));
            tokio::spawn(async move {
                let (server, app) = (server(&root).await, name(&format!("busy/{pusher}")));
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) && number < 100 {
                    let (own, index) = (format!("v{number}"), format!("i{number}"));
                    let image = push_image(&server, &app, &format!("{pusher} {number}"), &[&own, "latest"], None).await;
                    push_index(&server, &app, &image, &[&index]).await;
                    number += 1;
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let (mut copies, mut checked) = (0, 0);
    for _ in 0..6 {
        let before = pushed.load(Ordering::Relaxed);
        let beside = tempfile::tempdir().unwrap();
        let (from, archive) = (root.to_owned(), beside.path().join("copy.tar"));
        let to = archive.clone();
        tokio::task::spawn_blocking(move || back_up(&from, &to)).await.unwrap();
        let restored = beside.path().join("restored");
        fs::create_dir(&restored).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(&archive).current_dir(&restored).status().unwrap();
        assert!(unpacked.success());
        checked += check(&restored).await;
        copies += u32::from(pushed.load(Ordering::Relaxed) > before);
        if copies == 2 {
            break;
        }
    }
    assert!(copies > 0 && checked > 0, "no push ended while a copy was taken");
    stop.store(true, Ordering::Relaxed);
    for pusher in pushers {
        pusher.await.unwrap();
    }
}

/// Reads everything that the tags of a restored store name. Returns the number of tags.
async fn check(root: &Path) -> usize {
    let server = server(root).await;
    let mut tags = 0;
    for repository in server.catalog.list(&Page { n: None, last: None }, &[""], |_| true).await.unwrap().entries {
        for tag in server.tags.list(&repository, &Page { n: None, last: None }).await.unwrap().entries {
            tags += 1;
            let mut left = vec![Reference::Tag(tag)];
            while let Some(reference) = left.pop() {
                let manifest = server.manifests.get(&repository, &reference).await;
                let manifest = manifest.unwrap_or_else(|error| panic!("{repository} {reference}: {error}"));
                let parsed =
                    simple_registry::oci::Manifest::parse(Some(&manifest.media_type), &manifest.bytes).unwrap();
                for blob in parsed.blobs {
                    let read = crate::scrub::world::read(&server, &repository, &blob.digest).await;
                    assert_eq!(read.unwrap_or_else(|error| panic!("{repository} {reference}: {error}")), blob.digest);
                }
                left.extend(parsed.children.into_iter().map(|child| Reference::Digest(child.digest)));
            }
        }
    }
    tags
}
