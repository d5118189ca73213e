//! Tests restore after scrub removed an image: the objects that were removed with the image come back, and no others.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use crate::scrub::{
    kept::pass,
    shelf::{Shelf, config},
    world,
};
use serde_json::{Value, json};
use simple_registry::{
    action::Page,
    config::Config,
    oci::{Digest, Name, Reference, Tag},
    records::{Actor, key::Prefix},
    registry::Restored,
};

const DAY: Duration = Duration::from_hours(24);

fn app() -> Name {
    "team/app".parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn ana() -> Actor {
    Actor { identity: "ana".to_owned(), request: "r1".to_owned() }
}

/// Returns a configuration with a week of trash.
fn week(text: &str) -> Config {
    let mut config = config(text);
    config.scrub.trash = DAY * 7;
    config
}

async fn delete(shelf: &Shelf, digest: &Digest) {
    shelf.server.manifests.delete(&app(), digest, &ana()).await.unwrap();
}

/// Restores an image, of which everything comes back. Returns the restored objects.
async fn restore(shelf: &Shelf, reference: Reference) -> Vec<Restored> {
    let came = shelf.another_server().await.restore(&app(), &reference, &Actor::default()).await.unwrap();
    assert_eq!(came.lost, []);
    came.restored
}

#[tokio::test]
async fn what_went_with_an_image_comes_back_with_it_and_what_somebody_deleted_does_not() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    let about = |suffix: &str| format!("sha256-{}{suffix}", image.hex());
    let signature = shelf.referrer(&app(), "signature", Some(&image), &[]).await;
    let of_it = shelf.referrer(&app(), "of the signature", Some(&signature), &[]).await;
    let before = shelf.referrer(&app(), "deleted before", Some(&image), &[]).await;
    let after = shelf.referrer(&app(), "deleted after", Some(&image), &[]).await;
    let of_after = shelf.referrer(&app(), "of what was deleted after", Some(&after), &[]).await;
    let named = shelf.image(&app(), "named", &[&about(".sig")]).await;
    shelf.image(&app(), "withdrawn", &[&about(".att")]).await;
    pass(&shelf, DAY * 2);
    delete(&shelf, &before).await;
    shelf.server.tags.delete(&app(), &tag(&about(".att")), &ana()).await.unwrap();
    pass(&shelf, DAY);
    delete(&shelf, &image).await;
    delete(&shelf, &after).await;
    // until nothing is left of them but what the trash keeps
    for _ in 0..4 {
        pass(&shelf, DAY);
        shelf.scrub(&week("")).await;
    }
    for digest in [&signature, &of_it, &of_after, &named] {
        assert!(!shelf.has(&app(), digest).await, "{digest} went with the image");
    }
    let reference = Reference::Tag(tag("v1"));
    let expected = [
        Restored::Tag(tag("v1"), image),
        Restored::Manifest(image),
        Restored::Manifest(signature),
        Restored::Tag(tag(&about(".sig")), named),
        Restored::Manifest(named),
        Restored::Manifest(of_it),
    ];
    assert_eq!(restore(&shelf, reference.clone()).await, expected);
    assert_eq!(restore(&shelf, reference).await, []);
    for _ in 0..2 {
        let referrers = shelf.server.referrers.list(&app(), &image, None, &Page { n: None, last: None }).await.unwrap();
        assert_eq!(referrers.descriptors.iter().map(|it| it.digest).collect::<Vec<_>>(), [signature]);
        assert_eq!(shelf.tags(&app()).await, [about(".sig"), "v1".to_owned()]);
        assert!(shelf.has(&app(), &named).await && shelf.has(&app(), &of_it).await);
        // and stays
        pass(&shelf, DAY);
        shelf.scrub(&week("")).await;
    }
}

