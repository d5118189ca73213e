//! The form of a line, and that many threads write whole ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::json;
use simple_registry::audit::{Audit, Deletion, Event, Kept, Line};
use simple_registry::config::AuditFile;
use simple_registry::identity::{Certificate, Facts};

use crate::audit::support::{gather, lines, messages, options, record};
use crate::support::{MACHINE, alone};

#[test]
fn a_line_has_this_form() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&options(&file)).unwrap();
    assert!(audit.is_on());
    let identity = Facts {
        id: "ana".to_owned(),
        username: "ana".to_owned(),
        groups: vec!["staff".to_owned()],
        client_ip: "192.0.2.7".to_owned(),
        certificate: Certificate { common_names: vec!["ci".to_owned()], ..Certificate::default() },
    };
    let request = json!({"action": "put-manifest"});
    let before = Timestamp::now();
    let line = Line {
        event: Event::Decision,
        request_id: "6f1c",
        identity: &identity,
        request: &request,
        tag_count: None,
        upload_owner_unknown: false,
        image: None,
        provisional: false,
        cache: None,
        upstream: None,
        decided_at: None,
        decision: "deny",
        policy: Some("prod.toml"),
        rule: Some("ci-pushes"),
        policy_sha256: Some("abc"),
        message: Some("only CI pushes \"here\""),
        status: 403,
    };
    audit.record(&line, Kept::ByAge).unwrap();
    let login = Line {
        event: Event::Login,
        decision: "allow",
        policy: None,
        rule: None,
        policy_sha256: None,
        message: None,
        status: 200,
        ..line
    };
    audit.record(&login, Kept::ByAge).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let (time, rest) = text.strip_prefix("{\"time\":\"").unwrap().split_at(24);
    let who = r#"{"id":"ana","username":"ana","groups":["staff"],"client_ip":"192.0.2.7","certificate":{"common_names":["ci"],"organizations":[],"organizational_units":[],"dns_names":[],"uris":[],"serial":"","fingerprint":"","not_before":"","not_after":""}}"#;
    let (first, second) = rest.split_once('\n').unwrap();
    assert_eq!(
        first,
        format!(
            r#"","event":"decision","request_id":"6f1c","identity":{who},"request":{{"action":"put-manifest"}},"decision":"deny","policy":"prod.toml","rule":"ci-pushes","policy_sha256":"abc","message":"only CI pushes \"here\"","status":403}}"#
        )
    );
    assert!(
        second.ends_with(&format!(
            r#"","event":"login","request_id":"6f1c","identity":{who},"request":{{"action":"put-manifest"}},"decision":"allow","policy":null,"rule":null,"policy_sha256":null,"message":null,"status":200}}{}"#,
            '\n'
        )),
        "{second}"
    );
    let time: Timestamp = time.parse().unwrap();
    let millisecond = jiff::SignedDuration::from_millis(1);
    assert!(before - millisecond <= time && time <= Timestamp::now(), "{time} is not now");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_deletion_has_the_form_of_the_reference_and_is_not_made_where_it_cannot_be_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let config = |record| {
        let scrub = simple_registry::config::Scrub { record, ..Default::default() };
        simple_registry::config::Config { audit: options(&file), scrub, ..Default::default() }
    };
    let deletion = Deletion { run: "5e0c", what: "tag", reason: "retention", size: 7, ..Deletion::default() };
    let record = Audit::open_deletions(&config(None)).unwrap();
    record.record_deletion(&deletion).unwrap();
    let beside = dir.path().join("audit.jsonl.scrub");
    let line = fs::read_to_string(&beside).unwrap();
    assert!(
        line.ends_with(concat!(
            r#"","event":"deletion","run":"5e0c","what":"tag","reason":"retention","repository":null,"reference":null,"#,
            r#""digest":null,"size":7,"policy":null,"rule":null,"policy_sha256":null,"by":null,"request_id":null,"#,
            r#""deleted_at":null}"#,
            "\n"
        )),
        "{line}"
    );
    assert!(!file.exists(), "the record of decisions is another file");
    let example =
        include_str!("../../../docs/reference/audit.md").lines().find(|line| line.contains("\"deletion\"")).unwrap();
    let keys = |text: &str| {
        let parts = text.trim().split("\":").map(|part| part.rsplit('"').next().unwrap().to_owned());
        parts.collect::<Vec<_>>()
    };
    assert_eq!(keys(example)[..16], keys(&line)[..16], "the reference has another line");
    let (off, elsewhere) = (AuditFile::Off, AuditFile::File(dir.path().join("nowhere/x")));
    assert!(!Audit::open_deletions(&config(Some(off))).unwrap().is_on());
    let error = Audit::open_deletions(&config(Some(elsewhere))).unwrap_err().to_string();
    assert!(error.starts_with("scrub.record: "), "{error}");
    // full, and the record of decisions would go on without
    let full = AuditFile::File("/dev/full".into());
    let mut config = config(Some(full));
    config.audit.on_error = simple_registry::config::OnAuditError::Continue;
    let refused = Audit::open_deletions(&config).unwrap().record_deletion(&deletion).unwrap_err();
    assert!(refused.contains("space"), "{refused}");
}

