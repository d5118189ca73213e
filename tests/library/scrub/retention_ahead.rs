//! Retention: what a dry run foresees, what a tag waits for, and how much memory it takes.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use simple_registry::{
    oci::{Digest, MediaType, Name, Reference},
    registry::Clock,
    scrub::{Pass, Reason, Removal, What},
};

use crate::scrub::{
    shelf::{LEASE, Shelf, config},
    world,
};

const RULES: &str = "[repository.prod.retention_policy]\nrules = ['image.tag == \"stays\"']\n";

fn app() -> Name {
    "prod/app".parse().unwrap()
}

/// Scrubs with the command and reports each thing in JSON.
fn dry_run(shelf: &Shelf, rules: &str, arguments: &[&str]) -> (String, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let (file, report) = (directory.path().join("config.toml"), directory.path().join("report"));
    let text =
        format!("[storage.fs]\nroot_dir = '{}'\n[scrub]\nupload_expiry = \"10m\"\n{rules}", shelf.root().display());
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(&file).args(["scrub", "--dry-run", "--report"]).arg(&report).args(arguments);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = std::fs::read_to_string(&report).unwrap();
    let lines = report.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (report, lines)
}

#[tokio::test]
async fn a_dry_run_on_the_first_day_lists_what_goes_later_and_from_when_on() {
    let shelf = Shelf::new().await;
    shelf.image(&app(), "old", &["old"]).await;
    shelf.age(LEASE);
    let pushed = SystemTime::now();
    let young = shelf.image(&app(), "young", &["young", "also"]).await;
    shelf.image(&app(), "kept", &["stays", "goes"]).await;
    let before = shelf.keys("");
    let (_, lines) = dry_run(&shelf, RULES, &["--only", "retention", "--format", "json"]);
    let of = |event: &str| {
        let of = lines.iter().filter(|line| line["event"] == event);
        let mut of: Vec<(&str, &str)> = of
            .map(|line| {
                (line["what"].as_str().unwrap(), line["reference"].as_str().or(line["digest"].as_str()).unwrap())
            })
            .collect();
        of.sort_unstable();
        of
    };
    let young = young.to_string();
    assert_eq!(of("later"), [("manifest", &*young), ("tag", "also"), ("tag", "goes"), ("tag", "young")]);
    assert!(of("removal").contains(&("tag", "old")) && of("removal").len() == 2, "{lines:?}");
    for line in lines.iter().filter(|line| line["event"] == "later") {
        assert_eq!(line["reason"], "retention");
        let from: Timestamp = line["from"].as_str().unwrap().parse().unwrap();
        let earliest = Timestamp::try_from(pushed + LEASE).unwrap();
        let off = from.duration_since(earliest).as_secs();
        assert!((-2..60).contains(&off), "{from} and {earliest}");
    }
    let summary = &lines[lines.len() - 1];
    assert_eq!(
        (&summary["later"]["tag"]["retention"], &summary["removed"]["tag"]["retention"]["number"]),
        (&json!(3), &json!(1))
    );
    let (text, _) = dry_run(&shelf, RULES, &["--only", "retention"]);
    let line = text.lines().find(|line| line.starts_with("would later remove tag prod/app:young ")).unwrap();
    assert!(line.contains("; from 20") && line.ends_with(" on"), "{line}");
    assert!(text.contains("would later remove: 3 tags (retention)"), "{text}");
    assert_eq!(shelf.keys(""), before, "a dry run changes nothing");
}

#[tokio::test]
async fn a_tag_waits_for_a_push_of_its_manifest_and_both_go_together() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    shelf.age(LEASE);
    // once more, by its digest alone
    shelf.image(&app(), "image", &[]).await;
    let mut config = config(RULES);
    config.scrub.untagged = simple_registry::config::Untagged::Keep;
    // of two copies of a blob, either may go
    let by_retention = |removal: &Removal| removal.reason == Reason::Retention;
    let removals = shelf.scrub(&config).await;
    assert!(!removals.iter().any(by_retention), "somebody may be at work on the manifest: {removals:?}");
    assert_eq!(shelf.tags(&app()).await, ["v1"]);
    shelf.age(LEASE);
    let removals = shelf.scrub(&config).await;
    let gone: Vec<What> = removals.iter().filter(|removal| by_retention(removal)).map(|removal| removal.what).collect();
    assert_eq!(gone, [What::Tag, What::Manifest]);
    assert!(!shelf.has(&app(), &image).await);
}