#[tokio::test]
async fn what_an_image_lost_comes_back_when_it_was_pushed_again_and_not_when_it_ended_again_without_it() {
    for since in ["a moment ago", "long ago", "ended again"] {
        let shelf = Shelf::new().await;
        let image = shelf.image(&app(), "image", &["v1"]).await;
        let signature = shelf.referrer(&app(), "signature", Some(&image), &[]).await;
        pass(&shelf, DAY);
        delete(&shelf, &image).await;
        pass(&shelf, DAY);
        shelf.scrub(&week("")).await;
        pass(&shelf, DAY);
        shelf.image(&app(), "image", &["v1"]).await;
        assert!(!shelf.has(&app(), &signature).await);
        match since {
            "long ago" => {
                pass(&shelf, DAY);
                shelf.scrub(&week("")).await;
                assert_eq!(
                    shelf.keys(&Prefix::Manifest(&app(), &image).to_string()).len(),
                    1,
                    "nothing of its end is left"
                );
            }
            "ended again" => {
                pass(&shelf, DAY);
                delete(&shelf, &image).await;
            }
            _ => {}
        }
        let expected = if since == "ended again" { image } else { signature };
        assert_eq!(restore(&shelf, Reference::Digest(image)).await, [Restored::Manifest(expected)], "{since}");
    }
}

#[tokio::test]
async fn what_one_run_let_go_belongs_together_however_coarse_the_times_of_the_store_are() {
    let shelf = Shelf::new().await;
    let image = shelf.image(&app(), "image", &["v1"]).await;
    let signature = shelf.referrer(&app(), "signature", Some(&image), &[]).await;
    pass(&shelf, DAY * 30);
    let rules = "[repository.team.retention_policy]\nrules = ['image.pushed_at > now() - days(15)']\n";
    shelf.scrub(&week(rules)).await;
    for key in shelf.keys(&Prefix::Manifest(&app(), &signature).to_string()).iter().filter(|key| key.contains(".rm.")) {
        let file = fs::File::options().write(true).open(shelf.root().join(key)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - Duration::from_secs(2)).unwrap();
    }
    let restored = restore(&shelf, Reference::Tag(tag("v1"))).await;
    assert_eq!(restored.last(), Some(&Restored::Manifest(signature)), "{restored:?}");
}

fn run(config: &str, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_simple-registry")).args(["-c", config]).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_what_came_back_and_what_did_not() {
    let shelf = Shelf::new().await;
    let child = shelf.image(&app(), "child", &[]).await;
    let index = shelf.index(&app(), &[child], &["all"]).await;
    let signature = shelf.referrer(&app(), "signature", Some(&child), &[]).await;
    let lost = shelf.referrer(&app(), "lost", Some(&child), &[]).await;
    pass(&shelf, DAY);
    delete(&shelf, &index).await;
    pass(&shelf, DAY);
    shelf.scrub(&week("")).await;
    for key in shelf.keys(&Prefix::Manifest(&app(), &lost).to_string()).iter().filter(|key| key.contains(".put.")) {
        fs::remove_file(shelf.root().join(key)).unwrap();
    }
    let beside = tempfile::tempdir().unwrap();
    let config = world::configuration(beside.path(), shelf.root(), "");
    let config = config.to_str().unwrap();
    let what = format!("team/app@{index}");
    let said: Value = serde_json::from_slice(&run(config, &["restore", &what, "--format", "json"]).stdout).unwrap();
    let manifest = |digest: &Digest| json!({ "kind": "manifest", "digest": digest });
    assert_eq!(said["name"], "team/app");
    assert_eq!(said["restored"], json!([manifest(&child), manifest(&index), manifest(&signature)]), "{said}");
    let not = said["not_restored"].as_array().unwrap();
    assert!(not.len() == 1 && not[0]["reference"] == lost.to_string(), "{said}");
    assert!(not[0]["why"].as_str().unwrap().contains("push it again"), "{said}");
    assert!(shelf.has(&app(), &signature).await && shelf.has(&app(), &index).await);
    let again = run(config, &["restore", &what]);
    let (out, err) = (String::from_utf8(again.stdout).unwrap(), String::from_utf8(again.stderr).unwrap());
    assert!(out.contains("nothing to restore"), "{out}");
    assert!(err.contains("not restored in team/app") && err.contains(&lost.to_string()), "{err}");
}
