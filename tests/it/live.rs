//! Edits while the server runs: of policies, configuration and certificates; good ones and bad ones, however they are written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use simple_registry::credentials::hash_password;

use crate::support::client::{Client, Request};
use crate::support::content::Image;
use crate::support::pki::{Authority, Issued};
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

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
fn a_policy_is_edited_as_editors_do() {
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
fn a_wrong_edit_changes_nothing_but_a_line_of_the_log() {
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
fn a_mounted_volume_swaps_a_link() {
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
fn a_hangup_reads_again() {
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
fn the_configuration_is_edited_and_what_takes_a_restart_says_so() {
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

/// A server over TLS whose certificates may be replaced.
struct Secure {
    server: Server,
    directory: PathBuf,
    authority: Authority,
    lines: usize,
}

impl Secure {
    fn new(more: &str) -> Self {
        let authority = Authority::new("ours");
        let directory = tempfile::tempdir().expect("a directory").keep();
        authority.server().write(&directory, "server");
        fs::write(directory.join("authority.pem"), authority.pem()).unwrap();
        fs::write(directory.join("revoked.pem"), authority.revocation_list(&[])).unwrap();
        let settings = format!(
            "{more}\nrepository.\"*\".access_policy.default_allow = false\n\
             repository.\"*\".access_policy.rules = [\"identity.certificate.organizations.contains('ci') || identity.username == 'ana'\"]\n\
             [token]\nsigning_key = {:?}\n\
             [server.tls]\nserver_certificate_bundle = {:?}\nserver_private_key = {:?}\nclient_ca_bundle = {:?}\nclient_crl = {:?}\n",
            directory.join("token.key"),
            directory.join("server.pem"),
            directory.join("server.key"),
            directory.join("authority.pem"),
            directory.join("revoked.pem"),
        );
        let server = Server::start_plain(Backend::Directory, &settings);
        let lines = server.log().len();
        Self { server, directory, authority, lines }
    }

    fn client(&self, own: Option<&Issued>) -> Client {
        self.server.client().with_tls(self.authority.client_config(own))
    }

    #[track_caller]
    fn wait(&mut self, words: &[&str]) {
        self.lines = self.server.wait_for_line(self.lines, words);
    }
}

const LIST: &str = "/v2/app/tags/list";

#[test]
fn a_certificate_and_its_key_are_replaced_one_after_the_other() {
    let mut world = Secure::new("");
    let ci = world.authority.client("build-1", &["ci"]);
    world.client(Some(&ci)).send(Request::get(LIST)).expect(404);
    let another = Authority::new("the next");
    let server = another.server();
    rename_over(&world.directory.join("server.pem"), &server.pem());
    world.wait(REFUSED);
    // what was in force still is
    world.client(Some(&ci)).send(Request::get(LIST)).expect(404);
    rename_over(&world.directory.join("server.key"), &server.key_pem());
    world.wait(RELOADED);
    assert!(world.client(Some(&ci)).try_send(Request::get(LIST)).is_err(), "the old authority vouches for the new one");
    let client = world.server.client().with_tls(another.client_config(None));
    client.send(Request::get("/v2/")).expect(200);
}

#[test]
fn an_open_connection_is_held_to_the_revocation_list_in_force() {
    let mut world = Secure::new("");
    let (stays, goes) = (world.authority.client("build-1", &["ci"]), world.authority.client("build-2", &["ci"]));
    let mut connections = [&stays, &goes].map(|own| world.client(Some(own)).connect().expect("connect"));
    let list = Request::get(LIST);
    for connection in &mut connections {
        connection.write_request(&list).unwrap();
        connection.read_response(&list).unwrap().expect(404);
    }
    let token = world.client(Some(&goes)).send(Request::get("/token?scope=repository:app:pull")).expect(200).json();
    let token = world.client(None).with_token(token["token"].as_str().unwrap());
    token.send(list.clone()).expect(404);

    rename_over(&world.directory.join("revoked.pem"), &world.authority.revocation_list(&[&goes]));
    world.wait(RELOADED);
    let [still, no_longer] = &mut connections;
    still.write_request(&list).unwrap();
    still.read_response(&list).unwrap().expect(404);
    no_longer.write_request(&list).unwrap();
    let refused = no_longer.read_response(&list).unwrap();
    assert_eq!(refused.header("connection"), Some("close"));
    refused.expect_error(401, "UNAUTHORIZED");
    let again = no_longer.write_request(&list).and_then(|()| no_longer.read_response(&list));
    assert!(again.is_err(), "the connection stayed open");
    assert!(world.client(Some(&goes)).try_send(list.clone()).is_err(), "a new connection is refused in the handshake");
    token.send(list).expect(401);
}

#[test]
fn an_identity_that_is_removed_takes_its_tokens_along() {
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

/// Edits under load; `EDITS` says how many, 200 unless told.
#[test]
fn edits_under_load_fail_no_request_but_by_the_policy_in_force() {
    let edits: usize = std::env::var("EDITS").ok().map_or(200, |edits| edits.parse().expect("EDITS is a number"));
    let world = World::new();
    fs::write(world.policies.join("zz.toml"), "repositories = [\"pushed\"]\ndefault = \"allow\"\n").unwrap();
    let lines = world.server.wait_for_line(world.lines, RELOADED);
    // what the policy in force says of the list: known between an announcement and the next edit
    let (allowed, epoch, stop) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicBool::new(false));
    let checked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (client, world) = (world.server.client(), &world);
            let (allowed, epoch, stop, checked) = (&allowed, &epoch, &stop, &checked);
            scope.spawn(move || {
                let repo = Repo::new(client.clone(), format!("pushed/{number}"));
                let mut connection = client.connect().expect("connect");
                let list = Request::get(LIST);
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let before = epoch.load(Ordering::SeqCst);
                    let expected = allowed.load(Ordering::SeqCst);
                    connection.write_request(&list).expect("write");
                    let status = connection.read_response(&list).expect("an answer").status;
                    // odd while an edit is under way: then either is right
                    if before % 2 == 0 && epoch.load(Ordering::SeqCst) == before {
                        assert_eq!(status, if expected { 404 } else { 403 }, "in epoch {before}");
                        checked.fetch_add(1, Ordering::SeqCst);
                    } else {
                        assert!(matches!(status, 403 | 404), "{status}");
                    }
                    if turn % 100 == 0 {
                        let digest = repo.push_image("latest", &Image::new(&[1000]));
                        assert_eq!(repo.pull_image("latest"), digest);
                    }
                    let _ = world;
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut lines = lines;
            let began = Instant::now();
            for edit in 0..edits {
                epoch.fetch_add(1, Ordering::SeqCst);
                let effect = ["allow", "deny"][edit / 4 % 2];
                let announced = match edit % 4 {
                    0 => {
                        rename_over(&world.file(), &(policy(effect) + &format!("# edit {edit}\n")));
                        RELOADED
                    }
                    1 => {
                        fs::write(world.file(), format!("nonsense {edit}")).unwrap();
                        REFUSED
                    }
                    2 => {
                        fs::write(
                            world.file(),
                            format!("[[rule]]\nname = \"{edit}\"\neffect = \"allow\"\nwhen = 'x{edit}'\n"),
                        )
                        .unwrap();
                        REFUSED
                    }
                    _ => {
                        fs::write(world.file(), policy(effect) + &format!("# edit {edit}\n")).unwrap();
                        RELOADED
                    }
                };
                lines = world.server.wait_for_line(lines, announced);
                allowed.store(effect == "allow", Ordering::SeqCst);
                epoch.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(10));
            }
            eprintln!(
                "{edits} edits in {:?}, {} answers held against them",
                began.elapsed(),
                checked.load(Ordering::SeqCst)
            );
        }));
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(checked.load(Ordering::SeqCst) > edits, "too few answers were held against the policy in force");
}
