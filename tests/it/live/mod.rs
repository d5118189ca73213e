//! Edits while the server runs: of policies, configuration and certificates; good ones and bad ones, however they are written.

mod certificates;
mod load;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use simple_registry::credentials::hash_password;

use crate::support::client::Request;
use crate::support::server::{Backend, Server};

const LIST: &str = "/v2/app/tags/list";
const RELOADED: &[&str] = &["reloaded:"];
const REFUSED: &[&str] = &["not reloaded"];

/// A server with a directory of policies, one of which says who may list `app`.
struct World {
    server: Server,
    policies: PathBuf,
    lines: usize,
}

fn policy(effect: &str) -> String {
    format!(
        "repositories = [\"app\"]\n[[rule]]\nname = \"the-rule\"\neffect = \"{effect}\"\nwhen = 'request.access == \"list\"'\nmessage = \"by the rule\"\n"
    )
}

impl World {
    fn new() -> Self {
        let policies = tempfile::tempdir().expect("a directory").keep();
        fs::write(policies.join("app.toml"), policy("allow")).expect("write");
        let settings = format!("policy_dir = {policies:?}\nrepository.\"*\".access_policy.default_allow = false\n");
        let server = Server::start_plain(Backend::Directory, &settings);
        let lines = server.log().len();
        Self { server, policies, lines }
    }

    fn file(&self) -> PathBuf {
        self.policies.join("app.toml")
    }

    #[track_caller]
    fn wait(&mut self, words: &[&str]) {
        self.lines = self.server.wait_for_line(self.lines, words);
    }

    #[track_caller]
    fn lists(&self, status: u16) {
        self.server.client().send(Request::get("/v2/app/tags/list")).expect(status);
    }

    fn ready(&self) -> String {
        String::from_utf8(self.server.client().send(Request::get("/readyz")).expect(200).body).unwrap()
    }
}

fn rename_over(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("write");
    fs::rename(&beside, path).expect("rename");
}

#[test]
fn every_way_of_editing_a_policy_comes_into_force() {
    let mut world = World::new();
    world.lists(404);
    let file = world.file();

    fs::write(&file, policy("deny")).unwrap();
    world.wait(RELOADED);
    let refused = world.server.client().send(Request::get("/v2/app/tags/list"));
    assert_eq!(refused.expect_error(403, "DENIED")[0]["message"], "by the rule");

    rename_over(&file, &policy("allow"));
    world.wait(RELOADED);
    world.lists(404);

    let sed = Command::new("sed").args(["-i", "s/allow/deny/"]).arg(&file).status().expect("sed");
    assert!(sed.success());
    world.wait(RELOADED);
    world.lists(403);

    fs::remove_file(&file).unwrap();
    world.wait(RELOADED);
    world.lists(403);
    fs::write(&file, policy("allow")).unwrap();
    world.wait(RELOADED);
    world.lists(404);

    // a file that was not there before
    fs::write(world.policies.join("zz.toml"), policy("deny")).unwrap();
    world.wait(RELOADED);
    world.lists(403);
}

#[test]
fn an_invalid_edit_changes_nothing_and_is_logged() {
    let mut world = World::new();
    let file = world.file();
    assert_eq!(world.ready(), "ready\n");
    for wrong in ["not TOML", "[[rule]]\nname = \"x\"\neffect = \"allow\"\nwhen = 'identity.usrname == \"x\"'\n"] {
        fs::write(&file, wrong).unwrap();
        world.wait(REFUSED);
        world.lists(404);
        assert!(world.ready().contains("the last edit was refused"), "{}", world.ready());
        let metrics = world.server.client().send(Request::get("/metrics")).expect(200);
        assert!(String::from_utf8_lossy(&metrics.body).contains("simple_registry_reload_refused 1"));
    }
    fs::write(&file, policy("allow")).unwrap();
    world.wait(RELOADED);
    assert_eq!(world.ready(), "ready\n");
    let metrics = world.server.client().send(Request::get("/metrics")).expect(200);
    assert!(String::from_utf8_lossy(&metrics.body).contains("simple_registry_reload_refused 0"));
}

