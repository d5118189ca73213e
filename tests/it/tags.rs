//! Immutable tags, what tags meant, what comes back, and when images were pulled: as clients and operators see it.

use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::support::client::{Request, Response};
use crate::support::content::{Image, Manifest};
use crate::support::on_each_backend;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

const IMMUTABLE: &str = r#"
[repository.once]
immutable_tags = ["^v[0-9]"]
access_policy.default_allow = true
[repository.all]
immutable_tags = true
allow_delete = true
access_policy.default_allow = true
"#;

fn start(backend: Backend) -> Server {
    Server::start_plain(backend, IMMUTABLE)
}

/// Pushes the blobs of two manifests. Returns the manifests.
fn two(repo: &Repo) -> [Manifest; 2] {
    let image = Image::new(&[50]);
    repo.push_blobs(&image);
    ["1", "2"].map(|text| {
        let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        manifest["annotations"] = serde_json::json!({ "n": text });
        Manifest::new(&manifest)
    })
}

fn delete(repo: &Repo, reference: &str) -> Response {
    repo.send(Request::delete(repo.manifest_path(reference)))
}

/// Runs a command of the binary under the server's configuration; its exit code, and what it says.
fn command(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(server.configuration_file()).args(arguments);
    let output = command.output().expect("run it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn an_immutable_tag_refuses_another_digest_and_accepts_its_own(backend: Backend) {
    let server = start(backend);
    let repo = server.repo("once/app");
    let [first, second] = two(&repo);
    let digest = repo.push_manifest("v1", &first);
    repo.push_manifest("v1", &first);
    let refused = repo.send(repo.put_manifest("v1", &second)).expect(403);
    let error = refused.json()["errors"][0].clone();
    assert_eq!(error["code"], "DENIED");
    let message = error["message"].as_str().unwrap();
    for word in ["v1", "once/app", &digest, "push under another tag"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    assert_eq!(error["detail"]["rule"], "[repository.\"once\"] immutable_tags: ^v[0-9]");
    // of several tags none moves
    let put = Request::put(repo.path("manifests/latest?tag=v1"));
    let put = put.header("content-type", &second.media_type).body(second.bytes.clone());
    repo.send(put).expect(403);
    repo.get_manifest("latest").expect(404);
    repo.get_manifest(&second.digest()).expect(404);
    // and those that no pattern covers move as ever
    repo.push_manifest("latest", &first);
    repo.push_manifest("latest", &second);
    delete(&repo, "latest").expect(202);
    for reference in ["v1", &digest] {
        let message = delete(&repo, reference).expect(403).json()["errors"][0]["message"].to_string();
        assert!(message.contains("v1") && message.contains("allow_delete"), "{message}");
    }
    assert_eq!(repo.pull_image("v1"), digest);
    delete(&repo, "v9").expect_error(404, "MANIFEST_UNKNOWN");
    delete(&repo, &second.digest()).expect(202);
}

fn an_immutable_tag_with_allow_delete_can_be_deleted_and_pushed_anew(backend: Backend) {
    let server = start(backend);
    let repo = server.repo("all");
    let [first, second] = two(&repo);
    repo.push_manifest("any", &first);
    repo.send(repo.put_manifest("any", &second)).expect_error(403, "DENIED");
    delete(&repo, "any").expect(202);
    let digest = repo.push_manifest("any", &second);
    repo.send(repo.put_manifest("any", &first)).expect_error(403, "DENIED");
    delete(&repo, &digest).expect(202);
    repo.push_manifest("any", &first);
    assert_eq!(repo.pull_image("any"), first.digest());
}

fn when_pushes_race_exactly_one_wins(backend: Backend) {
    let server = start(backend);
    let repo = server.repo("once/race");
    let manifests = two(&repo);
    for round in 0..50 {
        let tag = format!("v{round}");
        let statuses: Vec<u16> = thread::scope(|scope| {
            let push = |manifest| {
                let (repo, tag) = (&repo, &tag);
                scope.spawn(move || repo.send(repo.put_manifest(tag, manifest)).status)
            };
            let racing: Vec<_> = manifests.iter().map(push).collect();
            racing.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winner = match *statuses {
            [201, 403] => &manifests[0],
            [403, 201] => &manifests[1],
            _ => panic!("round {round}: {statuses:?}"),
        };
        assert_eq!(repo.pull_image(&tag), winner.digest());
    }
}

fn the_history_of_a_tag_has_pages_and_a_command(backend: Backend) {
    let server = Server::start_plain(backend, "");
    let repo = server.repo("team/app");
    let [first, second] = two(&repo);
    repo.send(repo.put_manifest("v1", &first).header("x-request-id", "pushed-first")).expect(201);
    repo.push_manifest("v1", &second);
    delete(&repo, "v1").expect(202);
    let path = repo.path("_history/v1");
    let answer = repo.send(Request::get(&path)).expect(200);
    let told = answer.json();
    assert_eq!((&told["name"], &told["tag"]), (&"team/app".into(), &"v1".into()));
    let digests: Vec<&Value> = told["history"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(digests, [&Value::Null, &second.digest().into(), &first.digest().into()]);
    let oldest = &told["history"][2];
    assert_eq!((&oldest["request_id"], &oldest["by"]), (&"pushed-first".into(), &"anonymous".into()));
    assert!(oldest["from"].as_str().unwrap().starts_with("20"), "{oldest}");
    assert_eq!(answer.header("link"), None);
    let page = repo.send(Request::get(format!("{path}?n=2"))).expect(200);
    let next = page.required("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = repo.send(Request::get(next)).expect(200);
    assert_eq!(rest.json()["history"], serde_json::json!([oldest]));
    assert_eq!(rest.header("link"), None);
    repo.send(Request::get(repo.path("_history/v9"))).expect_error(404, "MANIFEST_UNKNOWN");
    repo.send(Request::get(format!("{path}?last=v1"))).expect_error(400, "UNSUPPORTED");
    repo.send(Request::delete(&path)).expect(405);

    let (code, text) = command(&server, &["history", "team/app:v1", "--format", "json"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told);
    let (code, text) = command(&server, &["history", "team/app:v1"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(code == Some(0) && lines.len() == 3 && lines[0].contains("gone"), "{text}");
    assert!(lines[2].contains(&first.digest()) && lines[2].contains("pushed-first"), "{text}");
    let (code, text) = command(&server, &["history", "team/app:v9"]);
    assert!(code == Some(1) && text.contains("team/app"), "{text}");
    assert_eq!(command(&server, &["history", "team/app"]).0, Some(2));
}

fn a_deleted_image_and_blob_are_restored_beside_the_server(backend: Backend) {
    let server = Server::start_plain(backend, "cache_ttl = \"0s\"\n");
    let repo = server.repo("team/app");
    let image = Image::new(&[50, 60]);
    let digest = repo.push_image("v1", &image);
    let (code, text) = command(&server, &["restore", "team/app:v1"]);
    assert!(code == Some(0) && text.contains("nothing to restore"), "{text}");
    delete(&repo, &digest).expect(202);
    for blob in &image.blobs {
        let blob = crate::support::content::sha256(blob);
        repo.send(Request::delete(repo.blob_path(&blob))).expect(202);
        repo.get_blob(&blob).expect(404);
    }
    let (code, text) = command(&server, &["restore", "team/app:v1"]);
    assert!(code == Some(0) && text.contains("tag v1") && text.contains(&digest), "{text}");
    assert_eq!(repo.pull_image("v1"), digest);
    let loose = repo.push_blob(b"loose");
    repo.send(Request::delete(repo.blob_path(&loose))).expect(202);
    let (code, text) = command(&server, &["restore", &format!("team/app@{loose}")]);
    assert!(code == Some(0) && text.contains(&loose), "{text}");
    repo.get_blob(&loose).expect(200);
    let (code, text) = command(&server, &["restore", "team/app:v9"]);
    assert!(code == Some(1) && text.contains("v9") && text.contains("team/app"), "{text}");
    assert_eq!(command(&server, &["restore", "team/app"]).0, Some(2));
}

#[test]
fn pulls_are_recorded_when_the_server_stops() {
    let mut server = Server::start_plain(Backend::Directory, "");
    let repo = server.repo("team/app");
    let digest = repo.push_image("v1", &Image::new(&[50]));
    repo.push_manifest("pushed-alone", &Manifest::new(&repo.get_manifest(&digest).expect(200).json()));
    repo.send(Request::head(repo.manifest_path("v1"))).expect(200);
    repo.push_image("v2", &Image::new(&[50]));
    let etag = format!("\"{}\"", repo.send(Request::head(repo.manifest_path("v2"))).required("docker-content-digest"));
    repo.send(Request::get(repo.manifest_path("v2")).header("if-none-match", &etag)).expect(304);
    repo.get_manifest("v9").expect(404);
    assert!(server.terminate().success());
    let pulls = server.root().join("repos/team/app!/pulls");
    let mut seen: Vec<(String, String)> = Vec::new();
    for file in std::fs::read_dir(pulls).unwrap() {
        let written: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for pull in written.as_array().unwrap() {
            assert!(pull["at"].as_u64().unwrap() > 1_700_000_000_000, "{pull}");
            let tag = pull["tag"].as_str().unwrap_or_default().to_owned();
            seen.push((tag, pull["digest"].as_str().unwrap().to_owned()));
        }
    }
    seen.sort();
    let tags: Vec<&str> = seen.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["", "v1", "v2"], "{seen:?}");
    assert!(seen[0].1 == digest && seen[1].1 == digest, "{seen:?}");
    assert!(server.root().join("pulls-recorded-since").exists());
}

on_each_backend! {
    own:
        an_immutable_tag_refuses_another_digest_and_accepts_its_own,
        an_immutable_tag_with_allow_delete_can_be_deleted_and_pushed_anew,
        when_pushes_race_exactly_one_wins,
        the_history_of_a_tag_has_pages_and_a_command,
        a_deleted_image_and_blob_are_restored_beside_the_server,
}
