//! Edits while clients pull and push over TLS: of policies, of the configuration and of certificates, good ones and bad ones.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{LIST, REFUSED, RELOADED, policy, rename_over};
use crate::shared::certificates::Authority;
use crate::support::client::{Client, Request};
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

struct World {
    server: Server,
    authority: Authority,
    directory: PathBuf,
    /// The configuration as it was at first.
    configuration: String,
}

/// The policy in force, as far as it is known from outside.
#[derive(Default)]
struct Known {
    /// Odd while an edit is under way: then the old and the new are both right.
    epoch: AtomicUsize,
    denied: AtomicBool,
    stop: AtomicBool,
    /// Answers that were held against it.
    held: AtomicUsize,
}

impl World {
    fn new() -> Self {
        let (authority, directory) = (Authority::new("ours"), tempfile::tempdir().expect("a directory").keep());
        let policies = directory.join("policies");
        fs::create_dir(&policies).expect("make a directory");
        fs::write(policies.join("app.toml"), policy("allow")).expect("write");
        fs::write(policies.join("zz.toml"), "repositories = [\"pushed\"]\ndefault = \"allow\"\n").expect("write");
        let (certificate, key) = authority.server().write(&directory, "server");
        let settings = format!(
            "policy_dir = {policies:?}\nrepository.\"*\".access_policy.default_allow = false\n\
             [server.tls]\nserver_certificate_bundle = {certificate:?}\nserver_private_key = {key:?}\n"
        );
        let server = Server::start_plain(Backend::Directory, &settings);
        let configuration = fs::read_to_string(server.configuration_file()).expect("read");
        Self { server, authority, directory, configuration }
    }

    fn client(&self) -> Client {
        self.server.client().with_tls(self.authority.client_config(None))
    }

    /// Makes one edit; whether it lists deny from then on, and what the log says of it. Each round of eight begins and ends with
    /// everything in order.
    fn edit(&self, edit: usize) -> (bool, &'static [&'static str]) {
        let file = self.directory.join("policies/app.toml");
        let deny = edit / 8 % 2 == 1;
        let good = policy(if deny { "deny" } else { "allow" }) + &format!("# edit {edit}\n");
        let configure =
            |more: String| rename_over(&self.server.configuration_file(), &(self.configuration.clone() + &more));
        let announced = match edit % 8 {
            0 => {
                rename_over(&file, &good);
                RELOADED
            }
            1 => {
                fs::write(&file, format!("nonsense {edit}")).expect("write");
                REFUSED
            }
            2 => {
                let unknown = format!("[[rule]]\nname = \"{edit}\"\neffect = \"allow\"\nwhen = 'x{edit}'\n");
                fs::write(&file, unknown).expect("write");
                REFUSED
            }
            3 => {
                fs::write(&file, &good).expect("write");
                RELOADED
            }
            4 | 6 => {
                configure(format!("\n[token]\nttl = {}\n", 300 + edit));
                RELOADED
            }
            5 => {
                configure(format!("\n[token]\nttl = 300\nno_such_key_{edit} = 1\n"));
                REFUSED
            }
            _ => {
                // one after the other: what is read in between does not fit together, and is not used
                let server = self.authority.server();
                rename_over(&self.directory.join("server.key"), &server.key.serialize_pem());
                rename_over(&self.directory.join("server.pem"), &server.pem);
                RELOADED
            }
        };
        (deny, announced)
    }
}

/// Lists over one connection and pushes over new ones, and holds each answer against what is known.
fn load(world: &World, known: &Known, number: usize) {
    let client = world.client();
    let repo = Repo::new(client.clone(), format!("pushed/{number}"));
    let mut connection = client.connect().expect("connect");
    let list = Request::get(LIST);
    for turn in 0.. {
        if known.stop.load(Ordering::SeqCst) {
            return;
        }
        let before = known.epoch.load(Ordering::SeqCst);
        let expected = if known.denied.load(Ordering::SeqCst) { 403 } else { 404 };
        connection.write_request(&list).expect("write");
        let status = connection.read_response(&list).expect("an answer").status;
        if before.is_multiple_of(2) && known.epoch.load(Ordering::SeqCst) == before {
            assert_eq!(status, expected, "in epoch {before}");
            known.held.fetch_add(1, Ordering::SeqCst);
        } else {
            assert!(matches!(status, 403 | 404), "{status}");
        }
        if turn % 100 == 0 {
            let digest = repo.push_image("latest", &Image::new(&[1000]));
            assert_eq!(repo.pull_image("latest"), digest);
        }
    }
}

/// `EDITS` says how many, 200 unless told.
#[test]
fn during_edits_under_load_requests_fail_only_by_policy() {
    let edits: usize = std::env::var("EDITS").ok().map_or(200, |edits| edits.parse().expect("EDITS is a number"));
    let (world, known) = (World::new(), Known::default());
    thread::scope(|scope| {
        for number in 0..4 {
            let (world, known) = (&world, &known);
            scope.spawn(move || load(world, known, number));
        }
        let editing = catch_unwind(AssertUnwindSafe(|| {
            let (mut lines, began) = (world.server.log().len(), Instant::now());
            for edit in 0..edits {
                known.epoch.fetch_add(1, Ordering::SeqCst);
                let (deny, announced) = world.edit(edit);
                lines = world.server.wait_for_line(lines, announced);
                known.denied.store(deny, Ordering::SeqCst);
                known.epoch.fetch_add(1, Ordering::SeqCst);
                // long enough for answers between two edits; whether there were enough is asserted below
                thread::sleep(Duration::from_millis(10));
            }
            eprintln!("{edits} edits in {:?}, {:?} answers held against them", began.elapsed(), known.held);
        }));
        known.stop.store(true, Ordering::SeqCst);
        if let Err(panic) = editing {
            resume_unwind(panic);
        }
    });
    assert!(known.held.into_inner() > edits, "too few answers were held against the policy in force");
}
