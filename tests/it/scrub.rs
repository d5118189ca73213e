//! Scrub beside a server that is pushed to, deleted from and pulled from: no push fails, and nothing that stands misses a blob.
//!
//! `SCRUB_SECONDS` says how long each of these goes on (15 where it is not set).

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::support::client::{Client, Request, Response};
use crate::support::content::{Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, descriptor, index, sha256, unique};
use crate::support::repo::{Repo, finish};
use crate::support::server::{Backend, Server};

/// Everything that nothing needs goes at once: only the lease protects what is under way.
const SETTINGS: &str = "cache_ttl = \"1s\"\n[scrub]\nupload_expiry = \"6s\"\ngrace = 0\ntrash = 0\nuntagged = \"delete\"\nuntagged_grace = 0\n";
const LEASE: Duration = Duration::from_secs(6);
/// The time in which a server comes back.
const PATIENCE: Duration = Duration::from_mins(1);
const WRITERS: usize = 3;
/// Between two rounds of a client: scrub runs at the lowest priority, and is to get its turn on a machine of two cores.
const PAUSE: Duration = Duration::from_millis(100);
/// Contents that are pushed, deleted and pushed again, by everyone and to several repositories.
const CONTENTS: usize = 12;

/// A push that was answered 201 and that nobody has begun to delete.
#[derive(Clone, Debug, PartialEq)]
struct Acknowledged {
    repo: String,
    tag: String,
    digest: String,
}

/// State that clients, scrubs and the killer share.
struct Load {
    client: RwLock<Client>,
    contents: Vec<Vec<u8>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    over: AtomicBool,
    /// The time at which all stop, though a scrub may still be at work.
    end: Instant,
    /// True if the server is killed now and then, so that an answer may not come.
    killed: bool,
    pushes: AtomicU64,
    pulls: AtomicU64,
}

