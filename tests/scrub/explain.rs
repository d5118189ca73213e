//! `simple-registry policy explain --retention`.

use std::process::{Command, Output};

use simple_registry::oci::Name;

use crate::shelf::Shelf;

fn explain(shelf: &Shelf, rules: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let root = shelf.root();
    std::fs::write(&file, format!("[storage.fs]\nroot_dir = {root:?}\n{rules}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(&file).args(["policy", "explain"]).args(arguments);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn it_shows_for_each_tag_which_rule_keeps_it_or_that_none_does() {
    let shelf = Shelf::new().await;
    let app: Name = "prod/app".parse().unwrap();
    shelf.image(&app, "one", &["v1", "latest"]).await;
    shelf.image(&app, "two", &["test"]).await;
    let before = shelf.keys("");
    let rules =
        "[repository.prod.retention_policy]\nrules = ['image.tag.startsWith(\"v\")', 'image.tag == \"latest\"']\n";
    let asked = ["--retention", "--repository", "prod/app"];
    let told = text(&explain(&shelf, rules, &asked));
    let line = |tag: &str| {
        told.lines().find(|line| line.starts_with(tag)).unwrap_or_else(|| panic!("{tag}: {told}")).to_owned()
    };
    assert!(line("v1").contains("stays") && line("latest").contains("stays"), "{told}");
    assert!(line("test").contains("goes") && line("test").contains("no rule"), "{told}");
    let json = text(&explain(&shelf, rules, &[&asked[..], &["--format", "json"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["covered"], true);
    let kept: Vec<_> = json["retention"]["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| (image["tag"].as_str().unwrap(), image["keep"].as_bool().unwrap()))
        .collect();
    assert_eq!(kept, [("latest", true), ("test", false), ("v1", true)]);
    assert_eq!(shelf.keys(""), before);
    assert!(text(&explain(&shelf, "", &asked)).contains("everything stays"));
}

#[tokio::test]
async fn it_says_what_is_wrong_with_the_question() {
    let shelf = Shelf::new().await;
    for (arguments, code, says) in [
        (&["--retention"][..], 2, "--repository"),
        (&["--repository", "a"], 2, "--retention"),
        (&[], 2, "--action"),
        (&["--retention", "--repository", "a", "--action", "ping"], 2, "--action"),
        (&["--retention", "--repository", "UPPER"], 2, "lower-case"),
        (&["--retention", "--repository", "nobody/pushed"], 1, "nobody/pushed has no tags"),
    ] {
        let output = explain(&shelf, "", arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
}
