//! The command: what it says, where, and how it exits.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::scrub::world::{configuration, content, full, keys, name, push_blob, push_image, server};

fn simple_registry(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simple-registry")).args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn says(output: &Output, expected: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(output), expected, "{out}\n{err}");
    (out, err)
}

/// Makes a full store, and a configuration beside it.
async fn world(more: &str) -> (tempfile::TempDir, tempfile::TempDir, String) {
    let (store, beside) = (full().await, tempfile::tempdir().unwrap());
    let config = configuration(beside.path(), store.path(), more).to_str().unwrap().to_owned();
    (store, beside, config)
}

/// Cuts a manifest that a tag means short, so that nothing can repair it.
fn cut(root: &Path) {
    let key = keys(root).into_iter().find(|key| key.starts_with("repos/other!/manifests/")).unwrap();
    fs::write(root.join(&key), b"{").unwrap();
    crate::scrub::world::age_one(&root.join(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_is_0_and_what_cannot_be_repaired_is_3_once() {
    let (store, _beside, config) = world("").await;
    let (out, err) = says(&simple_registry(&["-c", &config, "scrub"]), 0);
    assert!(out.contains("wrong: nothing") && out.contains("freed: "), "{out}");
    assert!(err.contains("scrub: links"), "lines say how far it is where there is no terminal: {err}");
    cut(store.path());
    let (out, err) = says(&simple_registry(&["-c", &config, "scrub"]), 3);
    assert!(out.contains("wrong: 1 quarantined"), "{out}");
    assert!(err.contains("wrong: manifest sha256:") && err.contains("push the image again"), "{err}");
    let (out, _) = says(&simple_registry(&["-c", &config, "scrub"]), 0);
    assert!(out.contains("wrong: 1 known"), "{out}");
}

#[tokio::test]
async fn a_count_and_its_noun_agree() {
    let (store, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = configuration(beside.path(), store.path(), "").to_str().unwrap().to_owned();
    let (server, app) = (server(store.path()).await, name("team/app"));
    let push = async |text: &str, tags: &[&str]| push_image(&server, &app, text, tags, None).await;
    push("one", &["v1"]).await;
    push_blob(&server, &app, b"!").await;
    crate::scrub::world::age(store.path());
    let said = |arguments: &[&str]| says(&simple_registry(&[&["-c", &config, "scrub"], arguments].concat()), 0).0;
    let out = said(&["--dry-run"]);
    assert!(out.contains("looked at: 3 blobs, 1 manifest, 1 repository, 1 tag, 0 uploads\n"), "{out}");
    assert!(out.contains("would remove: 1 blob (unreferenced), 1 B"), "{out}");
    said(&[]);
    push("two", &["v2"]).await;
    // the claims of the first image: of its manifest and of its tag
    crate::scrub::world::age(store.path());
    let out = said(&[]);
    assert!(out.contains("looked at: 4 blobs, 2 manifests, 1 repository, 2 tags, "), "{out}");
    assert!(out.contains("removed: 2 housekeeping objects (superseded)"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_tells_all_the_same() {
    let (store, _beside, config) = world("").await;
    cut(store.path());
    let before = content(store.path());
    let (out, _) = says(&simple_registry(&["-c", &config, "scrub", "--dry-run", "--format", "json"]), 3);
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&summary["event"], &summary["dry_run"]), (&"summary".into(), &true.into()), "{out}");
    assert_eq!(summary["findings"]["dry_run"], 1);
    assert_eq!(content(store.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_a_line_for_each_thing_and_ends_in_the_summary() {
    let (store, beside, config) = world("").await;
    cut(store.path());
    let report = beside.path().join("report");
    let run = |more: &[&str]| {
        let fixed = ["-c", &config, "scrub", "--dry-run", "--report", report.to_str().unwrap()];
        let (out, _) = says(&simple_registry(&[&fixed, more].concat()), 3);
        assert_eq!(out, "", "it is in the report");
        fs::read_to_string(&report).unwrap()
    };
    let lines: Vec<Value> =
        run(&["--format", "json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, lines) = lines.split_last().unwrap();
    assert_eq!(last["event"], "summary");
    let finding = lines.iter().find(|line| line["event"] == "finding").unwrap();
    assert!(finding["key"].as_str().unwrap().starts_with("repos/other!/manifests/"), "{finding}");
    assert_eq!(finding["outcome"], "dry_run");
    let text = run(&[]);
    assert!(text.contains("\nscrub ") || text.starts_with("scrub "), "{text}");
    assert!(text.contains("wrong: manifest sha256:"), "{text}");
    let (out, _) = says(&simple_registry(&["-c", &config, "scrub", "--dry-run", "--report", "-"]), 3);
    assert!(out.contains("wrong: manifest sha256:"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_2_and_a_store_that_is_not_there_is_1() {
    let (_store, beside, config) = world("").await;
    for (arguments, word) in [
        (&["scrub", "--only", "everything"][..], "links"),
        (&["scrub", "--verify-content=0"], "1..=100"),
        (&["scrub", "--repository", "Not/Valid"], "Not/Valid"),
        (&["scrub", "--max-duration", "soon"], "2h"),
        (&["-c", &config, "scrub", "--data-dir", "x"], "--data-dir"),
    ] {
        let (_, err) = says(&simple_registry(arguments), 2);
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
    let nowhere = beside.path().join("nowhere");
    let (_, err) = says(&simple_registry(&["scrub", "--data-dir", nowhere.to_str().unwrap()]), 1);
    assert!(err.contains("there is no store at"), "{err}");
    assert!(!nowhere.exists(), "a path that was mistyped does not become a store");
    let empty = beside.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (_, err) = says(&simple_registry(&["scrub", "--data-dir", empty.to_str().unwrap()]), 1);
    assert!(err.contains("there is no store at"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_begun() {
    let (store, _beside, config) = world("record = \"/nowhere/at/all.jsonl\"\n").await;
    let before = content(store.path());
    let (_, err) = says(&simple_registry(&["-c", &config, "scrub"]), 1);
    assert!(err.contains("scrub.record: /nowhere/at/all.jsonl"), "{err}");
    assert_eq!(content(store.path()), before);
    says(&simple_registry(&["-c", &config, "scrub", "--dry-run"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_did_before_it_failed_is_told() {
    let (store, beside, _) = world("").await;
    // links writes it again; then there is a removal, and no line of it can be written
    let listed: Vec<String> = keys(store.path()).into_iter().filter(|key| key.starts_with("catalog/other!/")).collect();
    fs::remove_file(store.path().join(&listed[0])).unwrap();
    let config = configuration(beside.path(), store.path(), "trash = \"0s\"\nrecord = \"/dev/full\"\n");
    let config = config.to_str().unwrap();
    let (out, err) = says(&simple_registry(&["-c", config, "scrub"]), 1);
    assert!(err.contains("a deletion cannot be recorded"), "{err}");
    assert!(out.contains("failed: a deletion cannot be recorded") && out.contains("wrong: 1 repaired"), "{out}");
    let report = beside.path().join("report");
    let asked = ["-c", config, "scrub", "--format", "json", "--report", report.to_str().unwrap()];
    let (out, _) = says(&simple_registry(&asked), 1);
    assert_eq!(out, "", "it is in the report");
    let report = fs::read_to_string(&report).unwrap();
    let last: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "summary", "{report}");
    assert!(last["failed"].as_str().unwrap().contains("scrub.record"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_needs_no_configuration() {
    let (store, _beside, _) = world("").await;
    let root = store.path().to_str().unwrap();
    let (out, _) = says(&simple_registry(&["scrub", "--data-dir", root, "--only", "links,content"]), 0);
    assert!(out.contains("wrong: nothing"), "{out}");
}

/// A process that is ended with the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_scrubs_every_interval_says_so_and_ends_at_once_when_it_is_told_to() {
    use std::io::BufRead as _;
    let more = "interval = \"1s\"\n[server]\nport = 0\n[observability.logs]\nformat = \"json\"\n";
    let (store, _beside, config) = world(more).await;
    cut(store.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.args(["-c", &config, "server"]).stderr(std::process::Stdio::piped());
    let mut server = Child(command.spawn().unwrap());
    let mut lines = std::io::BufReader::new(server.0.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let mut line = |message: &str| -> Value {
        let mut parsed = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        parsed.find(|line| line["message"] == message).unwrap_or_else(|| panic!("no line {message:?}"))
    };
    assert_eq!(line("scrub finding")["outcome"], "quarantined");
    let ended = line("scrub ended");
    assert_eq!((&ended["outcome"], &ended["level"]), (&"findings".into(), &"INFO".into()), "{ended}");
    // a second one, which knows of it
    assert_eq!(line("scrub ended")["outcome"], "clean");
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    line("stopped");
    assert!(server.0.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_in_the_record_before() {
    let (store, beside, _) = world("").await;
    let record = beside.path().join("removed.jsonl");
    let more = format!("trash = \"0s\"\nrecord = {record:?}\n");
    let config = configuration(beside.path(), store.path(), &more).to_str().unwrap().to_owned();
    says(&simple_registry(&["-c", &config, "scrub", "--dry-run"]), 0);
    assert!(!record.exists(), "nothing was removed");
    let report = beside.path().join("report");
    says(&simple_registry(&["-c", &config, "scrub", "--format", "json", "--report", report.to_str().unwrap()]), 0);
    let lines = |path: &Path| -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (told, recorded) = (lines(&report), lines(&record));
    let (summary, told) = told.split_last().unwrap();
    let told: Vec<&Value> = told.iter().filter(|line| line["event"] == "removal").collect();
    assert!(!recorded.is_empty());
    assert_eq!(told.len(), recorded.len());
    for (told, recorded) in told.into_iter().zip(&recorded) {
        assert_eq!((&recorded["event"], &recorded["run"]), (&"deletion".into(), &summary["run"]), "{recorded}");
        for field in ["what", "reason", "repository", "reference", "digest", "size"] {
            assert_eq!(told[field], recorded[field], "{field} of {recorded}");
        }
    }
    let upload = recorded.iter().find(|line| line["what"] == "upload").expect("the upload that went silent");
    assert_eq!((&upload["reason"], &upload["size"]), (&"expired".into(), &10.into()), "{upload}");
}
