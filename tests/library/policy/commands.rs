//! `simple-registry policy`, by running it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

const CONFIG: &str = "[repository.\"open\".access_policy]\ndefault_allow = true\n";

const POLICY: &str = r#"
repositories = ["prod"]
default = "deny"

[[rule]]
name = "ci-pushes"
effect = "allow"
when = 'request.access == "push" && identity.certificate.organizations.contains("ci")'

[[rule]]
name = "frozen"
effect = "deny"
when = 'request.namespace == "prod/frozen"'
message = "it is frozen"

[[test]]
name = "a laptop cannot push"
identity = { username = "ana" }
request = { action = "put-manifest", namespace = "prod/app", reference = "v1" }
expect = { decision = "deny" }
"#;

/// Returns a directory with a configuration and one policy.
pub(super) fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), CONFIG).unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    fs::write(dir.path().join("policies/prod.toml"), POLICY).unwrap();
    dir
}

/// Runs `simple-registry policy ...`. Returns the exit code, standard output and standard error.
pub(super) fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let Output { status, stdout, stderr } = command.current_dir(dir).arg("policy").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

pub(super) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_check_fails_for_ci_if_a_policy_is_wrong() {
    let dir = world();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("1 policy file and the tables of the configuration: all is well"), "{out}");

    fs::write(dir.path().join("policies/bad.toml"), POLICY.replace("organizations", "organisations")).unwrap();
    let (code, out, err) = run(dir.path(), &["check"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("--> policies/bad.toml:8:")
            && err.contains("did you mean `organizations`?")
            && err.contains("1 problem"),
        "{err}"
    );

    let (code, out, _) = run(dir.path(), &["check", "--format", "json"]);
    let problem = &json(&out)["problems"][0];
    assert_eq!((code, &problem["file"], &problem["line"]), (1, &"policies/bad.toml".into(), &8.into()));

    // named files are checked alone
    assert_eq!(run(dir.path(), &["check", "policies/prod.toml"]).0, 0);
    // the configuration is wrong itself
    fs::write(dir.path().join("config.toml"), "port = 1\n").unwrap();
    let (code, out, err) = run(dir.path(), &["check", "--format", "json"]);
    assert_eq!((code, err.as_str(), &json(&out)["problems"][0]["file"]), (1, "", &"config.toml".into()));
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(code == 1 && err.starts_with("error: `port` is not a known key\n --> config.toml:1:1\n"), "{err}");
    let (code, _, err) = run(dir.path(), &["check", "absent.toml"]);
    assert!(code == 1 && err.contains("absent.toml cannot be read"), "{err}");
}

#[test]
fn retention_policies_are_checked_and_tested_as_access_policies_are() {
    const KEEP: &str = r#"
kind = "retention"
[[rule]]
name = "newest"
when = 'top(image.tag, last_pushed, 1)'
[[test]]
name = "the newest stays"
images = [{ tag = "b", pushed_at = 2025-01-02T00:00:00Z }, { tag = "a", pushed_at = 2025-01-01T00:00:00Z }]
expect = { keep = ["b"] }
"#;
    let dir = world();
    fs::write(dir.path().join("policies/keep.toml"), KEEP).unwrap();
    assert_eq!(run(dir.path(), &["test"]), (0, "2 tests passed, 0 failed\n".into(), String::new()));
    assert_eq!(run(dir.path(), &["check"]).0, 0);

    fs::write(dir.path().join("policies/keep.toml"), KEEP.replace("keep = [\"b\"]", "keep = [\"a\"]")).unwrap();
    let says = "the test \"the newest stays\" failed: \"b\" is kept by the rule \"newest\"; \"a\" is kept by no rule";
    let (code, out, err) = run(dir.path(), &["test"]);
    assert!(code == 1 && out == "1 test passed, 1 failed\n" && err.contains(says), "{out}{err}");
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(code == 1 && err.contains(says) && err.contains("--> policies/keep.toml:9:10"), "{err}");
    let (_, out, _) = run(dir.path(), &["test", "--format", "json", "policies/keep.toml"]);
    assert_eq!((&json(&out)["failed"], &json(&out)["tests"][0]["passed"]), (&1.into(), &false.into()));

    fs::remove_file(dir.path().join("policies/keep.toml")).unwrap();
    let table =
        "[repository.\"open\".retention_policy]\nrules = [\"image.tag != 'latest'\", \"image.pushd_at > now()\"]\n";
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{table}")).unwrap();
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(code == 1 && err.contains("config.toml:4:42") && err.contains("did you mean `pushed_at`?"), "{err}");
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{table}").replace("pushd_at", "pushed_at")).unwrap();
    assert_eq!(run(dir.path(), &["check"]).0, 0);
    let all = format!("{CONFIG}[repository.\"open\".retention_policy]\nrules = [\"true\"]\n");
    fs::write(dir.path().join("config.toml"), all).unwrap();
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(
        code == 0 && err.contains("warning: [repository.\"open\".retention_policy]: the rule rules[0] keeps"),
        "{err}"
    );
}

