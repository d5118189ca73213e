//! Listings: their order, how little of a tree they read, and the cache of large directories.

use std::collections::BTreeSet;
use std::fs::{self, FileTimes};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use opendal::options::ListOptions;
use proptest::prelude::*;

use crate::disk::support::{Disk, list};

/// Components that sort on both sides of `/`, and begin with one another.
fn component() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a!", "a-", "a.b", "a0", "ab", "b", "b!", "~", "é"]).prop_map(str::to_owned)
}

/// Directories end in `d` and files do not, so that no key is the directory of another.
fn key() -> impl Strategy<Value = String> {
    (prop::collection::vec(component().prop_map(|name| name + "d"), 0..4), component()).prop_map(|(mut path, name)| {
        path.push(name);
        path.join("/")
    })
}

fn prefix() -> impl Strategy<Value = String> {
    (key(), 0..12_usize).prop_map(|(key, length)| key.chars().take(length).collect::<String>())
}

/// Returns the listing of a bucket with these keys.
fn model(keys: &BTreeSet<String>, prefix: &str, after: Option<&str>, recursive: bool) -> Vec<String> {
    let entries: BTreeSet<String> = keys
        .iter()
        .filter(|key| key.starts_with(prefix))
        .map(|key| match key[prefix.len()..].find('/') {
            Some(slash) if !recursive => key[..=prefix.len() + slash].to_owned(),
            _ => key.clone(),
        })
        .collect();
    entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn listings_are_those_of_the_sorted_set_of_keys(
        keys in prop::collection::btree_set(key(), 0..40),
        queries in prop::collection::vec((prefix(), prop::option::of(prop_oneof![key(), prefix()]), any::<bool>(), 1..9_usize), 1..20),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let disk = Disk::quick();
            for key in &keys {
                disk.operator.write(key, key.clone()).await.unwrap();
            }
            for (prefix, after, recursive, limit) in queries {
                let after = after.filter(|after| !after.is_empty());
                let options = ListOptions { recursive, start_after: after.clone(), limit: Some(limit), ..ListOptions::default() };
                let listed = list(&disk.operator, &prefix, options).await.unwrap();
                let expected = model(&keys, &prefix, after.as_deref(), recursive);
                prop_assert_eq!(&listed, &expected, "{:?} after {:?}, recursive: {}", prefix, after, recursive);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn entries_carry_size_and_time() {
    let disk = Disk::quick();
    disk.operator.write("a/b", "12345").await.unwrap();
    let entry = disk.operator.list("a/").await.unwrap().remove(0);
    let stat = disk.operator.stat("a/b").await.unwrap();
    assert_eq!(entry.metadata().content_length(), 5);
    assert!(stat.last_modified().is_some());
    assert_eq!(entry.metadata().last_modified(), stat.last_modified());
}

#[tokio::test]
async fn a_listing_reads_no_further_than_it_is_pulled() {
    let disk = Disk::quick();
    for directory in 0..500 {
        disk.operator.write(&format!("tree/{directory:03}/file"), "x").await.unwrap();
    }
    let lister = |start_after: Option<&str>, limit| {
        disk.operator.lister_options(
            "tree/",
            ListOptions {
                recursive: true,
                start_after: start_after.map(str::to_owned),
                limit,
                ..ListOptions::default()
            },
        )
    };
    let before = disk.stats.directories_read();
    let first = lister(None, Some(1)).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.path(), "tree/000/file");
    assert_eq!(disk.stats.directories_read() - before, 2, "the tree and its first directory");

    let before = disk.stats.directories_read();
    let next = lister(Some("tree/400/file"), Some(1)).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(next.path(), "tree/401/file");
    assert_eq!(
        disk.stats.directories_read() - before,
        3,
        "the tree, the directory it starts behind, and the one after"
    );

    let before = disk.stats.directories_read();
    let all: Vec<_> = lister(None, None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(all.len(), 500);
    assert_eq!(disk.stats.directories_read() - before, 501);
}

#[tokio::test]
async fn what_vanishes_during_a_listing_is_left_out() {
    let disk = Disk::quick();
    for directory in 0..100 {
        disk.operator.write(&format!("tree/{directory:03}/file"), "x").await.unwrap();
    }
    let options = ListOptions { recursive: true, limit: Some(1), ..ListOptions::default() };
    let mut lister = disk.operator.lister_options("tree/", options).await.unwrap();
    assert_eq!(lister.next().await.unwrap().unwrap().path(), "tree/000/file");
    fs::remove_dir_all(disk.root().join("tree/050")).unwrap();
    fs::remove_file(disk.root().join("tree/051/file")).unwrap();
    let rest: Vec<_> = lister.try_collect().await.unwrap();
    let paths: Vec<_> = rest.iter().map(opendal::Entry::path).collect();
    assert_eq!(paths.len(), 97);
    assert!(!paths.contains(&"tree/050/file") && !paths.contains(&"tree/051/file"));
}

/// Makes a directory whose last change is long ago. Nobody can set the time of its inode's change, so this waits for that.
async fn settled(disk: &Disk, names: usize) -> std::path::PathBuf {
    let directory = disk.root().join("large");
    fs::create_dir(&directory).unwrap();
    for name in 0..names {
        fs::write(directory.join(format!("{name:06}")), "").unwrap();
    }
    // The cache trusts a directory that has been quiet for two seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    directory
}

#[tokio::test]
async fn a_page_of_a_large_quiet_directory_does_not_read_it_again() {
    let disk = Disk::quick();
    let directory = settled(&disk, 2000).await;
    let page = |after: &'static str| {
        let options = ListOptions { start_after: Some(after.to_owned()), limit: Some(10), ..ListOptions::default() };
        let operator = disk.operator.clone();
        async move {
            let lister = operator.lister_options("large/", options).await.unwrap();
            lister.take(10).map_ok(|entry| entry.path().to_owned()).try_collect::<Vec<_>>().await.unwrap()
        }
    };
    assert_eq!(page("large/000009").await[0], "large/000010");
    let before = disk.stats.directories_read();
    assert_eq!(page("large/001500").await[0], "large/001501");
    assert_eq!(disk.stats.directories_read(), before, "read out of the cache");

    // A change is seen at once, even one that leaves the modification time as it was.
    let modified = fs::metadata(&directory).unwrap().modified().unwrap();
    fs::write(directory.join("001500-new"), "").unwrap();
    fs::File::open(&directory).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert_eq!(page("large/001500").await[0], "large/001500-new");
    fs::remove_file(directory.join("001501")).unwrap();
    assert_eq!(page("large/001500-new").await[0], "large/001502");

    // What changed a moment ago may change again without its times telling.
    let before = disk.stats.directories_read();
    page("large/001500").await;
    page("large/001500").await;
    assert_eq!(disk.stats.directories_read() - before, 2, "read each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_is_listed_right_while_names_come_and_go() {
    let disk = Disk::quick();
    let directory = settled(&disk, 2000).await;
    let began = SystemTime::now();
    let stop = Arc::new(AtomicBool::new(false));
    let racer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            // Quiet for longer than the cache waits, from time to time, so that it is used and must be given up again.
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                for name in 0..20 {
                    fs::write(directory.join(format!("{name:06}-{round}")), "").unwrap();
                }
                for name in 0..20 {
                    fs::remove_file(directory.join(format!("{name:06}-{round}"))).unwrap();
                }
                round += 1;
                if round % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2050));
                }
            }
        }
    });
    while began.elapsed().unwrap() < Duration::from_secs(8) {
        // What was written before a listing began is in it, and what was deleted before is not.
        disk.operator.write("large/mine", "x").await.unwrap();
        let with = list(&disk.operator, "large/", ListOptions::default()).await.unwrap();
        assert!(with.contains(&"large/mine".to_owned()));
        assert!(with.is_sorted());
        assert!(with.iter().filter(|path| path.len() == "large/000000".len()).count() == 2000);
        disk.operator.delete("large/mine").await.unwrap();
        let without = list(&disk.operator, "large/", ListOptions::default()).await.unwrap();
        assert!(!without.contains(&"large/mine".to_owned()));
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
}

#[tokio::test]
async fn hidden_files_and_names_that_are_no_text_are_not_listed() {
    use std::os::unix::ffi::OsStrExt as _;
    let disk = Disk::quick();
    disk.operator.write("a", "x").await.unwrap();
    fs::write(disk.root().join(".hidden"), "").unwrap();
    fs::write(disk.root().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    let mut writer = disk.operator.writer("b").await.unwrap();
    writer.write(vec![0; 3 << 20]).await.unwrap();
    assert_eq!(disk.temporaries(), 1);
    let options = ListOptions { recursive: true, ..ListOptions::default() };
    assert_eq!(list(&disk.operator, "/", options).await.unwrap(), ["a"]);
    writer.abort().await.unwrap();
}
