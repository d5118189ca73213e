//! Failures: each a clear error that names the key, and nothing left behind.

use std::error::Error as _;
use std::io;

use futures::TryStreamExt;
use opendal::ErrorKind;
use simple_registry::storage::disk::{DiskOptions, case_insensitive, operator};

use crate::disk::support::{Disk, pattern};
use crate::support::{alone_in_short_files, passes, wait_for_no_temporaries};

/// Set in the child that [`a_write_that_runs_out_of_space_leaves_nothing`] starts.
const CHILD: &str = "DISK_TEST_CHILD_ROOT";

#[tokio::test]
async fn keys_cannot_leave_the_directory() {
    let disk = Disk::quick();
    std::fs::write(disk.root().join("../outside"), "secret").unwrap();
    let long = "x".repeat(256);
    for key in ["../outside", "a/../../outside", "..", ".tmp/x", "a/.b", "a\0b", &long] {
        assert_eq!(disk.operator.read(key).await.unwrap_err().kind(), ErrorKind::ConfigInvalid, "{key:?}");
        assert_eq!(disk.operator.write(key, "x").await.unwrap_err().kind(), ErrorKind::ConfigInvalid, "{key:?}");
        assert_eq!(disk.operator.stat(key).await.unwrap_err().kind(), ErrorKind::ConfigInvalid, "{key:?}");
        assert_eq!(disk.operator.delete(key).await.unwrap_err().kind(), ErrorKind::ConfigInvalid, "{key:?}");
        assert_eq!(disk.operator.list(key).await.unwrap_err().kind(), ErrorKind::ConfigInvalid, "{key:?}");
    }
    disk.operator.write(&"x".repeat(255), "x").await.unwrap();
    assert_eq!(std::fs::read(disk.root().join("../outside")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_file_that_is_cut_short_under_a_stream_is_an_error() {
    let disk = Disk::quick();
    disk.operator.write("object", pattern(10 << 20)).await.unwrap();
    for range in [0..10 << 20, 0..u64::MAX] {
        let reader = disk.operator.reader("object").await.unwrap();
        let mut stream = match range.end {
            u64::MAX => reader.into_stream(..).await.unwrap(),
            _ => reader.into_stream(range.clone()).await.unwrap(),
        };
        stream.try_next().await.unwrap().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(disk.root().join("object")).unwrap();
        file.set_len(4 << 20).unwrap();
        let error = loop {
            match stream.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if it were whole"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("cut short"), "{error}");
        file.set_len(10 << 20).unwrap();
    }
}

#[tokio::test]
async fn a_stream_goes_on_with_what_it_has_opened() {
    let disk = Disk::quick();
    let old = pattern(5 << 20);
    disk.operator.write("object", old.clone()).await.unwrap();
    let mut stream = disk.operator.reader("object").await.unwrap().into_stream(..).await.unwrap();
    let mut read = stream.try_next().await.unwrap().unwrap().to_vec();
    disk.operator.write("object", "replaced").await.unwrap();
    while let Some(block) = stream.try_next().await.unwrap() {
        read.extend(block.to_vec());
    }
    assert!(read == old);
}

#[tokio::test]
async fn an_object_cannot_be_a_directory_too() {
    let disk = Disk::quick();
    disk.operator.write("a/b", "x").await.unwrap();
    assert_eq!(disk.operator.write("a/b/c", "x").await.unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.operator.write("a", "x").await.unwrap_err().kind(), ErrorKind::IsADirectory);
    let exclusive = disk.operator.write_with("a", "x").if_not_exists(true).await.unwrap_err();
    assert_eq!(exclusive.kind(), ErrorKind::IsADirectory);
    disk.wait_for_no_temporaries().await;
}

#[tokio::test]
async fn a_root_that_is_no_directory_or_gone_is_a_fault_and_not_absence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = operator(&file, DiskOptions::default()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");

    let disk = Disk::quick();
    disk.operator.write("a", "x").await.unwrap();
    std::fs::remove_dir_all(disk.root()).unwrap();
    let faults = [
        disk.operator.read("a").await.unwrap_err(),
        disk.operator.stat("a").await.unwrap_err(),
        disk.operator.list("b/").await.unwrap_err(),
        disk.operator.write("a", "x").await.unwrap_err(),
        disk.operator.delete("a").await.unwrap_err(),
    ];
    for error in faults {
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
        assert!(error.to_string().contains("was deleted while in use"), "{error}");
    }
}

#[test]
fn a_file_system_says_whether_it_tells_case_apart() {
    let directory = tempfile::tempdir().unwrap();
    let same = case_insensitive(directory.path()).unwrap();
    std::fs::write(directory.path().join("a"), "").unwrap();
    assert_eq!(same, directory.path().join("A").exists());
    assert_eq!(std::fs::read_dir(directory.path().join(".tmp")).unwrap().count(), 0);
}

/// Runs this test again in a child whose files cannot grow beyond 1 or 2 MiB.
#[test]
fn a_write_that_runs_out_of_space_leaves_nothing() {
    if let Ok(root) = std::env::var(CHILD) {
        return tokio::runtime::Runtime::new().unwrap().block_on(write_too_much(root.as_ref()));
    }
    let directory = tempfile::tempdir().unwrap();
    let this = concat!(module_path!(), "::a_write_that_runs_out_of_space_leaves_nothing");
    let mut child = alone_in_short_files(this, 2048);
    child.env(CHILD, directory.path());
    passes(child);
    assert!(directory.path().join("small").exists(), "the child has written there");
}

async fn write_too_much(root: &std::path::Path) {
    let operator = operator(root, DiskOptions::default()).unwrap();
    operator.write("small", "x").await.unwrap();

    // In one write, and in a stream that fails in its middle.
    let error = operator.write("large", pattern(9 << 20)).await.unwrap_err();
    assert!(error.to_string().contains("\"large\""), "{error}");
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).expect("the cause is kept");
    assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);

    let mut writer = operator.writer("large").await.unwrap();
    let mut failed = 0;
    for _ in 0..9 {
        failed += i32::from(writer.write(vec![1; 1 << 20]).await.is_err());
    }
    assert!(failed > 0);
    writer.close().await.unwrap_err();
    drop(writer);

    assert!(!operator.exists("large").await.unwrap());
    wait_for_no_temporaries(root).await;
    operator.write("small", "goes on").await.unwrap();
}
