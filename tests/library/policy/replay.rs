//! `simple-registry policy replay`, by running it on records.

use std::fs;

use super::commands::{json, run, world};

/// Returns a line of the record of decisions.
fn line(username: &str, access: &str, namespace: &str, decision: &str) -> String {
    let action = if access == "push" { "put-manifest" } else { "get-manifest" };
    serde_json::json!({
        "time": "2026-01-01T00:00:00.000Z", "event": "decision", "request_id": "1",
        "identity": { "username": username, "client_ip": "10.0.0.1" },
        "request": { "action": action, "access": access, "namespace": namespace, "reference": "v1", "listener": "main" },
        "decision": decision, "policy": "prod.toml", "rule": "old-rule", "policy_sha256": "00", "status": 200,
    })
    .to_string()
}

#[test]
fn replay_does_not_guess_where_the_record_names_some_of_the_tags() {
    let dir = world();
    let record = |rule: &str| {
        let policy = format!("repositories = [\"open\"]\n[[rule]]\nname = \"r\"\neffect = \"deny\"\nwhen = '{rule}'\n");
        fs::write(dir.path().join("policies/open.toml"), policy).unwrap();
        let line = serde_json::json!({
            "time": "2026-01-01T00:00:00.000Z", "event": "decision", "identity": {}, "tag_count": 30, "decision": "deny",
            "request": { "action": "put-manifest", "access": "push", "namespace": "open", "reference": "a", "tags": ["a", "v1"], "listener": "main" },
        });
        fs::write(dir.path().join("decisions.jsonl"), format!("{line}\n")).unwrap();
        run(dir.path(), &["replay", "--log", "decisions.jsonl"])
    };
    let (code, out, _) = record("size(request.tags) > 25");
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("0 of 0 decisions would change; 1 not decided again"), "{out}");
    assert_eq!(record("request.reference == \"v1\"").1, "0 of 1 decision would change\n");
}

#[test]
fn replay_does_not_guess_who_began_an_upload() {
    let dir = world();
    let record = |rule: &str, more: &str| {
        let policy = format!("repositories = [\"open\"]\n[[rule]]\nname = \"r\"\neffect = \"deny\"\nwhen = '{rule}'\n");
        fs::write(dir.path().join("policies/open.toml"), policy).unwrap();
        let request =
            r#"{"action":"get-upload","access":"push","namespace":"open","listener":"main","upload_owner":""}"#;
        let line = format!(
            r#"{{"time":"2026-01-01T00:00:00.000Z","event":"decision","identity":{{}},"decision":"deny"{more},"request":{request}}}"#
        );
        fs::write(dir.path().join("decisions.jsonl"), line + "\n").unwrap();
        run(dir.path(), &["replay", "--log", "decisions.jsonl"]).1
    };
    let (asks, does_not) = (r#"request.upload_owner == """#, r#"request.access == "push""#);
    let unknown = r#","upload_owner_unknown":true"#;
    let out = record(asks, unknown);
    assert!(out.starts_with("0 of 0 decisions would change; 1 not decided again: a rule asks for "), "{out}");
    // an anonymous upload, and a rule that needs no owner
    assert_eq!(record(asks, ""), "0 of 1 decision would change\n");
    assert_eq!(record(does_not, unknown), "0 of 1 decision would change\n");
}

#[test]
fn replay_shows_what_an_edit_would_change() {
    let dir = world();
    let log = |lines: &[String]| fs::write(dir.path().join("decisions.jsonl"), lines.join("\n") + "\n").unwrap();
    let login = r#"{"time": "x", "event": "login", "identity": {}, "decision": "deny"}"#.to_owned();
    log(&[line("ana", "push", "prod/app", "deny"), login.clone(), line("ana", "pull", "open/x", "allow")]);
    let (code, out, _) = run(dir.path(), &["replay", "--log", "decisions.jsonl"]);
    assert_eq!((code, out.as_str()), (0, "0 of 2 decisions would change; 1 other line skipped\n"));

    log(&[
        line("ana", "push", "prod/app", "allow"),
        line("ben", "push", "prod/app", "allow"),
        line("ana", "pull", "open/x", "allow"),
        line("ana", "pull", "prod/frozen", "allow"),
    ]);
    let (code, out, _) = run(dir.path(), &["replay", "--log", "decisions.jsonl"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("     2  allow (rule old-rule of prod.toml) -> deny (default of prod.toml)\n        line 1: ana: put-manifest prod/app:v1"), "{out}");
    assert!(
        out.contains("-> deny (rule frozen of prod.toml)") && out.ends_with("3 of 4 decisions would change\n"),
        "{out}"
    );
    let (code, out, _) = run(dir.path(), &["replay", "--log", "decisions.jsonl", "--format", "json"]);
    assert_eq!((code, &json(&out)["changed"]), (3, &3.into()));

    for bad in [
        "{",
        "{\"event\": \"decision\"}",
        "{\"event\": \"decision\", \"identity\": {\"admin\": true}, \"request\": {}, \"decision\": \"allow\"}",
    ] {
        log(&[line("ana", "pull", "open/x", "allow"), bad.to_owned()]);
        let (code, _, err) = run(dir.path(), &["replay", "--log", "decisions.jsonl"]);
        assert!(code == 1 && err.contains("decisions.jsonl:2: "), "{bad}: {err}");
    }
    assert_eq!(run(dir.path(), &["replay", "--log", "absent"]).0, 1);
}
