//! Rules about a tag hold however a request reaches the tag: by its path, by `?tag=`, or by a delete of its digest.

use std::path::PathBuf;

use serde_json::Value;

use crate::record::{new_file, replay};
use crate::support::client::{Client, Request, Response};
use crate::support::content::{Image, Manifest};
use crate::support::on_each_backend;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

const RELEASES: &str = r#"
repositories = ["prod"]
default = "allow"
[[rule]]
name = "releases"
effect = "deny"
when = 'request.access in ["push", "delete"] && request.reference.startsWith("v") && identity.username != "alice"'
message = "releases are made by alice"
[[rule]]
name = "few-tags"
effect = "deny"
when = 'request.tags.exists(tag, tag == "alone") && size(request.tags) > 1'
"#;

const PASSWORD: &str = "a password";

/// A server with the policy, its record, and the repository as alice and as mallory see it.
struct World {
    server: Server,
    record: PathBuf,
    alice: Repo,
    mallory: Repo,
}

impl World {
    fn new(backend: Backend) -> Self {
        let policies = tempfile::tempdir().unwrap().keep();
        std::fs::write(policies.join("releases.toml"), RELEASES).unwrap();
        let record = new_file();
        let hash = simple_registry::credentials::hash_password(PASSWORD).unwrap();
        let key = policies.join("token.key");
        let user = |name: &str| format!("[identity.{name}]\nusername = \"{name}\"\npassword = {hash:?}\n");
        let settings = format!(
            "policy_dir = {policies:?}\n[audit]\nfile = {record:?}\n[token]\nsigning_key = {key:?}\n{}{}",
            user("alice"),
            user("mallory")
        );
        let server = Server::start_plain(backend, &settings);
        let as_user = |name| Repo::new(Client::new(server.address()).with_password(name, PASSWORD), "prod/app");
        let (alice, mallory) = (as_user("alice"), as_user("mallory"));
        Self { server, record, alice, mallory }
    }

    /// Returns the last line of the record.
    fn last(&self) -> Value {
        let text = std::fs::read_to_string(&self.record).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    fn expect_replay_without_change(&self) {
        let (code, text) = replay(&self.server, &self.record);
        assert_eq!(code, Some(0), "nothing was edited, and yet: {text}");
    }
}

fn put(repo: &Repo, reference: &str, tags: &[&str], manifest: &Manifest) -> Response {
    let tags: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let path = format!("{}?{}", repo.manifest_path(reference), tags.join("&"));
    let request = Request::put(path).header("content-type", &manifest.media_type).body(manifest.bytes.clone());
    repo.send(request)
}

fn message(response: &Response) -> String {
    response.json()["errors"][0]["message"].as_str().unwrap().to_owned()
}

on_each_backend! {
    own: a_push_of_several_tags_is_decided_for_each_of_them, a_delete_by_digest_is_decided_for_each_tag_that_it_removes
}

fn a_push_of_several_tags_is_decided_for_each_of_them(backend: Backend) {
    let world = World::new(backend);
    let (image, other) = (Image::new(&[10]), Image::new(&[11]));
    world.alice.push_blobs(&image);
    world.alice.push_blobs(&other);
    put(&world.alice, "x", &["v1"], &image.manifest).expect(201);
    for reference in ["x", other.manifest.digest().as_str()] {
        let refused = put(&world.mallory, reference, &["y", "v1"], &other.manifest).expect(403);
        assert_eq!(message(&refused), "tag v1: releases are made by alice");
        let line = world.last();
        assert_eq!((&line["decision"], &line["rule"]), (&"deny".into(), &"releases".into()));
        assert_eq!(line["request"]["reference"], reference);
        assert_eq!(line["tag_count"], if reference == "x" { 3 } else { 2 });
        assert_eq!(world.alice.get_manifest("v1").required("docker-content-digest"), image.manifest.digest());
        world.mallory.send(Request::get(world.mallory.manifest_path("y"))).expect(404);
    }
    put(&world.mallory, &other.manifest.digest(), &["y", "z"], &other.manifest).expect(201);
    let line = world.last();
    assert_eq!((&line["decision"], &line["tag_count"]), (&"allow".into(), &2.into()));
    // rules see the whole list each time
    put(&world.mallory, "alone", &[], &other.manifest).expect(201);
    assert!(world.last()["tag_count"].is_null());
    let refused = put(&world.mallory, "alone", &["y"], &other.manifest).expect(403);
    assert!(message(&refused).contains("few-tags"), "{refused:?}");
    let many: Vec<String> = (0..30).map(|at| format!("t{at}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    put(&world.mallory, "x", &many, &other.manifest).expect(201);
    assert_eq!(
        (&world.last()["tag_count"], world.last()["request"]["tags"].as_array().unwrap().len()),
        (&31.into(), 20)
    );
    many.push("v2");
    put(&world.mallory, "x", &many, &other.manifest).expect(403);
    let line = world.last();
    let named = line["request"]["tags"].as_array().unwrap();
    assert_eq!((&line["tag_count"], named.len(), &named[19]), (&32.into(), 20, &"v2".into()));
    world.expect_replay_without_change();
}

fn a_delete_by_digest_is_decided_for_each_tag_that_it_removes(backend: Backend) {
    let world = World::new(backend);
    let image = Image::new(&[10]);
    world.alice.push_blobs(&image);
    let tags: Vec<String> = (0..24).map(|at| format!("b{at:02}")).collect();
    let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    tags.push("v1");
    put(&world.alice, "a", &tags, &image.manifest).expect(201);
    let digest = image.manifest.digest();
    let delete = |repo: &Repo, reference: &str| repo.send(Request::delete(repo.manifest_path(reference)));
    let refused = delete(&world.mallory, &digest).expect(403);
    assert_eq!(message(&refused), "tag v1: releases are made by alice");
    let line = world.last();
    assert_eq!((&line["decision"], &line["rule"], &line["status"]), (&"deny".into(), &"releases".into(), &403.into()));
    let named = line["request"]["tags"].as_array().unwrap();
    assert_eq!((&line["tag_count"], named.len(), &named[0], &named[19]), (&26.into(), 20, &"a".into(), &"v1".into()));
    assert_eq!(world.alice.get_manifest("v1").required("docker-content-digest"), digest);
    assert_eq!(world.alice.tags("").len(), 26, "no tag went");
    world.expect_replay_without_change();

    delete(&world.alice, "v1").expect(202);
    delete(&world.mallory, &digest).expect(202);
    let line = world.last();
    assert_eq!((&line["decision"], &line["tag_count"], &line["status"]), (&"allow".into(), &25.into(), &202.into()));
    world.alice.send(Request::get(world.alice.manifest_path("a"))).expect(404);
    world.expect_replay_without_change();
    // one that has no tag is decided for its digest alone
    put(&world.alice, &digest, &[], &image.manifest).expect(201);
    delete(&world.mallory, &digest).expect(202);
    assert!(world.last()["tag_count"].is_null());
}
