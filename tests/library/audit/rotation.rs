//! Files that are put aside, by the record itself or by somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use simple_registry::audit::Audit;
use simple_registry::config;

use crate::audit::support::{aside, lines, messages, options, record};
use crate::support::wait_until;

const DAY: Duration = Duration::from_hours(24);

/// Returns the length of a line of [`record`]'s with a message of one character.
fn line_length() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    record(&Audit::open(&options(&file)).unwrap(), "0").unwrap();
    fs::metadata(&file).unwrap().len()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_file_that_would_grow_too_large_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let options = config::Audit { max_size: 3 * line_length(), ..options(&file) };
    let audit = Audit::open(&options).unwrap();
    for message in ["0", "1", "2", "3", "4", "5", "6"] {
        record(&audit, message).unwrap();
    }
    assert_eq!(messages(&file), ["6"]);
    let aside = aside(&file);
    assert_eq!(aside.len(), 2);
    assert_eq!(messages(&aside[0]), ["0", "1", "2"]);
    assert_eq!(messages(&aside[1]), ["3", "4", "5"]);
    // audit.jsonl.20260131T093000.123Z
    let time = name(&aside[0]).strip_prefix("audit.jsonl.").unwrap();
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", time).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    let age = Timestamp::now().duration_since(time.unwrap().timestamp());
    assert!(age < SignedDuration::from_secs(60) && age > SignedDuration::from_secs(-1), "{age:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // What is there counts after a restart, too.
    drop(audit);
    let audit = Audit::open(&options).unwrap();
    for message in ["7", "8", "9"] {
        record(&audit, message).unwrap();
    }
    assert_eq!(messages(&file), ["9"]);
}

#[test]
fn a_line_that_is_larger_than_a_file_may_be_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&config::Audit { max_size: 1, ..options(&file) }).unwrap();
    for message in ["0", "1", "2"] {
        record(&audit, message).unwrap();
    }
    let aside = aside(&file);
    assert_eq!(
        (messages(&aside[0]), messages(&aside[1]), messages(&file)),
        (vec!["0".into()], vec!["1".into()], vec!["2".into()])
    );
}

#[test]
fn nothing_is_overwritten_and_the_names_are_in_order() {
    const LINES: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let options = config::Audit { max_size: 1, ..options(&file) };
    // Several in one millisecond, and by a second process in the same one.
    for half in 0..2 {
        let audit = Audit::open(&options).unwrap();
        for line in 0..LINES / 2 {
            record(&audit, &format!("{:03}", half * LINES / 2 + line)).unwrap();
        }
    }
    let files = [aside(&file), vec![file]].concat();
    let said: Vec<String> = files.iter().flat_map(|file| messages(file)).collect();
    assert_eq!(said, (0..LINES).map(|line| format!("{line:03}")).collect::<Vec<_>>());
}

#[test]
fn an_old_file_is_put_aside_by_the_next_line() {
    for (age, expected) in [(23, 0), (25, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let first = Timestamp::now() - SignedDuration::from_hours(age);
        fs::write(&file, format!("{{\"time\":\"{first:.3}\",\"event\":\"old\"}}\n")).unwrap();
        let audit = Audit::open(&config::Audit { max_age: DAY, ..options(&file) }).unwrap();
        record(&audit, "new").unwrap();
        assert_eq!(aside(&file).len(), expected, "after {age} hours");
        if expected == 1 {
            assert_eq!((messages(&aside(&file)[0]), messages(&file)), (vec!["old".into()], vec!["new".into()]));
        } else {
            assert_eq!(messages(&file), ["old", "new"]);
        }
        // Zero is never.
        let audit = Audit::open(&options(&file)).unwrap();
        record(&audit, "newer").unwrap();
        assert_eq!(aside(&file).len(), expected);
    }
}

#[test]
fn the_oldest_are_deleted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let others = [
        "audit.jsonl.20200101T000000.000Z.gz",
        "audit.jsonl.bak",
        "audit.jsonl.20200101T000000Z",
        "other.20200101T000000.000Z",
    ];
    for other in others {
        fs::write(dir.path().join(other), "").unwrap();
    }
    // put aside a day ago, and an hour less
    let at = |hours: i64| {
        let time = Timestamp::now().checked_sub(SignedDuration::from_hours(hours)).unwrap();
        dir.path().join(time.strftime("audit.jsonl.%Y%m%dT%H%M%S.000Z").to_string())
    };
    let (old, young) = (at(24), at(23));
    for aside in [&old, &young] {
        fs::write(aside, "{\"event\":\"aside\"}\n").unwrap();
    }
    let keep_age = Duration::from_hours(24);
    let audit = Audit::open(&config::Audit { max_size: 1, keep_age, ..options(&file) }).unwrap();
    for message in ["0", "1", "2", "3", "4"] {
        record(&audit, message).unwrap();
    }
    for other in others {
        assert!(dir.path().join(other).exists(), "{other}");
    }
    assert!(!old.exists() && young.exists());
    let kept: Vec<_> = aside(&file).into_iter().filter(|path| !others.contains(&name(path))).collect();
    let said: Vec<_> = kept.iter().filter(|file| **file != young).map(|file| messages(file)).collect();
    assert_eq!(said, [["0"], ["1"], ["2"], ["3"]]);
    assert_eq!(messages(&file), ["4"]);
}

