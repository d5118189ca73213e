//! Policies of caches: rules that know the upstream and the age of an image, and the record of what they decide.

use serde_json::Value;

use super::Cached;
use crate::record::{new_file, replay, text_of};
use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::server::Backend;

/// Starts a cache with rules of its namespace, and a record. Returns the file of the record too.
fn start(default_allow: bool, rule: &str) -> (Cached, std::path::PathBuf) {
    let file = new_file();
    let policy = format!("[repository.hub.access_policy]\ndefault_allow = {default_allow}\nrules = [{rule:?}]");
    (Cached::start_with(Backend::Directory, &format!("{policy}\n[audit]\nfile = {file:?}\n")), file)
}

fn lines(file: &std::path::Path) -> Vec<Value> {
    text_of(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rules_and_the_record_name_the_upstream() {
    let (both, file) = start(true, "request.upstream == '127.0.0.1' && request.access == 'list'");
    let image = Image::new(&[10]);
    both.there().push_image("v1", &image);
    both.here().send(Request::get("/v2/hub/library/app/tags/list")).expect_error(403, "DENIED");
    assert!(!both.asked().contains(&"list-tags".to_owned()));
    both.here().get_manifest("v1").expect(200);
    both.here().get_manifest("v1").expect(200);
    both.here().get_manifest(&image.manifest.digest()).expect(200);
    let lines = lines(&file);
    let said = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line["request"]["upstream"] == "127.0.0.1"), "{lines:?}");
    assert_eq!(said("cache"), [Value::Null, "miss".into(), "hit".into(), "hit".into()]);
    // a hit by digest asks nobody
    assert_eq!(said("upstream"), [Value::Null, "127.0.0.1".into(), "127.0.0.1".into(), Value::Null]);
    assert_eq!(replay(&both.cache, &file.with_extension("jsonl.anonymous")).0, Some(0));
}

#[test]
fn a_rule_about_the_age_of_an_image_refuses_before_its_digest_is_told() {
    // no image is as old as this rule wants
    let (both, file) = start(true, "image.first_seen_at > timestamp('2000-01-01T00:00:00Z')");
    let image = Image::new(&[10]);
    let digest = both.there().push_image("v1", &image);
    for reference in ["v1", &digest] {
        for request in
            [Request::get(both.here().manifest_path(reference)), Request::head(both.here().manifest_path(reference))]
        {
            let answer = both.here().send(request);
            assert_eq!((answer.status, answer.header("docker-content-digest")), (403, None), "{reference}");
            assert_eq!(answer.header("etag"), None);
        }
    }
    // requests without an image are not meant
    both.here().get_blob(&crate::support::content::sha256(&image.blobs[0])).expect(200);
    both.here().send(Request::get("/v2/hub/library/app/tags/list")).expect(200);
    let lines = lines(&file);
    let pulls: Vec<_> = lines.iter().filter(|line| line["request"]["action"] == "get-manifest").collect();
    assert_eq!(pulls.len(), 4, "one line for each request: {lines:?}");
    for line in pulls {
        assert_eq!(
            (&line["decision"], &line["rule"], &line["status"]),
            (&"deny".into(), &"rules[0]".into(), &403.into())
        );
        assert_eq!(line["image"]["digest"], digest.as_str());
        assert_eq!(line["provisional"], Value::Null);
        assert!(line["decided_at"].is_null(), "no rule asks for the time: {line}");
    }
    assert_eq!(replay(&both.cache, &file.with_extension("jsonl.anonymous")).0, Some(0));
}

#[test]
fn a_rule_about_the_age_gives_what_is_old_enough_and_the_record_has_the_age() {
    let (both, file) = start(true, "image.first_seen_at < timestamp('2000-01-01T00:00:00Z')");
    let digest = both.there().push_image("v1", &Image::new(&[10]));
    assert_eq!(both.here().pull_image("v1"), digest);
    both.here().get_manifest(&digest).expect(200);
    let lines = lines(&file);
    let pulls: Vec<_> = lines.iter().filter(|line| line["request"]["action"] == "get-manifest").collect();
    assert!(pulls.len() > 1, "{lines:?}");
    for line in pulls {
        assert_eq!((&line["decision"], &line["image"]["digest"]), (&"allow".into(), &digest.as_str().into()));
        let seen = line["image"]["first_seen_at"].as_str().unwrap();
        // to the second
        assert!(seen > "2026" && seen[..19] <= line["time"].as_str().unwrap()[..19], "{line}");
    }
    assert_eq!(replay(&both.cache, &file.with_extension("jsonl.anonymous")).0, Some(0));
}

#[test]
fn a_rule_about_the_age_refuses_before_the_cooldown_tells_the_digest() {
    let rule = "image.first_seen_at > timestamp('2000-01-01T00:00:00Z')";
    let policy = format!(
        "[repository.hub]\ncooldown = \"3 days\"\naccess_policy = {{ default_allow = true, rules = [{rule:?}] }}\n"
    );
    let both = Cached::start_with(Backend::Directory, &policy);
    let digest = both.there().push_image("v1", &Image::new(&[10]));
    for reference in ["v1", &digest] {
        let refused = both.here().get_manifest(reference);
        let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        refused.expect_error(403, "DENIED");
        assert!(!message.contains("sha256:") && !message.contains("held back"), "{message}");
    }
}

#[test]
fn a_request_that_no_age_could_allow_asks_no_upstream() {
    let (both, file) = start(false, "request.reference == 'v2' && image.first_seen_at < now()");
    both.there().push_image("v1", &Image::new(&[10]));
    both.here().get_manifest("v1").expect_error(403, "DENIED");
    assert!(!both.asked().contains(&"get-manifest".to_owned()));
    // open, and never decided again: the upstream does not have it
    both.here().get_manifest("v2").expect_error(404, "MANIFEST_UNKNOWN");
    let lines = lines(&file);
    let said = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(said("decision"), ["deny", "allow"]);
    assert_eq!(said("provisional"), [Value::Null, true.into()]);
    let (code, says) = replay(&both.cache, &file.with_extension("jsonl.anonymous"));
    assert!(code == Some(0) && says.contains("1 not decided again"), "{says}");
}
