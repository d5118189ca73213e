//! Lines to record, files to record them in, and what is in there afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use simple_registry::audit::{Audit, Event, Gathered, Kept, Line, NotRecording};
use simple_registry::config::{self, AuditFile, OnAuditError};
use simple_registry::identity::Facts;

/// As the configuration has them without a key, but to a file.
pub(crate) fn options(file: &Path) -> config::Audit {
    config::Audit {
        file: AuditFile::File(file.to_owned()),
        max_size: 100 << 20,
        max_age: Duration::ZERO,
        keep_age: Duration::ZERO,
        max_total_size: None,
        on_error: OnAuditError::Deny,
    }
}

/// Records a line that says `message`.
pub(crate) fn record(audit: &Audit, message: &str) -> Result<(), NotRecording> {
    gather(audit, message).map_or(Ok(()), Gathered::write)
}

/// Takes a line that says `message`, to be written with others.
pub(crate) fn gather(audit: &Audit, message: &str) -> Option<Gathered> {
    let request = json!({"action": "get-manifest", "namespace": "prod/app", "reference": "v1"});
    let line = Line {
        event: Event::Decision,
        request_id: "id",
        identity: &Facts::default(),
        request: &request,
        tag_count: None,
        upload_owner_unknown: false,
        image: None,
        provisional: false,
        cache: None,
        upstream: None,
        decided_at: None,
        decision: "allow",
        policy: None,
        rule: None,
        policy_sha256: None,
        message: Some(message),
        status: 200,
    };
    audit.gather(&line, Kept::ByAge).unwrap()
}

/// Returns the lines of a file. Fails the test unless each is whole.
#[track_caller]
pub(crate) fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "{} ends in the middle of a line", file.display());
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Returns the messages of the lines of a file, or the events of lines without a message.
#[track_caller]
pub(crate) fn messages(file: &Path) -> Vec<String> {
    let said = |line: &Value| line["message"].as_str().or(line["event"].as_str()).unwrap().to_owned();
    lines(file).iter().map(said).collect()
}

/// Returns the files beside `file` that were put aside, oldest first.
pub(crate) fn aside(file: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.", file.file_name().unwrap().to_str().unwrap());
    let entries = fs::read_dir(file.parent().unwrap()).unwrap();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix))
        .filter(|path| path.extension().is_none_or(|end| end != "anonymous"))
        .collect();
    found.sort();
    found
}
