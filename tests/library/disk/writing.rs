//! Writing: what is left behind, what is synced, and what the async threads notice of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opendal::options::WriteOptions;
use simple_registry::storage::disk::DiskOptions;

use crate::disk::support::{Disk, pattern, prune};
use crate::support::MACHINE;

#[tokio::test]
async fn aborted_and_dropped_writers_leave_nothing() {
    let disk = Disk::new(DiskOptions::default());
    for length in [10, 1 << 20, 5 << 20, 70 << 20] {
        let mut writer = disk.operator.writer("object").await.unwrap();
        writer.write(vec![1; length]).await.unwrap();
        writer.abort().await.unwrap();
        assert_eq!(disk.temporaries(), 0, "aborted after {length}");

        let mut writer = disk.operator.writer("object").await.unwrap();
        writer.write(vec![1; length]).await.unwrap();
        drop(writer);
        disk.wait_for_no_temporaries().await;
    }
    assert!(disk.operator.list("/").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_write_that_was_cancelled_is_never_published() {
    let disk = Disk::quick();
    let mut writer = disk.operator.writer("object").await.unwrap();
    writer.write(pattern(100)).await.unwrap();
    // Polled once: some of the bytes are taken in, and the rest is lost with the future.
    let cancelled = futures::FutureExt::now_or_never(writer.write(pattern(8 << 20)));
    assert!(cancelled.is_none());
    writer.close().await.unwrap_err();
    assert!(!disk.operator.exists("object").await.unwrap());
    drop(writer);
    disk.wait_for_no_temporaries().await;
}

#[tokio::test]
async fn a_name_is_synced_with_every_directory_that_may_be_new() {
    let disk = Disk::new(DiskOptions::default());
    let syncs = || (disk.stats.file_syncs(), disk.stats.directory_syncs());
    disk.operator.write("a/b/c/one", "x").await.unwrap();
    assert_eq!(syncs(), (1, 4), "c, b, a and the root");
    disk.operator.write("a/b/c/two", "x").await.unwrap();
    assert_eq!(syncs(), (2, 5), "c alone: the others are known");
    disk.operator.write("a/b/d/one", "x").await.unwrap();
    assert_eq!(syncs(), (3, 7), "d and b");
    disk.operator.delete("a/b/d/one").await.unwrap();
    assert_eq!(syncs(), (3, 8), "d");

    // Made by somebody else, who may not have synced it yet.
    std::fs::create_dir_all(disk.root().join("a/e/f")).unwrap();
    disk.operator.write("a/e/f/one", "x").await.unwrap();
    assert_eq!(syncs(), (4, 11), "f, e and a");

    // Removed and made again: another directory, though under its old name.
    std::fs::remove_dir(disk.root().join("a/b/d")).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::fs::create_dir(disk.root().join("a/b/d")).unwrap();
    disk.operator.write("a/b/d/one", "x").await.unwrap();
    assert_eq!(syncs(), (5, 13), "d and b");
}

#[tokio::test]
async fn without_durability_nothing_is_synced() {
    let disk = Disk::quick();
    disk.operator.write("a/b", "x").await.unwrap();
    disk.operator.delete("a/b").await.unwrap();
    assert_eq!((disk.stats.file_syncs(), disk.stats.directory_syncs()), (0, 0));
}

#[tokio::test]
async fn a_long_body_is_synced_while_it_streams() {
    let disk = Disk::new(DiskOptions::default());
    let mut writer = disk.operator.writer("long").await.unwrap();
    for _ in 0..100 {
        writer.write(vec![7; 1 << 20]).await.unwrap();
    }
    let early = disk.stats.file_syncs();
    assert!(early >= 2, "{early} syncs in 100 MiB");
    writer.close().await.unwrap();
    assert_eq!(disk.operator.stat("long").await.unwrap().content_length(), 100 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_the_removal_of_empty_directories() {
    let disk = Disk::quick();
    let stop = Arc::new(AtomicBool::new(false));
    let pruner = std::thread::spawn({
        let (root, stop) = (disk.root(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                prune(&root);
            }
        }
    });
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let operator = disk.operator.clone();
            tokio::spawn(async move {
                for round in 0..200 {
                    let key = format!("a/{writer}/b/{}/c", round % 3);
                    let options = WriteOptions { if_not_exists: round % 2 == 0, ..WriteOptions::default() };
                    operator.write_options(&key, "x", options).await.unwrap();
                    assert_eq!(operator.read(&key).await.unwrap().to_vec(), b"x");
                    operator.delete(&key).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    pruner.join().unwrap();
}

/// Returns the delay of the latest of many timers while 64 MiB were written and synced.
async fn latest_tick_during_a_write() -> Duration {
    let disk = Disk::new(DiskOptions::default());
    let done = Arc::new(AtomicBool::new(false));
    let ticker = tokio::spawn({
        let done = done.clone();
        async move {
            let mut latest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                tokio::time::sleep(Duration::from_millis(5)).await;
                latest = latest.max(begun.elapsed());
            }
            latest
        }
    });
    let mut writer = disk.operator.writer("long").await.unwrap();
    for _ in 0..64 {
        writer.write(vec![3; 1 << 20]).await.unwrap();
        tokio::task::yield_now().await;
    }
    writer.close().await.unwrap();
    done.store(true, Ordering::Relaxed);
    ticker.await.unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn the_async_thread_goes_on_while_a_long_body_is_synced() {
    // The machine may be busy with something else; a sync on this thread would be late each time.
    let _turn = MACHINE.lock().await;
    let mut latest = Duration::MAX;
    for _ in 0..3 {
        latest = latest.min(latest_tick_during_a_write().await);
    }
    assert!(latest < Duration::from_millis(100), "a timer of 5 ms fired after {latest:?}");
}
