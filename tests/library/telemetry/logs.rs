//! Log lines: their shape in JSON and in text, and what happens where they go.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::{fs, io::Read as _};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use simple_registry::telemetry::{self, LogFormat, LogOptions, LogOutput, TraceOptions};

use crate::telemetry::child;

/// A hostile value from a client: it tries to begin a line, to colour, ring and erase, to end the JSON.
const HOSTILE: &str = "a\nb\r\n{\"level\":\"ERROR\"}\t\u{0}\u{1b}[31m\u{7}\u{7f}\u{85}\u{2028}\"\\";

/// Returns the lines that `body` logs to a file with these options.
fn logged(format: LogFormat, level: &str, body: impl FnOnce()) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = LogOutput::File(file.path().to_owned());
    let options = LogOptions { output, format, level: level.to_owned() };
    let (dispatch, _guard) = telemetry::subscriber(&options, &TraceOptions::default()).unwrap();
    tracing::dispatcher::with_default(&dispatch, body);
    fs::read_to_string(file.path()).unwrap()
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_line_is_one_json_object_with_its_fields_at_the_top() {
    let before = jiff::Timestamp::now();
    let lines = logged(LogFormat::Auto, "info", || {
        tracing::info!(
            target: "simple_registry::http",
            request_id = "r-1",
            action = "get-manifest",
            repository = "library/app",
            identity = "anonymous",
            status = 200,
            bytes = 1024_u64,
            received = 0_u64,
            duration_ms = 1.25,
            client = %"192.0.2.7:51234",
            cached = true,
            "request"
        );
    });
    let [mut line] = <[Value; 1]>::try_from(objects(&lines)).unwrap();
    let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
    let timestamp = timestamp.as_str().unwrap();
    assert!(timestamp.ends_with('Z'), "{timestamp}");
    let at: jiff::Timestamp = timestamp.parse().unwrap();
    assert!(at.as_microsecond() >= before.as_microsecond() && at <= jiff::Timestamp::now(), "{timestamp}");
    let rest = json!({
        "level": "INFO", "target": "simple_registry::http", "message": "request",
        "request_id": "r-1", "action": "get-manifest", "repository": "library/app", "identity": "anonymous",
        "status": 200, "bytes": 1024, "received": 0, "duration_ms": 1.25, "client": "192.0.2.7:51234", "cached": true,
    });
    assert_eq!(line, rest);
}

#[test]
fn the_fields_of_enclosing_spans_are_left_out() {
    let lines = logged(LogFormat::Json, "trace", || {
        let _span = tracing::error_span!("span", secret = "in the span").entered();
        tracing::info!("inside");
    });
    assert_eq!(objects(&lines)[0]["message"], "inside");
    assert!(!lines.contains("in the span"), "{lines}");
}

#[test]
fn a_hostile_value_stays_within_its_line() {
    let error = std::io::Error::other(HOSTILE);
    let log = || {
        tracing::info!(plain = HOSTILE, display = %HOSTILE, debug = ?HOSTILE, %error, "message {HOSTILE}");
        tracing::info!("next");
    };

    let json = logged(LogFormat::Json, "info", log);
    let lines = objects(&json);
    assert_eq!(lines.len(), 2, "{json}");
    assert!(!json.lines().any(|line| line.contains(char::is_control)), "{json:?}");
    assert_eq!(lines[0]["plain"], HOSTILE);
    assert_eq!(lines[0]["display"], HOSTILE);
    assert_eq!(lines[0]["message"], format!("message {HOSTILE}"));
    assert_eq!(lines[0]["level"], "INFO");

    let text = logged(LogFormat::Text, "info", log);
    let lines: Vec<_> = text.split('\n').collect();
    assert_eq!(lines.len(), 3, "two lines and the end of the last: {text}");
    assert!(lines[1].ends_with("next") && lines[2].is_empty(), "{text}");
    assert!(!lines[0].contains(char::is_control), "{:?}", lines[0]);
    assert!(lines[0].contains(r"a\nb\r\n"), "{text}");
}

#[test]
fn the_level_decides_and_its_longest_target_first() {
    let count = |level| {
        let log = || {
            tracing::warn!(target: "other", "1");
            tracing::info!(target: "other", "2");
            tracing::debug!(target: "near", "3");
            tracing::debug!(target: "near::inner", "4");
        };
        logged(LogFormat::Json, level, log).lines().count()
    };
    for (level, lines) in [("info", 2), ("warn", 1), ("off", 0), ("debug", 4), ("warn,near=debug,near::inner=info", 2)]
    {
        assert_eq!(count(level), lines, "{level}");
    }
}

#[test]
fn the_environment_does_not_decide_the_level() {
    for (variable, value) in [("RUST_LOG", "off"), ("RUST_LOG", "trace"), ("NONE", "")] {
        let output = child::command("levels").env(variable, value).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let messages: Vec<_> = objects(&log).iter().map(|line| line["message"].clone()).collect();
        assert_eq!(messages, ["at error", "at info"], "{variable}={value}");
    }
}

#[test]
fn each_line_is_one_write() {
    // A datagram keeps what one write wrote apart from the next, which a pipe does not.
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut child = child::command("lines").stderr(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    let mut datagram = vec![0; 64 * 1024];
    for _ in 0..child::LINES {
        let length = ours.recv(&mut datagram).unwrap();
        let line = std::str::from_utf8(&datagram[..length]).unwrap();
        assert!(line.ends_with('\n'), "{line}");
        assert_eq!(objects(line).len(), 1, "{line}");
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_takes_nothing_with_it() {
    let mut child = child::command("lines").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    // Only now does the child begin to write.
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminal_gets_text_with_colours() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let terminal = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
    // Held open, so that what was written stays readable.
    let _open = File::options().read(true).write(true).open(&terminal).unwrap();

    let options = LogOptions { output: LogOutput::File(terminal), ..Default::default() };
    let (dispatch, _guard) = telemetry::subscriber(&options, &TraceOptions::default()).unwrap();
    tracing::dispatcher::with_default(
        &dispatch,
        || tracing::info!(answer = 42, title = %"\u{1b}]0;mine\u{7}", "for people"),
    );

    let mut line = [0; 1024];
    let length = File::from(master).read(&mut line).unwrap();
    let line = std::str::from_utf8(&line[..length]).unwrap();
    assert!(line.contains("for people answer=42") && !line.starts_with('{'), "{line}");
    assert!(line.contains("\u{1b}["), "{line}");
    assert!(!line.contains("\u{1b}]"), "a value commanded the terminal: {line:?}");
}

#[test]
fn a_file_is_appended_to() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "before\n").unwrap();
    let options = LogOptions { output: LogOutput::File(file.path().to_owned()), ..Default::default() };
    let (dispatch, _guard) = telemetry::subscriber(&options, &TraceOptions::default()).unwrap();
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("after"));
    let lines = fs::read_to_string(file.path()).unwrap();
    assert!(lines.starts_with("before\n{") && lines.lines().count() == 2, "{lines}");
}

#[test]
fn what_cannot_be_honoured_is_refused_and_named() {
    let refused = |output, level: &str| {
        let options = LogOptions { output, level: level.to_owned(), ..Default::default() };
        telemetry::subscriber(&options, &TraceOptions::default()).unwrap_err().to_string()
    };
    let missing = PathBuf::from("/nowhere/registry.log");
    assert!(refused(LogOutput::File(missing), "info").contains("`/nowhere/registry.log`"));
    assert!(refused(LogOutput::Stderr, "inof").contains("`inof`"));
}
