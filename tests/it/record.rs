//! The record of decisions: what the server writes into it, what it does when it cannot, and what `policy replay` makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::client::Request;
use crate::support::server::{Backend, Server};

const POLICIES: &str = r#"
repository."*".access_policy.default_allow = false
repository.open.access_policy.default_allow = true
"#;

/// On trial: it would refuse what the table lets everyone do.
const TRIAL: &str = r#"
repositories = ["open"]
enforce = false
[[rule]]
name = "no-lists"
effect = "deny"
when = 'request.action == "list-tags"'
"#;

fn start(file: &Path, more: &str) -> (Server, PathBuf) {
    let policies = tempfile::tempdir().unwrap().keep();
    std::fs::write(policies.join("trial.toml"), TRIAL).unwrap();
    let settings = format!("policy_dir = {policies:?}\n{POLICIES}\n[audit]\nfile = {file:?}\n{more}\n");
    (Server::start_plain(Backend::Directory, &settings), policies)
}

pub(crate) fn new_file() -> PathBuf {
    tempfile::tempdir().unwrap().keep().join("decisions.jsonl")
}

/// Returns all that is recorded: in the file, and in the one beside it about anonymous callers that change nothing.
pub(crate) fn text_of(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap() + &std::fs::read_to_string(anonymous(file)).unwrap()
}

fn anonymous(file: &Path) -> PathBuf {
    file.with_extension("jsonl.anonymous")
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `policy replay` of the record under the configuration of the server. Returns its exit code and its words.
pub(crate) fn replay(server: &Server, file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(server.configuration_file()).args(["policy", "replay", "--log"]).arg(file);
    let output = command.output().expect("run it");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn each_decision_is_a_line_with_rule_and_status_and_can_be_replayed() {
    let file = new_file();
    let (server, policies) = start(&file, "");
    for (id, path, status) in [
        ("allowed", "/v2/open/manifests/v1", 404),
        ("on-trial", "/v2/open/tags/list", 404),
        ("refused", "/v2/closed/tags/list", 403),
        ("of-no-repository", "/v2/_catalog", 200),
    ] {
        server.client().send(Request::get(path).header("x-request-id", id)).expect(status);
    }
    let file = anonymous(&file);
    let lines = lines(&file);
    let said = |id: &str, field: &str| {
        let line = lines.iter().find(|line| line["request_id"] == id).unwrap_or_else(|| panic!("no {id} in {lines:?}"));
        line[field].clone()
    };
    assert_eq!((said("allowed", "decision"), said("allowed", "status")), ("allow".into(), 404.into()));
    assert_eq!(said("allowed", "policy"), "[repository.\"open\".access_policy]");
    assert_eq!((said("on-trial", "decision"), said("on-trial", "rule")), ("would_deny".into(), "no-lists".into()));
    assert_eq!(said("on-trial", "policy_sha256"), crate::support::content::sha256(TRIAL.as_bytes())[7..]);
    assert_eq!((said("refused", "decision"), said("refused", "status")), ("deny".into(), 403.into()));
    assert_eq!(said("refused", "request")["namespace"], "closed");
    assert_eq!(said("refused", "identity")["client_ip"], "127.0.0.1");
    assert_eq!(said("of-no-repository", "request")["action"], "list-catalog");

    let (code, text) = replay(&server, &file);
    assert_eq!(code, Some(0), "nothing was edited, and yet: {text}");
    std::fs::write(policies.join("trial.toml"), TRIAL.replace("enforce = false\n", "")).unwrap();
    let (code, text) = replay(&server, &file);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no-lists") && text.contains("1 of 4"), "{text}");
}

#[test]
fn requests_are_503_while_decisions_cannot_be_recorded() {
    let (server, _) = start(Path::new("/dev/full"), "on_error = \"deny\"");
    for _ in 0..3 {
        let refused = server.client().send(Request::get("/v2/open/tags/list"));
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.json()["errors"][0]["message"].as_str().unwrap().contains("record"), "{refused:?}");
    }
    server.client().send(Request::post("/v2/open/blobs/uploads/")).expect(503);
    server.client().send(Request::get("/healthz")).expect(200);
    let ready = server.client().send(Request::get("/readyz")).expect(503);
    assert!(String::from_utf8_lossy(&ready.body).contains("record of decisions"), "{ready:?}");
}

#[test]
fn with_on_error_continue_requests_are_served_unrecorded() {
    let (server, _) = start(Path::new("/dev/full"), "on_error = \"continue\"");
    server.client().send(Request::get("/v2/open/tags/list")).expect(404);
    server.client().send(Request::post("/v2/open/blobs/uploads/")).expect(202);
    let metrics = server.client().send(Request::get("/metrics")).expect(200).body;
    assert!(
        String::from_utf8_lossy(&metrics).contains("simple_registry_audit_failures_total 2\n"),
        "two lines are lost"
    );
    let ready = server.client().send(Request::get("/readyz")).expect(200);
    assert!(String::from_utf8_lossy(&ready.body).contains("record of decisions"), "{ready:?}");
}

#[test]
fn strangers_turn_no_decision_of_others_out_of_the_record() {
    let file = new_file();
    let (mut server, _) = start(&file, "max_size = \"64KiB\"");
    let client = server.client();
    client.send(Request::post("/v2/open/blobs/uploads/").header("x-request-id", "a-change")).expect(202);
    let tags = (0..100).map(|n| format!("tag={n:03}{}", "t".repeat(125))).collect::<Vec<_>>().join("&");
    let put = format!("/v2/closed/manifests/x?{tags}");
    for n in 0..60 {
        client.send(Request::put(put.replace("/x?", &format!("/x{n}?")))).expect(403);
        client.send(Request::get("/v2/open/manifests/v1")).expect(404);
    }
    assert_eq!(lines(&file).iter().map(|line| &line["request_id"]).collect::<Vec<_>>(), ["a-change"]);
    let longest = text_of(&file).lines().map(str::len).max();
    assert!(longest < Some(4096), "{longest:?}");
    // alike denials are one line for each minute that they fell into
    assert!(server.terminate().success());
    let files = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let all = files.filter(|path| *path != file).flat_map(|path| lines(&path));
    let denied = all.filter(|line| line["decision"] == "deny");
    let (counted, whole): (Vec<_>, Vec<_>) = denied.partition(|line| line["event"] == "denials");
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap();
    let count: u64 = counted.iter().map(|line| number(line, "count")).sum();
    assert!(!counted.is_empty() && whole.len() >= 10, "{counted:?} {}", whole.len());
    assert_eq!(count + whole.len() as u64, 60);
    assert_eq!(counted[0]["action"], "put-manifest");
    assert_eq!(counted[0]["namespace"], "closed");
    assert_eq!(counted[0]["client_ip"], "127.0.0.1");
    assert_eq!(number(&counted[0], "references"), number(&counted[0], "count"));
    assert!(counted[0]["first"].as_str() <= counted[0]["last"].as_str());
}

#[test]
fn more_or_longer_parameters_than_any_request_needs_are_400() {
    let server = Server::start(Backend::Directory);
    let tags = |number: usize| (0..number).map(|_| "tag=v1").collect::<Vec<_>>().join("&");
    for query in [tags(200), format!("tag={}", "t".repeat(9000)), format!("x={}", "t".repeat(9000))] {
        server.client().send(Request::put(format!("/v2/a/manifests/x?{query}"))).expect(400);
    }
}