#[test]
fn no_value_begins_a_line_or_commands_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&options(&file)).unwrap();
    let hostile = "a\nb\r\u{1b}[2J\u{7f}\u{9b}31m\u{85}\u{2028}é\u{0}\"\\";
    record(&audit, hostile).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.trim_end_matches('\n').contains(char::is_control), "{text:?}");
    assert!(text.contains("é"), "what is no control character stays");
    assert_eq!(messages(&file), [hostile]);
}

#[test]
fn many_threads_write_whole_lines_in_the_order_of_their_times() {
    const THREADS: usize = 8;
    const LINES: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&options(&file)).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let audit = audit.clone();
            // Long and short ones, beyond what a pipe would take at once.
            let filler = "x".repeat(thread * 3000);
            threads.spawn(move || {
                (0..LINES).for_each(|line| record(&audit, &format!("{thread} {line} {filler}")).unwrap());
            });
        }
    });
    let lines = lines(&file);
    assert_eq!(lines.len(), THREADS * LINES);
    assert!(lines.is_sorted_by_key(|line| line["time"].as_str().unwrap().to_owned()));
    let mut next = [0; THREADS];
    for line in &lines {
        let mut words = line["message"].as_str().unwrap().split(' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (thread, line) = (number(), number());
        assert_eq!(line, next[thread], "the lines of one thread stay in order");
        next[thread] += 1;
    }
}

#[test]
fn a_line_is_in_the_file_when_it_is_recorded_and_is_quick() {
    const LINES: u32 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&options(&file)).unwrap();
    record(&audit, "first").unwrap();
    assert_eq!(messages(&file), ["first"]);
    let _turn = MACHINE.blocking_lock();
    let began = Instant::now();
    for _ in 0..LINES {
        record(&audit, "again").unwrap();
    }
    let each = began.elapsed() / LINES;
    println!("{each:?} a line");
    // An optimised build takes a few microseconds; this bound is for builds that are not, on machines that do much else.
    assert!(each < Duration::from_micros(500), "{each:?} a line");
}

#[test]
fn off_is_off() {
    let audit = Audit::open(&simple_registry::config::Audit { file: AuditFile::Off, ..options("".as_ref()) }).unwrap();
    assert!(!audit.is_on());
    record(&audit, "nowhere").unwrap();
    assert_eq!((audit.ready(), audit.failing()), (Ok(()), None));
}

#[test]
fn a_file_that_cannot_be_opened_is_named_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    for on_error in [simple_registry::config::OnAuditError::Deny, simple_registry::config::OnAuditError::Continue] {
        let options = simple_registry::config::Audit { on_error, ..options(&dir.path().join("nowhere/audit.jsonl")) };
        let error = Audit::open(&options).unwrap_err().to_string();
        assert!(
            error.starts_with("audit.file: ") && error.contains("nowhere/audit.jsonl cannot be opened: "),
            "{error}"
        );
    }
}

/// Standard output is the process's, so this one has a process of its own.
#[test]
fn standard_output_takes_lines() {
    const CASE: &str = "AUDIT_TEST_STDOUT";
    if std::env::var_os(CASE).is_some() {
        let audit =
            Audit::open(&simple_registry::config::Audit { file: AuditFile::Stdout, ..options("".as_ref()) }).unwrap();
        record(&audit, "one").unwrap();
        record(&audit, "two").unwrap();
        return;
    }
    let mut child = alone(concat!(module_path!(), "::standard_output_takes_lines"));
    let output = child.env(CASE, "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = text.lines().filter_map(|line| line.find("{\"time\":").map(|at| &line[at..])).collect();
    assert_eq!(said.len(), 2, "{text}");
    for (line, message) in said.iter().zip(["one", "two"]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["message"], message);
    }
}

#[test]
fn an_older_record_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    record(&Audit::open(&options(&file)).unwrap(), "one").unwrap();
    record(&Audit::open(&options(&file)).unwrap(), "two").unwrap();
    assert_eq!(messages(&file), ["one", "two"]);
    // A process that was killed in the middle of a line, or a power cut.
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("{\"time\":\"2026-");
    fs::write(&file, &text).unwrap();
    let audit = Audit::open(&options(&file)).unwrap();
    record(&audit, "three").unwrap();
    record(&audit, "four").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[2], "{\"time\":\"2026-");
    assert!(lines[3].contains("three") && lines[4].contains("four"), "{text}");
    assert!(fs::metadata(&file).unwrap().modified().unwrap() <= SystemTime::now());
}

#[test]
fn lines_that_are_gathered_are_written_by_the_first_who_asks_and_by_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let audit = Audit::open(&options(&file)).unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|message| gather(&audit, message).unwrap());
    assert_eq!(messages(&file), [""; 0]);
    second.write().unwrap();
    assert_eq!(messages(&file), ["first", "second", "third"]);
    first.write().unwrap();
    drop(third);
    drop(gather(&audit, "of a request that went away"));
    record(&audit, "last").unwrap();
    assert_eq!(messages(&file), ["first", "second", "third", "of a request that went away", "last"]);
    assert!(lines(&file).is_sorted_by_key(|line| line["time"].as_str().unwrap().to_owned()));
}