#[test]
fn test_says_which_rule_decided_instead() {
    let dir = world();
    let (code, out, _) = run(dir.path(), &["test"]);
    assert_eq!((code, out.as_str()), (0, "1 test passed, 0 failed\n"));

    let wrong = POLICY
        .replace("identity = { username = \"ana\" }", "identity = { certificate = { organizations = [\"ci\"] } }");
    fs::write(dir.path().join("wrong.toml"), wrong).unwrap();
    let (code, out, err) = run(dir.path(), &["test", "wrong.toml", "policies/prod.toml"]);
    assert_eq!((code, out.as_str()), (1, "1 test passed, 1 failed\n"));
    assert!(
        err.contains(
            "the test \"a laptop cannot push\" failed: expected deny, and got allow by the rule \"ci-pushes\""
        ),
        "{err}"
    );
    assert!(err.contains("--> wrong.toml:"), "{err}");
    let (_, out, _) = run(dir.path(), &["test", "wrong.toml", "--format", "json"]);
    let report = json(&out);
    assert_eq!((&report["failed"], &report["tests"][0]["passed"]), (&1.into(), &false.into()));
    // what `check` says of it is the same
    assert_eq!(run(dir.path(), &["check", "wrong.toml"]).0, 1);
}

#[test]
fn a_test_that_fails_only_together_is_a_warning_that_names_the_other_policy() {
    let dir = world();
    let table = "[repository.\"*\".access_policy]\nrules = [\"identity.username == 'ana'\"]\n";
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{table}")).unwrap();
    let warning = "policies/prod.toml:20: the test \"a laptop cannot push\" fails only together with [repository.\"*\".access_policy]: expected deny, and got allow by the rule \"rules[0]\"";
    for command in ["check", "test"] {
        let (code, _, err) = run(dir.path(), &[command]);
        assert_eq!(code, 0, "it refuses nothing: {err}");
        assert!(err.contains(&format!("warning: {warning}")), "{err}");
        let (code, out, _) = run(dir.path(), &[command, "--format", "json"]);
        assert_eq!((code, json(&out)["warnings"].as_array().unwrap().len()), (0, 1), "{out}");
        // the file alone
        assert_eq!(run(dir.path(), &[command, "policies/prod.toml"]).2, "");
    }
    // a freeze goes in, and the test of the other file that expected to be allowed is named
    let ci = POLICY
        .replace("a laptop cannot push", "ci can push")
        .replace("identity = { username = \"ana\" }", "identity = { certificate = { organizations = [\"ci\"] } }");
    fs::write(dir.path().join("config.toml"), CONFIG).unwrap();
    fs::write(dir.path().join("policies/prod.toml"), ci.replace("decision = \"deny\"", "decision = \"allow\""))
        .unwrap();
    let freeze = "[[rule]]\nname = \"all\"\neffect = \"deny\"\nwhen = 'request.access == \"push\"'\n";
    fs::write(dir.path().join("policies/freeze.toml"), freeze).unwrap();
    let (code, _, err) = run(dir.path(), &["check"]);
    assert!(code == 0 && err.contains("\"ci can push\" fails only together with freeze.toml"), "{err}");
}