#[test]
fn an_edit_by_a_swapped_link_comes_into_force() {
    let volume = tempfile::tempdir().expect("a directory").keep();
    let version = |name: &str, text: &str| {
        fs::create_dir(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("app.toml"), text).unwrap();
    };
    version("..1", &policy("allow"));
    version("..2", &policy("deny"));
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/app.toml", volume.join("app.toml")).unwrap();
    let settings = format!("policy_dir = {volume:?}\nrepository.\"*\".access_policy.default_allow = false\n");
    let server = Server::start_plain(Backend::Directory, &settings);
    let lists = |status| drop(server.client().send(Request::get("/v2/app/tags/list")).expect(status));
    lists(404);
    let mut lines = server.log().len();
    for (data, status) in [("..2", 403), ("..1", 404), ("..2", 403)] {
        symlink(data, volume.join("..tmp")).unwrap();
        fs::rename(volume.join("..tmp"), volume.join("..data")).unwrap();
        lines = server.wait_for_line(lines, RELOADED);
        lists(status);
    }
}

#[test]
fn policies_that_vanish_with_their_directory_stay_in_force() {
    let mut world = World::new();
    fs::write(world.file(), policy("deny")).unwrap();
    world.wait(RELOADED);
    world.lists(403);
    let elsewhere = world.policies.with_extension("moved");
    fs::rename(&world.policies, &elsewhere).unwrap();
    world.wait(REFUSED);
    world.lists(403);
    fs::rename(&elsewhere, &world.policies).unwrap();
    world.wait(RELOADED);
    world.lists(403);
    // an empty directory is how to say that there are none
    fs::remove_file(world.file()).unwrap();
    world.wait(RELOADED);
    let missing = format!("policy_dir = {:?}\n", world.policies.join("not-there"));
    world.server.edit(&missing);
    world.wait(REFUSED);
}

#[test]
fn sighup_reads_the_files_again() {
    let mut world = World::new();
    world.server.signal(rustix::process::Signal::HUP);
    world.wait(&["nothing has changed"]);
    fs::write(world.file(), "not TOML").unwrap();
    world.wait(REFUSED);
    world.server.signal(rustix::process::Signal::HUP);
    world.wait(REFUSED);
    world.lists(404);
}

#[test]
fn the_log_names_an_edited_key_that_needs_a_restart() {
    let mut server = Server::start_plain(Backend::Directory, "");
    let client = server.client();
    client.send(Request::get("/v2/app/tags/list")).expect(404);
    let lines = server.log().len();
    server.edit("max_concurrent_requests = 7\nrepository.\"*\".access_policy.default_allow = false\n");
    let lines = server.wait_for_line(lines, &["max_concurrent_requests", "restart"]);
    server.wait_for_line(lines, RELOADED);
    client.send(Request::get("/v2/app/tags/list")).expect(403);
    let lines = server.log().len();
    server.edit("no_such_key = 1\n");
    server.wait_for_line(lines, &["not reloaded", "no_such_key"]);
    client.send(Request::get("/v2/app/tags/list")).expect(403);
}

#[test]
fn the_tokens_of_a_removed_identity_end() {
    let ana = |password: &str| {
        format!("[identity.ana]\nusername = \"ana\"\npassword = {:?}\n", hash_password(password).unwrap())
    };
    let other = format!("[identity.bo]\nusername = \"bo\"\npassword = {:?}\n", hash_password("b").unwrap());
    let key = tempfile::tempdir().unwrap().keep().join("token.key");
    let rest = format!(
        "repository.\"*\".access_policy.default_allow = false\nrepository.\"*\".access_policy.rules = [\"identity.username == 'ana'\"]\n\
         token.signing_key = {key:?}\n{other}"
    );
    let mut server = Server::start_plain(Backend::Directory, &format!("{rest}{}", ana("one")));
    let token = |password: &str| {
        let client = server.client().with_password("ana", password);
        let answer = client.send(Request::get("/token?scope=repository:app:pull")).expect(200).json();
        answer["token"].as_str().unwrap().to_owned()
    };
    let first = token("one");
    server.client().with_token(&first).send(Request::get(LIST)).expect(404);

    let lines = server.log().len();
    server.edit(&format!("{rest}{}", ana("two")));
    let lines = server.wait_for_line(lines, RELOADED);
    server.client().with_token(&first).send(Request::get(LIST)).expect(401);
    server.client().with_password("ana", "one").send(Request::get(LIST)).expect(401);
    server.client().with_password("ana", "two").send(Request::get(LIST)).expect(404);
    let answer = server.client().with_password("ana", "two").send(Request::get("/token?scope=repository:app:pull"));
    let second = answer.expect(200).json()["token"].as_str().unwrap().to_owned();

    server.edit(&rest);
    server.wait_for_line(lines, RELOADED);
    server.client().with_token(&second).send(Request::get(LIST)).expect(401);
    server.client().with_password("ana", "two").send(Request::get(LIST)).expect(401);
}
