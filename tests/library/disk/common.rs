//! Promises that a directory and a bucket have in common.

use std::collections::BTreeMap;

use opendal::options::{ListOptions, WriteOptions};
use opendal::{ErrorKind, Operator};

use crate::disk::support::{Disk, list, memory, pattern};

async fn objects_come_back_as_written(operator: Operator) {
    for (key, length) in [("empty", 0), ("one", 1), ("a/b/!mark", 700), ("lib!", 1 << 20), ("big", 5_000_001)] {
        let bytes = pattern(length);
        let written = operator.write(key, bytes.clone()).await.unwrap();
        assert_eq!(written.content_length(), length as u64);
        assert_eq!(operator.read(key).await.unwrap().to_vec(), bytes, "{key}");
        assert_eq!(operator.stat(key).await.unwrap().content_length(), length as u64);
    }
    operator.write("one", "another").await.unwrap();
    assert_eq!(operator.read("one").await.unwrap().to_vec(), b"another");
}

async fn streams_come_back_as_written(operator: Operator) {
    for piece in [1_000, 16 * 1024, 100_000, 1 << 20, 3_000_000] {
        let bytes = pattern(4_500_000);
        let mut writer = operator.writer("streamed").await.unwrap();
        for piece in bytes.chunks(piece) {
            writer.write(piece.to_vec()).await.unwrap();
        }
        writer.close().await.unwrap();
        assert!(operator.read("streamed").await.unwrap().to_vec() == bytes, "in pieces of {piece}");
    }
}

async fn ranges_are_exact(operator: Operator) {
    let bytes = pattern(3_000_000);
    operator.write("object", bytes.clone()).await.unwrap();
    for (start, end) in [(0, 1), (0, 3_000_000), (1_048_575, 1_048_577), (2_999_999, 3_000_000), (7, 2_500_000), (5, 5)]
    {
        let read = operator.read_with("object").range(start..end).await.unwrap().to_vec();
        assert!(read == bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()], "{start}..{end}");
        let reader = operator.reader("object").await.unwrap();
        assert!(reader.read(start..end).await.unwrap().to_vec() == read, "{start}..{end}");
    }
    assert!(operator.read_with("object").range(1_000_000..).await.unwrap().to_vec() == bytes[1_000_000..]);
    assert!(
        operator.read_with("object").range(opendal::BytesRange::suffix(10)).await.unwrap().to_vec()
            == bytes[2_999_990..]
    );
    let past = operator.read_with("object").range(2_999_999..3_000_001).await.unwrap_err();
    assert_eq!(past.kind(), ErrorKind::RangeNotSatisfied);
    let beyond = operator.read_with("object").range(4_000_000..4_000_001).await.unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::RangeNotSatisfied);
}

async fn what_is_not_there_is_not_found(operator: Operator) {
    operator.write("a/b", "x").await.unwrap();
    for key in ["b", "a", "a/c", "a/b/c", "c/d/e"] {
        assert_eq!(operator.read(key).await.unwrap_err().kind(), ErrorKind::NotFound, "{key}");
        assert_eq!(operator.stat(key).await.unwrap_err().kind(), ErrorKind::NotFound, "{key}");
    }
    assert!(operator.stat("a/").await.unwrap().is_dir());
    assert_eq!(operator.stat("z/").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn deleting_is_idempotent(operator: Operator) {
    operator.write("a/b", "x").await.unwrap();
    operator.write("a/c", "y").await.unwrap();
    operator.delete("a/b").await.unwrap();
    for gone in ["a/b", "a", "a/", "nowhere/at/all", "a/c/d"] {
        operator.delete(gone).await.unwrap();
    }
    assert_eq!(operator.read("a/b").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(operator.read("a/c").await.unwrap().to_vec(), b"y");
    operator.write("a/b", "again").await.unwrap();
    assert_eq!(operator.read("a/b").await.unwrap().to_vec(), b"again");
}

async fn of_racing_creators_one_wins(operator: Operator) {
    for race in 0..300 {
        let key = format!("races/{}/{race}", race % 7);
        let racers: Vec<_> = (0..16)
            .map(|racer| {
                let (operator, key) = (operator.clone(), key.clone());
                tokio::spawn(async move {
                    let options = WriteOptions { if_not_exists: true, ..WriteOptions::default() };
                    let outcome = operator.write_options(&key, format!("racer {racer}"), options).await;
                    let seen = operator.read(&key).await.unwrap().to_vec();
                    (racer, outcome, seen)
                })
            })
            .collect();
        let mut won = Vec::new();
        let mut seen = BTreeMap::new();
        for racer in racers {
            let (racer, outcome, content) = racer.await.unwrap();
            match outcome {
                Ok(_) => won.push(racer),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConditionNotMatch, "{error}"),
            }
            *seen.entry(content).or_insert(0) += 1;
        }
        assert_eq!(won.len(), 1, "race {race}");
        assert_eq!(seen, BTreeMap::from([(format!("racer {}", won[0]).into_bytes(), 16)]), "race {race}");
    }
}

async fn prefixes_are_of_keys(operator: Operator) {
    for key in ["a", "ab", "b/a", "b/ab", "b/ab!/c", "b/ac/d", "b/b", "bb/c"] {
        operator.write(key, "x").await.unwrap();
    }
    let all = |recursive| ListOptions { recursive, ..ListOptions::default() };
    for (prefix, recursive, expected) in [
        ("b/a", true, vec!["b/a", "b/ab", "b/ab!/c", "b/ac/d"]),
        ("b/a", false, vec!["b/a", "b/ab", "b/ab!/", "b/ac/"]),
        ("b/ab", true, vec!["b/ab", "b/ab!/c"]),
        ("b", false, vec!["b/", "bb/"]),
        ("b/", true, vec!["b/a", "b/ab", "b/ab!/c", "b/ac/d", "b/b"]),
        ("a/", true, vec![]),
        ("none/at/all", true, vec![]),
        ("/", false, vec!["a", "ab", "b/", "bb/"]),
    ] {
        let mut listed = list(&operator, prefix, all(recursive)).await.unwrap();
        // Memory sorts directories as it finds them.
        listed.sort();
        assert_eq!(listed, expected, "{prefix}, recursive: {recursive}");
    }
}

macro_rules! on_both {
    ($($case:ident),*) => {
        mod disk {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let disk = super::Disk::quick();
                super::$case(disk.operator.clone()).await;
                disk.wait_for_no_temporaries().await;
            })*
        }
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::memory()).await;
            })*
        }
    };
}

on_both!(
    objects_come_back_as_written,
    streams_come_back_as_written,
    ranges_are_exact,
    what_is_not_there_is_not_found,
    deleting_is_idempotent,
    of_racing_creators_one_wins,
    prefixes_are_of_keys
);