impl Load {
    fn new(server: &Server, killed: bool) -> Self {
        Self {
            client: RwLock::new(server.client()),
            contents: (0..CONTENTS).map(|_| unique(20_000)).collect(),
            acknowledged: Mutex::default(),
            over: AtomicBool::new(false),
            end: Instant::now() + seconds(),
            killed,
            pushes: AtomicU64::new(0),
            pulls: AtomicU64::new(0),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    fn repo(&self, name: &str) -> Repo {
        Repo::new(self.client.read().expect("client").clone(), name)
    }

    /// Sends what `request` makes; again, where servers are killed, until one answers. Also tells whether it may have arrived twice.
    fn send(&self, repo: &str, request: impl Fn(&Repo) -> Request) -> (Response, bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut again = false;
        loop {
            let repo = self.repo(repo);
            match repo.client.try_send(request(&repo)) {
                Ok(response) => {
                    assert!(response.status < 500, "a push failed\n{response:?}");
                    return (response, again);
                }
                Err(error) => assert!(self.killed && Instant::now() < deadline, "no answer: {error}"),
            }
            again = true;
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sees to it that the repository has a blob, in one of the ways of real clients.
    fn ensure(&self, repo: &str, from: &str, data: &[u8]) {
        let digest = sha256(data);
        match rand::rng().random_range(0..4) {
            0 => {
                let mount =
                    |repo: &Repo| Request::post(repo.path(&format!("blobs/uploads/?mount={digest}&from={from}")));
                let (response, _) = self.send(repo, mount);
                match response.status {
                    201 => {}
                    202 => self.finish(repo, &response.location(), data),
                    _ => panic!("a mount\n{response:?}"),
                }
            }
            1 => self.upload(repo, data),
            _ => {
                let (response, _) = self.send(repo, |repo| Request::head(repo.blob_path(&digest)));
                match response.status {
                    200 => {}
                    404 => self.upload(repo, data),
                    _ => panic!("a look\n{response:?}"),
                }
            }
        }
    }

    fn upload(&self, repo: &str, data: &[u8]) {
        let location = self.send(repo, |repo| Request::post(repo.path("blobs/uploads/"))).0.expect(202).location();
        self.finish(repo, &location, data);
    }

    fn finish(&self, repo: &str, location: &str, data: &[u8]) {
        let (response, again) = self.send(repo, |_| finish(location, &sha256(data)).body(data));
        // the bytes of an attempt that was cut off may be what the offset counts already
        if again && response.status != 201 {
            return self.upload(repo, data);
        }
        response.expect(201);
    }

    /// Pushes an image of some of the contents under a tag, and holds it to be there from then on.
    fn push(&self, repo: &str, tag: &str) -> Manifest {
        let mut rng = rand::rng();
        let layers: Vec<&Vec<u8>> = self.contents[1..].choose_multiple(&mut rng, 3).collect();
        let config = &self.contents[0];
        for blob in [config].into_iter().chain(layers.iter().copied()) {
            self.ensure(repo, "scrub/shared", blob);
        }
        let image = Manifest::new(&json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, config),
            "layers": layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect::<Vec<_>>(),
        }));
        self.put(repo, tag, &image);
        image
    }

    fn put(&self, repo: &str, tag: &str, manifest: &Manifest) {
        self.send(repo, |repo| repo.put_manifest(tag, manifest)).0.expect(201);
        self.pushes.fetch_add(1, Ordering::Relaxed);
        let (repo, tag, digest) = (repo.to_owned(), tag.to_owned(), manifest.digest());
        let mut acknowledged = self.acknowledged.lock().expect("acknowledged");
        acknowledged.retain(|push| push.repo != repo || push.tag != tag);
        acknowledged.push(Acknowledged { repo, tag, digest });
    }

    /// Forgets images that are about to be deleted, since they may be gone.
    fn forget(&self, repo: &str, goes: impl Fn(&Acknowledged) -> bool) {
        self.acknowledged.lock().expect("acknowledged").retain(|push| push.repo != repo || !goes(push));
    }

    fn delete(&self, repo: &str, reference: &str) {
        self.forget(repo, |push| push.tag == reference || push.digest == reference);
        let (response, again) = self.send(repo, |repo| Request::delete(repo.manifest_path(reference)));
        // an index that stands may need it
        assert!([202, 405].contains(&response.status) || again && response.status == 404, "\n{response:?}");
        assert!(
            response.status == 202 || reference.starts_with("sha256:") || again,
            "a tag needs nobody\n{response:?}"
        );
    }

    /// Works as one client: images of shared contents under tags that move, indexes, deletions of all kinds.
    fn write(&self, writer: usize) {
        let own = format!("scrub/w{writer}");
        for round in 0.. {
            if self.is_over() {
                return;
            }
            let tag = format!("v{}", round % 5);
            let image = self.push(&own, &tag);
            self.push("scrub/shared", &format!("w{writer}-{}", round % 4));
            match round % 6 {
                1 => self.put(&own, "index", &index(&[&image])),
                2 => self.delete("scrub/shared", &format!("w{writer}-{}", round % 4)),
                3 => self.delete(&own, &tag),
                4 => self.delete(&own, &image.digest()),
                5 => {
                    // whether it goes depends on who needs it; what needs it is not harmed
                    let digest = sha256(self.contents.choose(&mut rand::rng()).expect("a content"));
                    let (response, _) = self.send(&own, |repo| Request::delete(repo.blob_path(&digest)));
                    assert!([202, 404, 405].contains(&response.status), "\n{response:?}");
                }
                _ => {}
            }
            thread::sleep(PAUSE);
        }
    }

    /// Pulls what was acknowledged, whole.
    fn read(&self) {
        while !self.is_over() {
            let chosen = self.acknowledged.lock().expect("acknowledged").choose(&mut rand::rng()).cloned();
            let Some(push) = chosen else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            if let Err(wrong) = self.pull(&push) {
                // it may have been deleted, or its tag moved on, meanwhile
                let stands = self.acknowledged.lock().expect("acknowledged").contains(&push);
                assert!(!stands, "{push:?} was answered 201, nobody deleted it, and {wrong}");
            }
            self.pulls.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE / 4);
        }
    }

    fn pull(&self, push: &Acknowledged) -> Result<(), String> {
        let accept = crate::support::content::EVERY_TYPE;
        let get = |repo: &Repo| Request::get(repo.manifest_path(&push.tag)).header("accept", accept);
        let (response, _) = self.send(&push.repo, get);
        if response.status != 200 {
            return Err(format!("its manifest is answered {response:?}"));
        }
        let manifest = response.json();
        let members = ["manifests", "layers"].map(|key| manifest[key].as_array().cloned().unwrap_or_default()).concat();
        for member in members {
            let digest = member["digest"].as_str().expect("a digest").to_owned();
            let of_index = !manifest["manifests"].is_null();
            let path = |repo: &Repo| if of_index { repo.manifest_path(&digest) } else { repo.blob_path(&digest) };
            let (response, _) = self.send(&push.repo, |repo| Request::get(path(repo)).header("accept", accept));
            if response.status != 200 || sha256(&response.body) != digest {
                return Err(format!("{digest} is answered {} with {} bytes", response.status, response.body.len()));
            }
        }
        Ok(())
    }

