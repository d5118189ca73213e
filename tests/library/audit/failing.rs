//! Disks that are full, files that are gone, and how the record comes back.

use std::fs;
use std::path::Path;

use simple_registry::audit::Audit;
use simple_registry::config::{self, OnAuditError};

use crate::audit::support::{gather, lines, messages, options, record};
use crate::support::{alone_in_short_files, passes, wait_until};

const CASE: &str = "AUDIT_TEST_FILE";

fn open(file: &Path, on_error: OnAuditError) -> Audit {
    Audit::open(&config::Audit { on_error, ..options(file) }).unwrap()
}

#[test]
fn a_full_disk_refuses_requests() {
    let audit = open(Path::new("/dev/full"), OnAuditError::Deny);
    assert_eq!((audit.ready(), audit.failing()), (Ok(()), None), "nothing is known before the first line");
    let error = record(&audit, "lost").unwrap_err().to_string();
    assert!(error.contains("No space left on device") && error.contains("audit.on_error = \"deny\""), "{error}");
    assert!(audit.ready().is_err());
    assert!(audit.failing().unwrap().contains("No space left on device"));
    assert!(record(&audit, "lost").is_err());
    assert_eq!(audit.lost(), 2);
}

#[test]
fn each_request_whose_line_was_lost_with_others_is_refused() {
    let audit = open(Path::new("/dev/full"), OnAuditError::Deny);
    let [first, second] = ["first", "second"].map(|message| gather(&audit, message).unwrap());
    assert!(first.write().is_err());
    assert!(second.write().is_err());
}

#[test]
fn a_full_disk_lets_requests_go_on() {
    let audit = open(Path::new("/dev/full"), OnAuditError::Continue);
    assert_eq!(record(&audit, "lost"), Ok(()));
    assert_eq!(audit.ready(), Ok(()));
    assert!(audit.failing().unwrap().contains("No space left on device"));
    assert_eq!(record(&audit, "lost"), Ok(()));
}

#[test]
fn a_disk_that_fills_up_and_is_emptied() {
    for on_error in ["deny", "continue"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        // A limit to the length of files is like a disk that has no more room, and a write up to it comes out short.
        let mut child = alone_in_short_files(concat!(module_path!(), "::fill_up"), 8);
        child.env(CASE, &file).env("AUDIT_TEST_ON_ERROR", on_error);
        passes(child);
    }
}

/// Nothing is half in the file, and when there is room again the record says how many lines are missing.
#[test]
#[ignore = "run by another test, in a process of its own that may write only little"]
fn fill_up() {
    let file = std::path::PathBuf::from(std::env::var_os(CASE).expect("set by the other test"));
    let deny = std::env::var("AUDIT_TEST_ON_ERROR").unwrap() == "deny";
    let audit = open(&file, if deny { OnAuditError::Deny } else { OnAuditError::Continue });
    let mut written = 0;
    while audit.failing().is_none() {
        let outcome = record(&audit, &format!("line {written} {}", "x".repeat(300)));
        if audit.failing().is_none() {
            outcome.unwrap();
            written += 1;
            assert!(written < 1000, "the limit was never met");
        } else {
            assert_eq!(outcome.is_err(), deny);
        }
    }
    assert!(written > 2);
    assert_eq!(lines(&file).len(), written, "the half line is cut off again");
    let text = fs::read(&file).unwrap();
    let mut lost = 1;
    for _ in 0..5 {
        assert_eq!(record(&audit, "lost").is_err(), deny);
        lost += 1;
    }
    assert_eq!(fs::read(&file).unwrap(), text);

    // Room: the old file is moved away, as somebody who cleans up would.
    let moved = file.with_extension("moved");
    fs::rename(&file, &moved).unwrap();
    if deny {
        wait_until("ready again", || audit.ready().is_ok());
    } else {
        wait_until("recording again", || audit.failing().is_none());
    }
    assert_eq!((audit.failing(), audit.ready()), (None, Ok(())));
    record(&audit, "back").unwrap();
    assert_eq!(fs::read(&moved).unwrap(), text);
    assert_eq!(messages(&file), ["gap", "back"]);
    let gap = &lines(&file)[0];
    assert_eq!(gap["lost"], lost);
    assert!(gap["cause"].as_str().unwrap().contains("File too large"), "{gap}");
    assert!(gap["since"].as_str().unwrap() <= gap["time"].as_str().unwrap(), "{gap}");
    let order: Vec<&String> = gap.as_object().unwrap().keys().collect();
    assert_eq!(order.len(), 5, "{order:?}");
}

#[test]
fn a_file_that_was_deleted_with_its_directory_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let file = inside.join("audit.jsonl");
    let audit = open(&file, OnAuditError::Deny);
    record(&audit, "before").unwrap();
    fs::remove_dir_all(&inside).unwrap();
    wait_until("a refusal", || record(&audit, "nowhere").is_err());
    assert!(audit.failing().unwrap().contains("No such file"), "{:?}", audit.failing());
    fs::create_dir(&inside).unwrap();
    wait_until("ready again", || audit.ready().is_ok());
    record(&audit, "after").unwrap();
    assert_eq!(messages(&file), ["gap", "after"]);
}

#[test]
fn who_is_asked_for_nothing_but_readiness_becomes_ready() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let file = inside.join("audit.jsonl");
    let audit = open(&file, OnAuditError::Deny);
    record(&audit, "before").unwrap();
    fs::remove_dir_all(&inside).unwrap();
    wait_until("a refusal", || record(&audit, "nowhere").is_err());
    fs::create_dir(&inside).unwrap();
    wait_until("not failing", || audit.failing().is_none());
    assert_eq!(messages(&file), ["gap"]);
}
