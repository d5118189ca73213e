//! An upload belongs to whoever began it.

use simple_registry::credentials::hash_password;

use super::{Who, world::PASSWORD};
use crate::support::client::Request;
use crate::support::content::{sha256, unique};
use crate::support::repo::{Repo, finish};
use crate::support::server::{Backend, Server};

/// Returns the owner of an upload. The username counts before the certificate, however it was proved.
fn owner(who: Who) -> &'static str {
    match who {
        Who::Anonymous | Who::AnonymousToken => "",
        Who::Certificate | Who::CertificateToken => "ci",
        Who::Password | Who::Token | Who::Both => "ana",
        other => panic!("{other:?} gets no further"),
    }
}

#[test]
fn only_the_owner_reads_continues_completes_or_cancels_an_upload() {
    let everybody = [
        Who::Anonymous,
        Who::AnonymousToken,
        Who::Certificate,
        Who::CertificateToken,
        Who::Password,
        Who::Token,
        Who::Both,
    ];
    let repo = |who: Who| Repo::new(who.client(), "everyone/app");
    let repos: Vec<_> = everybody.into_iter().map(|who| (who, repo(who))).collect();
    for began in [Who::Anonymous, Who::Certificate, Who::Password, Who::Both] {
        let data = unique(100);
        let own = repo(began);
        let location = own.start_upload();
        for (who, repo) in &repos {
            let status = if owner(*who) == owner(began) { 204 } else { 404 };
            let seen = repo.send(Request::get(&location));
            assert_eq!(seen.status, status, "{who:?} at an upload that {began:?} began: {seen:?}");
            if status == 404 {
                seen.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
                repo.send(Request::patch(&location).body("x")).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
                let end = finish(&location, &sha256(&data)).body(data.clone());
                repo.send(end).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
                repo.send(Request::delete(&location)).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
            }
        }
        // another way to prove the same goes on
        let (_, same) = repos.iter().rev().find(|(who, _)| owner(*who) == owner(began)).unwrap();
        let location = same.send(Request::patch(&location).body(data.clone())).expect(202).location();
        own.send(finish(&location, &sha256(&data))).expect(201);
        // and after its end nobody else learns of it
        for (who, repo) in repos.iter().filter(|(who, _)| owner(*who) != owner(began)) {
            let again = repo.send(finish(&location, &sha256(&data)));
            assert_eq!(again.status, 404, "{who:?} repeats the end of {began:?}");
        }
    }
}

/// Starts a server with the users alice and bob, and rules about the owner of an upload.
fn server_of_two(rules: &str) -> Server {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let hash = hash_password(PASSWORD).expect("a hash");
    let settings = format!(
        "access_policy.default_allow = true\n[repository.\"*\".access_policy]\ndefault_allow = false\nrules = [{rules}]\n\
         [identity.alice]\nusername = \"alice\"\npassword = {hash:?}\n[identity.bob]\nusername = \"bob\"\npassword = {hash:?}\n\
         [token]\nsigning_key = {:?}\n[audit]\nfile = {:?}\n",
        directory.join("token.key"),
        directory.join("audit.jsonl"),
    );
    Server::start_plain(Backend::Directory, &settings)
}

fn record_of(server: &Server) -> String {
    let config: toml::Table = std::fs::read_to_string(server.configuration_file()).unwrap().parse().unwrap();
    crate::record::text_of(config["audit"]["file"].as_str().unwrap().as_ref())
}

/// Returns the decisions about this action in the record, each with the upload's owner.
fn recorded(server: &Server, action: &str) -> Vec<(String, String)> {
    let lines = record_of(server);
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let of_action = lines.filter(|line| line["request"]["action"] == action);
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    of_action.map(|line| (text(&line["decision"]), text(&line["request"]["upload_owner"]))).collect()
}

#[test]
fn rules_see_the_owner_of_an_upload_after_a_restart() {
    let mut server = server_of_two(
        "\"identity.username != '' && request.action == 'start-upload'\", \"request.upload_owner == 'alice'\"",
    );
    let (mut locations, names) = (Vec::new(), ["alice", "bob"]);
    for name in names {
        locations.push(Repo::new(server.client().with_password(name, PASSWORD), "a/b").start_upload());
    }
    for _ in 0..2 {
        for (name, status) in [("alice", 204), ("bob", 403)] {
            let index = names.iter().position(|other| *other == name).unwrap();
            let client = server.client().with_password(name, PASSWORD);
            client.send(Request::get(&locations[index])).expect(status);
        }
        // allowed by the rule, and still not his
        let bob = server.client().with_password("bob", PASSWORD);
        bob.send(Request::get(&locations[0])).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
        server.restart();
    }
    let decided = [("allow", "alice"), ("deny", "bob"), ("allow", "alice")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(recorded(&server, "get-upload"), [decided.clone(), decided].concat());
    assert!(recorded(&server, "start-upload").iter().all(|(_, owner)| owner.is_empty()));
}

#[test]
fn the_record_names_the_owner_of_an_upload_without_a_rule_about_it() {
    let mut server = server_of_two("\"identity.username != ''\"");
    let alice = server.client().with_password("alice", PASSWORD);
    let location = Repo::new(alice.clone(), "a/b").start_upload();
    server.restart();
    let alice = server.client().with_password("alice", PASSWORD);
    alice.send(Request::patch(&location).body("x")).expect(202);
    assert_eq!(recorded(&server, "update-upload"), [("allow".to_owned(), "alice".to_owned())]);
    // a stranger whom policy refuses is not told, and costs no look
    server.restart();
    server.client().send(Request::delete(&location)).expect(401);
    assert_eq!(recorded(&server, "cancel-upload"), [("deny".to_owned(), String::new())]);
    // the record says that nobody looked
    let file = record_of(&server);
    let looked = |action: &str| {
        let line = file.lines().rfind(|line| line.contains(action)).expect("a line");
        !line.contains("\"upload_owner_unknown\":true")
    };
    assert!(looked("update-upload") && looked("start-upload") && !looked("cancel-upload"), "{file}");
}