#[tokio::test]
async fn a_server_whose_clock_is_off_writes_down_pushes_and_pulls_by_the_stores_clock() {
    let shelf = Shelf::new().await;
    let clock = Clock::by_hand();
    clock.advance(Duration::from_hours(24_000));
    let server = world::server_on(shelf.store().await.with_clock(clock), |options| options.lease = LEASE);
    let config = world::push_blob(&server, &app(), b"{}").await;
    let descriptor = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config });
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": descriptor, "layers": [] });
    let digest = world::put(&server, &app(), &manifest.to_string(), &["v1"]).await;
    server.pulls.note(&app(), &Reference::Digest(digest), &digest);
    server.pulls.record().await.unwrap();
    let pushed = server.tags.history(&app(), &"v1".parse().unwrap(), 1, None).await.unwrap()[0].at;
    let [pulls] = &shelf.keys("repos/prod/app!/pulls/")[..] else { panic!("one server wrote them") };
    let pulls: Value = serde_json::from_slice(&std::fs::read(shelf.root().join(pulls)).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    for at in [u128::from(pushed), u128::from(pulls[0]["at"].as_u64().unwrap())] {
        assert!(now.abs_diff(at) < 60_000, "{at} at {now}");
    }
}

/// Pushes a manifest with annotations of so many bytes under these tags.
async fn annotated(shelf: &Shelf, keep: &str, bytes: usize, tags: &[&str]) -> Digest {
    let config = world::push_blob(&shelf.server, &app(), b"{}").await;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config },
        "layers": [],
        "annotations": { "keep": keep, "much": "x".repeat(bytes) },
    });
    world::put(&shelf.server, &app(), &manifest.to_string(), tags).await
}

#[tokio::test]
async fn annotations_of_more_than_is_held_at_a_time_are_asked_for_all_the_same() {
    let shelf = Shelf::new().await;
    let mut kept = Vec::new();
    // 44 MB in all
    for at in 0..11 {
        let (keep, tag) = (if at % 2 == 0 { "yes" } else { "no" }, format!("t{at:02}"));
        annotated(&shelf, &format!("{keep}{at}"), 4_000_000, &[&tag, &format!("u{at:02}")]).await;
        if keep == "yes" {
            kept.extend([tag, format!("u{at:02}")]);
        }
    }
    shelf.age(LEASE);
    let rules = "[repository.prod.retention_policy]\nrules = ['image.annotations[\"keep\"].startsWith(\"yes\")']\n";
    shelf.scrub(&config(rules)).await;
    kept.sort();
    assert_eq!(shelf.tags(&app()).await, kept);
}

#[tokio::test]
async fn memory_does_not_grow_with_annotations_times_tags() {
    let shelf = Shelf::new().await;
    // 800 copies of the annotations would be 3.2 GB
    let tags: Vec<String> = (0..800).map(|at| format!("t{at}")).collect();
    for tags in tags.chunks(100) {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        annotated(&shelf, "no", 4_000_000, &tags).await;
    }
    shelf.age(LEASE);
    for rule in ["image.tag == \"x\"", "image.annotations[\"keep\"] == \"yes\""] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let text = format!(
            "[storage.fs]\nroot_dir = '{}'\n[scrub]\nupload_expiry = \"10m\"\n[repository.prod.retention_policy]\nrules = ['{rule}']\n",
            shelf.root().display()
        );
        std::fs::write(&file, text).unwrap();
        // the address space, of which each thread takes some: in KiB
        let limited = "ulimit -v 1500000; exec \"$0\" -c \"$1\" scrub --dry-run --only retention";
        let mut command = Command::new("sh");
        command
            .args(["-c", limited, env!("CARGO_BIN_EXE_simple-registry")])
            .arg(&file)
            .env("TOKIO_WORKER_THREADS", "2");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{rule}: {output:?}");
        assert!(text.contains("would remove: 800 tags (retention)"), "{rule}: {text}");
    }
}

#[tokio::test]
async fn a_time_limit_bounds_all_passes() {
    let shelf = Shelf::new().await;
    shelf.image(&app(), "old", &["old"]).await;
    shelf.age(LEASE);
    let before = shelf.keys("");
    let limited = |pass| {
        let shelf = &shelf;
        async move {
            let change = |options: &mut simple_registry::scrub::Options| {
                options.passes = [pass].into();
                options.max_duration = Some(Duration::ZERO);
            };
            world::scrub_with(shelf.root(), &config(RULES), change).await.unwrap().0
        }
    };
    for pass in [Pass::Links, Pass::Retention, Pass::Garbage, Pass::Uploads] {
        assert!(limited(pass).await.out_of_time, "{pass:?}");
        assert_eq!(shelf.keys(""), before, "{pass:?}");
    }
    let unlimited = world::scrub_with(shelf.root(), &config(RULES), |_| {}).await.unwrap().0;
    assert!(!unlimited.out_of_time);
}