#[test]
fn a_record_that_has_its_total_size_fails_until_somebody_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let max_total_size = Some(10 * line_length());
    let audit = Audit::open(&config::Audit { max_size: 1, max_total_size, ..options(&file) }).unwrap();
    for _ in 0..10 {
        record(&audit, "0").unwrap();
    }
    let refused = record(&audit, "0").unwrap_err().to_string();
    assert!(refused.contains("audit.max_total_size"), "{refused}");
    assert_eq!(aside(&file).len(), 10);
    fs::remove_file(&aside(&file)[0]).unwrap();
    fs::remove_file(&aside(&file)[0]).unwrap();
    wait_until("there is room", || audit.failing().is_none());
    assert_eq!(messages(&file), ["gap"]);
}

#[test]
fn a_record_that_reaches_four_fifths_of_its_total_size_warns_once() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("audit.jsonl"), dir.path().join("log"));
    let max_total_size = Some(10 * line_length());
    let audit = Audit::open(&config::Audit { max_total_size, ..options(&file) }).unwrap();
    let lines = Arc::new(fs::File::create(&log).unwrap());
    let warnings = || fs::read_to_string(&log).unwrap().matches("80% of audit.max_total_size").count();
    tracing::subscriber::with_default(tracing_subscriber::fmt().with_writer(lines).finish(), || {
        for number in 1..=10 {
            record(&audit, "0").unwrap();
            assert_eq!(warnings(), usize::from(number > 8), "after line {number} of 10");
        }
    });
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (file, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved"));
    let audit = Audit::open(&options(&file)).unwrap();
    record(&audit, "before").unwrap();
    fs::rename(&file, &moved).unwrap();
    let mut written = 1;
    wait_until("a new file", || {
        record(&audit, "after").unwrap();
        written += 1;
        file.exists()
    });
    // Those of the moment in between are in the one that was moved, and none is lost.
    assert_eq!(lines(&moved).len() + lines(&file).len(), written);
    assert_eq!(messages(&file).last().unwrap(), "after");
}

#[test]
fn a_file_that_was_copied_and_truncated_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let max_size = 100 * line_length();
    let audit = Audit::open(&config::Audit { max_size, ..options(&file) }).unwrap();
    for _ in 0..90 {
        record(&audit, "0").unwrap();
    }
    fs::write(&file, "").unwrap();
    record(&audit, "1").unwrap();
    assert_eq!(messages(&file), ["1"], "no hole before it");
    // Once it has looked, it knows how much room there is again.
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..90 {
        record(&audit, "1").unwrap();
    }
    assert_eq!((aside(&file).len(), messages(&file).len()), (0, 91));
}

#[test]
fn a_rotation_that_fails_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let file = inside.join("audit.jsonl");
    let audit = Audit::open(&config::Audit { max_size: 1, ..options(&file) }).unwrap();
    record(&audit, "0").unwrap();
    // The file has a name, but not the one by which it is to be put aside.
    let moved = dir.path().join("moved");
    fs::rename(&inside, &moved).unwrap();
    for message in ["1", "2"] {
        record(&audit, message).unwrap();
    }
    assert_eq!(messages(&moved.join("audit.jsonl")), ["0", "1", "2"]);
    assert_eq!(audit.failing(), None);
}