    /// Pushes a layer that takes longer than the lease to come, and then an image of it.
    fn stream(&self) {
        let repo = "scrub/slow";
        for round in 0.. {
            if self.is_over() {
                return;
            }
            let data = unique(40_000);
            let location = self.send(repo, |repo| Request::post(repo.path("blobs/uploads/"))).0.expect(202).location();
            let mut connection = self.repo(repo).client.connect().expect("connect");
            let request = Request::patch(&location).header("content-type", "application/octet-stream").chunked();
            connection.write_head(&request).expect("write");
            let until = Instant::now() + LEASE * 3 / 2;
            let pieces: Vec<&[u8]> = data.chunks(500).collect();
            for (at, piece) in pieces.iter().enumerate() {
                connection.write(format!("{:x}\r\n", piece.len()).as_bytes()).expect("write");
                connection.write(piece).expect("write");
                connection.write(b"\r\n").expect("write");
                let left = u32::try_from(pieces.len() - at).expect("few");
                thread::sleep(until.saturating_duration_since(Instant::now()) / left);
            }
            connection.write(b"0\r\n\r\n").expect("write");
            let location = connection.read_response(&request).expect("an answer").expect(202).location();
            self.send(repo, |_| finish(&location, &sha256(&data))).0.expect(201);
            self.ensure(repo, "scrub/shared", &self.contents[0]);
            let image = Manifest::new(&json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST,
                "config": descriptor(OCI_CONFIG, &self.contents[0]), "layers": [descriptor(OCI_LAYER, &data)],
            }));
            self.put(repo, &format!("v{}", round % 2), &image);
        }
    }
}

/// Sets its flag when it goes, however that comes, so that clients end where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn seconds() -> Duration {
    let seconds = std::env::var("SCRUB_SECONDS").map_or(15, |n| n.parse().expect("SCRUB_SECONDS is a number"));
    Duration::from_secs(seconds)
}

fn scrub(server: &Server, options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_simple-registry"))
        .arg("-c")
        .arg(server.configuration_file())
        .args(["scrub", "--format", "json"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start scrub")
}

/// Returns the summary of a run. Fails the test unless the run ends well.
fn summary(run: Child) -> Value {
    let output = run.wait_with_output().expect("scrub ends");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{said}\n{errors}", output.status);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said:?}\n{errors}"))
}

fn no_push_fails_while_scrub_runs(backend: Backend) {
    let server = Server::start_with(backend, SETTINGS);
    let load = Load::new(&server, false);
    let (mut runs, mut freed) = (0, 0);
    thread::scope(|scope| {
        let over = Over(&load.over);
        for writer in 0..WRITERS {
            let load = &load;
            scope.spawn(move || load.write(writer));
        }
        scope.spawn(|| load.read());
        scope.spawn(|| load.stream());
        while !load.is_over() {
            freed += summary(scrub(&server, &["--only", "uploads,garbage"]))["freed"].as_u64().expect("bytes");
            runs += 1;
        }
        drop(over);
    });
    let (pushes, pulls) = (load.pushes.load(Ordering::Relaxed), load.pulls.load(Ordering::Relaxed));
    eprintln!("{runs} runs freed {freed} bytes beside {pushes} pushes and {pulls} pulls");
    assert!(runs > 1 && pushes > 10 && pulls > 10 && freed > 0, "too little happened to show anything");
    all_is_there_and_sound(&server, &load);
}

fn killed_scrubs_and_killed_servers_lose_nothing(backend: Backend) {
    let mut server = Server::start_with(backend, SETTINGS);
    let load = Load::new(&server, true);
    thread::scope(|scope| {
        let over = Over(&load.over);
        for writer in 0..WRITERS {
            let load = &load;
            scope.spawn(move || load.write(writer));
        }
        scope.spawn(|| load.read());
        let mut round = 0;
        while !load.is_over() {
            let mut run = scrub(&server, &["--only", "uploads,garbage"]);
            thread::sleep(Duration::from_millis(rand::rng().random_range(0..400)));
            if round % 4 == 3 {
                server.restart(); // a running one is killed first
                *load.client.write().expect("client") = server.client();
            }
            if round % 2 == 0 {
                run.kill().expect("kill scrub");
                run.wait().expect("wait for scrub");
            } else {
                summary(run);
            }
            round += 1;
        }
        drop(over);
    });
    all_is_there_and_sound(&server, &load);
}

/// Checks that every push that was answered is there, and that nothing in the store is wrong.
fn all_is_there_and_sound(server: &Server, load: &Load) {
    for push in load.acknowledged.lock().expect("acknowledged").iter() {
        if let Err(wrong) = load.pull(push) {
            panic!("{push:?} was answered 201, nobody deleted it, and {wrong}");
        }
    }
    let found = summary(scrub(server, &["--verify-content"]));
    let wrong = found["findings"].as_object().expect("findings");
    assert!(wrong.keys().all(|outcome| outcome == "repaired"), "{found}");
}

crate::support::on_each_backend!(own: no_push_fails_while_scrub_runs, killed_scrubs_and_killed_servers_lose_nothing);