#[test]
fn a_retention_test_that_fails_only_together_is_a_warning_too() {
    let dir = world();
    let keep = "kind = \"retention\"\nrepositories = [\"open\"]\n[[rule]]\nname = \"v1\"\nwhen = 'image.tag == \"v1\"'\n\
                [[test]]\nname = \"others go\"\nimages = [{ tag = \"v1\" }, { tag = \"v2\" }]\nexpect = { keep = [\"v1\"] }\n";
    fs::write(dir.path().join("policies/keep.toml"), keep).unwrap();
    assert_eq!(run(dir.path(), &["check"]).2, "");
    let table = "[repository.\"open/deep\".retention_policy]\nrules = [\"image.tag == 'v2'\"]\n";
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{table}")).unwrap();
    let (code, _, err) = run(dir.path(), &["check"]);
    let says = "\"others go\" fails only together with [repository.\"open/deep\".retention_policy]: its rule \"rules[0]\" keeps \"v2\"";
    assert!(code == 0 && err.contains(says), "{err}");
    // one that covers other repositories changes nothing
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{}", table.replace("open/deep", "prod"))).unwrap();
    assert_eq!(run(dir.path(), &["check"]).2, "");
}

#[test]
fn explain_shows_each_rule_with_its_values() {
    let dir = world();
    let push = ["--action", "put-manifest", "--namespace", "prod/app", "--reference", "v1"];
    let explain = |who: &str, rest: &[&str]| run(dir.path(), &[&["explain", "--as", who][..], rest].concat());
    let (code, out, err) = explain(r#"{"certificate": {"organizations": ["ci"]}}"#, &push);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("allow, by the rule ci-pushes of prod.toml\n"), "{out}");
    assert!(
        out.contains("identity.certificate.organizations = [\"ci\"]") && out.contains("request.access = \"push\""),
        "{out}"
    );
    assert!(
        out.contains("-> allow prod.toml, rule ci-pushes: true")
            && out.contains("   deny prod.toml, rule frozen: false"),
        "{out}"
    );

    let (_, out, _) = explain("anonymous", &push);
    assert!(out.starts_with("deny, by the default of prod.toml"), "{out}");
    let (_, out, _) =
        explain("anonymous", &["--action", "get-manifest", "--namespace", "prod/frozen", "--reference", "v1"]);
    assert!(out.starts_with("deny, by the rule frozen of prod.toml\n  message: it is frozen\n"), "{out}");
    let (_, out, _) =
        explain("anonymous", &["--action", "get-manifest", "--namespace", "nowhere", "--reference", "v1"]);
    assert!(out.starts_with("not_covered"), "{out}");
    let (_, out, _) = explain(
        "anonymous",
        &["--action", "get-manifest", "--namespace", "open/x", "--reference", "v1", "--format", "json"],
    );
    let explained = json(&out);
    assert_eq!(explained["decision"], "allow");
    assert_eq!(explained["defaults"][0]["policy"], "[repository.\"open\".access_policy]");

    for (arguments, says) in [
        (&["--action", "put-manifst", "--namespace", "a"][..], "did you mean \"put-manifest\"?"),
        (&["--action", "put-manifest"], "is about a repository"),
        (&["--action", "list-catalog", "--as", "nobody-of-this-name"], "no [identity]"),
        (&["--action", "list-catalog", "--as", "{\"usrname\": \"a\"}"], "no identity as JSON"),
        (&["--action", "list-catalog", "--listener", "back"], "no listener"),
        (&["--action", "get-blob", "--namespace", "a", "--from", "b"], "`from` belongs to mount-blob"),
        (&["--action", "list-tags", "--namespace", "a", "--reference", "v1"], "`reference` belongs to manifests"),
        (&["--action", "get-manifest", "--namespace", "a", "--tag", "v1"], "`tags` belongs to put-manifest"),
        (&["--action", "delete-manifest", "--namespace", "a", "--reference", "v1", "--tag", "v2"], "of a digest"),
    ] {
        let (code, _, err) = run(dir.path(), &[&["explain"][..], arguments].concat());
        assert!(code == 1 && err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn explain_decides_a_request_for_each_tag_that_it_changes() {
    let dir = world();
    let rule = "repositories = [\"open\"]\n[[rule]]\nname = \"releases\"\neffect = \"deny\"\nwhen = 'request.reference.startsWith(\"v\")'\n";
    fs::write(dir.path().join("policies/open.toml"), rule).unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    for (action, reference) in [("put-manifest", "x"), ("put-manifest", &*digest), ("delete-manifest", &digest)] {
        let ask = |tags: &[&str]| {
            let request = ["explain", "--action", action, "--namespace", "open/app", "--reference", reference];
            run(dir.path(), &[&request[..], &tags.iter().flat_map(|tag| ["--tag", tag]).collect::<Vec<_>>()].concat())
        };
        let (code, out, err) = ask(&["y", "v1"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(
            out.starts_with("deny, by the rule releases of open.toml\n  for the tag v1, one of "),
            "{action}: {out}"
        );
        assert!(out.contains("request.reference = \"v1\""), "{action}: {out}");
        assert!(ask(&["y", "z"]).1.starts_with("allow"), "{action}");
    }
}

#[test]
fn an_option_of_another_mode_is_refused_and_the_missing_one_is_named() {
    let dir = world();
    for (arguments, missing) in [
        (&["explain", "--repository", "open/x", "--action", "list-tags", "--namespace", "open/x"][..], "--retention"),
        (&["explain", "--repository", "open/x"], "--retention"),
        (&["explain", "--retention"], "--repository"),
    ] {
        let (code, out, err) = run(dir.path(), arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(missing), "{arguments:?}: {err}");
    }
    // a configuration that would not be read
    for arguments in
        [&["policy", "check", "policies/prod.toml"][..], &["policy", "test", "policies/prod.toml"], &["hash-password"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
        let output = command.current_dir(dir.path()).args(["-c", "absent.toml"]).args(arguments).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && err.contains("leave out -c"), "{arguments:?}: {err}");
    }
}

#[test]
fn explain_shows_which_prefix_gave_each_table() {
    let dir = world();
    let tables = "[repository.\"open/strict\"]\nimmutable_tags = true\n[repository.\"*\".retention_policy]\nrules = [\"image.tag == 'v1'\"]\n";
    fs::write(dir.path().join("config.toml"), format!("{CONFIG}{tables}")).unwrap();
    let ask = ["explain", "--action", "list-tags", "--namespace", "open/strict/app"];
    let (code, out, err) = run(dir.path(), &ask);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("allow, by the default of [repository.\"open\".access_policy]"), "{out}");
    for line in [
        "tables of open/strict/app\n",
        "   access_policy    [repository.\"open\"]\n",
        "   retention_policy [repository.\"*\"]\n",
        "   immutable_tags   [repository.\"open/strict\"]\n",
        "   allow_delete     not stated\n",
        "   upstream         not stated\n",
        "   manifest_ttl     not stated\n",
        "   cooldown         not stated\n",
        "   stale_if_error   not stated\n",
        "   cooldown_exceptions not stated\n",
        "   refresh          not stated\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (_, out, _) = run(dir.path(), &[&ask[..], &["--format", "json"]].concat());
    let tables = &json(&out)["tables"];
    assert_eq!(
        (&tables["access_policy"], &tables["allow_delete"]),
        (&"[repository.\"open\"]".into(), &serde_json::Value::Null)
    );
    // a request about no repository has none
    let (_, out, _) = run(dir.path(), &["explain", "--action", "list-catalog"]);
    assert!(!out.contains("tables of"), "{out}");
}

#[test]
fn a_server_with_a_wrong_policy_does_not_start() {
    let dir = world();
    fs::write(dir.path().join("policies/bad.toml"), "default = 1").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_simple-registry")).current_dir(dir.path()).arg("server").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("policies/bad.toml:1:11"), "{err}");
}
