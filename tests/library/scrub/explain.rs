//! `simple-registry policy explain --retention`.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use simple_registry::{oci::Name, registry::Actor};

use crate::scrub::shelf::{Shelf, config};

fn explain(shelf: &Shelf, rules: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let root = shelf.root();
    std::fs::write(&file, format!("[storage.fs]\nroot_dir = '{}'\n{rules}", root.display())).unwrap();
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
    assert_eq!(json["tables"]["retention_policy"], "[repository.\"prod\"]");
    assert!(told.contains("   retention_policy [repository.\"prod\"]\n"), "{told}");
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

/// Cuts off the time from which on a run removes the image.
fn without_time(later: &str) -> &str {
    later.split_once(" from ").map_or(later, |(says, _)| &later[..says.len() + " from".len()])
}

#[tokio::test]
async fn it_shows_tags_that_rules_do_not_judge_and_those_that_go_later() {
    let shelf = Shelf::new().await;
    let app: Name = "prod/app".parse().unwrap();
    let image = shelf.image(&app, "image", &["v1"]).await;
    let gone = shelf.image(&app, "gone", &["gone"]).await;
    let [signature, left] = [image, gone].map(|subject| format!("sha256-{}.sig", subject.hex()));
    shelf.image(&app, "signature", &[&signature]).await;
    shelf.image(&app, "signature of what is gone", &[&left]).await;
    shelf.server.manifests.delete(&app, &gone, &Actor::default()).await.unwrap();
    let cut = shelf.image(&app, "cut", &["cut"]).await;
    let lost = shelf.image(&app, "lost", &["lost"]).await;
    shelf.image(&app, "old", &["old"]).await;
    shelf.age(Duration::from_hours(25));
    shelf.image(&app, "young", &["young"]).await;
    let version = |hex: String| shelf.root().join(&shelf.keys(&format!("repos/prod/app!/manifests/sha256/{hex}/"))[0]);
    fs::write(version(cut.hex()), "{").unwrap();
    fs::remove_file(version(lost.hex())).unwrap();
    let before = shelf.keys("");
    let rules = "[repository.prod.retention_policy]\nrules = ['image.tag.startsWith(\"v\")']\n";
    let asked = ["--retention", "--repository", "prod/app"];
    let json = text(&explain(&shelf, rules, &[&asked[..], &["--format", "json"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let shown = json["retention"]["images"].as_array().unwrap().iter().map(|image| {
        let why = image["why"].as_str().or(image["later"].as_str().map(without_time)).unwrap_or_default().to_owned();
        (image["tag"].as_str().unwrap(), image["judged"].as_bool().unwrap(), image["keep"].as_bool().unwrap(), why)
    });
    let says = String::from;
    let mut expected = vec![
        ("cut", false, true, says("its manifest is damaged: it is cut short; it stays")),
        ("lost", false, true, says("its manifest is missing; it stays")),
        ("old", true, false, says("")),
        (&signature, false, true, format!("goes with {image}, which exists")),
        (&left, false, false, format!("goes with {gone}, which was deleted")),
        ("v1", true, true, says("")),
        ("young", true, false, says("pushed less than 24 hours ago, so a run from")),
    ];
    expected.sort();
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    let told = text(&explain(&shelf, rules, &asked));
    let lines: Vec<(&str, &str)> = told.lines().filter_map(|line| line.split_once("  ")).collect();
    let says = |tag: &str| lines.iter().find(|(this, _)| *this == tag).map_or("", |(_, says)| says.trim());
    assert_eq!(says("cut"), "not judged: its manifest is damaged: it is cut short; it stays");
    assert_eq!(says(&signature), format!("not judged: goes with {image}, which exists"));
    assert_eq!(says("old"), "goes: no rule keeps it");
    let young = says("young");
    assert!(young.starts_with("goes: no rule keeps it; pushed less than 24 hours ago, so a run from 20"), "{young}");
    assert!(young.ends_with(" on removes it"), "{young}");
    assert_eq!(shelf.keys(""), before);
    // and that is what a scrub does
    let mut config = config(rules);
    config.scrub.upload_expiry = Duration::from_hours(24);
    shelf.scrub(&config).await;
    let left: Vec<&str> = expected.iter().map(|(tag, ..)| *tag).filter(|tag| !["old", &left].contains(tag)).collect();
    assert_eq!(shelf.tags(&app).await, left);
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
