//! `kill -9` under load: what was answered 201 is there afterwards, whole, and clients that were interrupted go on.
//!
//! `KILLS` says how often the server is killed on each backend (5 where it is not set).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::support::client::{Client, Request, Response};
use crate::support::content::{Image, Manifest, index, sha256};
use crate::support::repo::{Repo, chunk, finish, strings};
use crate::support::server::{Backend, Server};

/// The time in which a server comes back, and in which a push of a round succeeds.
const PATIENCE: Duration = Duration::from_mins(1);

/// A push that was answered 201.
struct Acknowledged {
    repo: String,
    tag: String,
    digest: String,
}

/// State that the clients and the killer share.
struct Load {
    /// The server as it is now; it has another port after each start.
    client: RwLock<Client>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    over: AtomicBool,
}

impl Load {
    fn repo(&self, name: &str) -> Repo {
        Repo::new(self.client.read().expect("client").clone(), name)
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("acknowledged").len()
    }

    /// Sends what `request` makes until a server answers; also tells whether an earlier try may have arrived.
    fn insist(&self, repo: &str, request: impl Fn(&Repo) -> Request) -> (Response, bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut tries = 0;
        while Instant::now() < deadline {
            let repo = self.repo(repo);
            if let Ok(response) = repo.client.try_send(request(&repo)) {
                assert!(
                    response.status < 500,
                    "a killed server answers nothing, and one that runs answers well\n{response:?}"
                );
                return (response, tries > 0);
            }
            tries += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no server answered within {PATIENCE:?}");
    }

    /// Pushes in two chunks, and goes on by the upload's status where a kill interrupted it.
    fn push_chunked(&self, repo: &str, data: &[u8]) {
        let location = self.insist(repo, |repo| Request::post(repo.path("blobs/uploads/"))).0.expect(202).location();
        let mut at = 0;
        while at < data.len() {
            let end = (at + data.len() / 2 + 1).min(data.len());
            let (response, _) = self.insist(repo, |_| chunk(&location, at, &data[at..end]));
            assert!([202, 416].contains(&response.status), "\n{response:?}");
            // `0-0` is nothing here, since a chunk is longer than a byte
            let last = response
                .required("range")
                .strip_prefix("0-")
                .and_then(|last| last.parse::<usize>().ok())
                .expect("0-<last>");
            let reached = if last == 0 { 0 } else { last + 1 };
            assert!(response.status == 416 || reached == end, "\n{response:?}");
            at = reached;
        }
        self.insist(repo, |_| finish(&location, &sha256(data))).0.expect(201);
    }

    /// Pushes in one piece, from the start again where a kill interrupted it, as clients do.
    fn push_whole(&self, repo: &str, data: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let location =
                self.insist(repo, |repo| Request::post(repo.path("blobs/uploads/"))).0.expect(202).location();
            let pushed = self.repo(repo).client.try_send(finish(&location, &sha256(data)).body(data));
            if let Ok(response) = pushed {
                response.expect(201);
                return;
            }
        }
        panic!("the blob was never pushed");
    }

    fn push_manifest(&self, repo: &str, tag: &str, manifest: &Manifest) {
        self.insist(repo, |repo| repo.put_manifest(tag, manifest)).0.expect(201);
        let (repo, tag, digest) = (repo.to_owned(), tag.to_owned(), manifest.digest());
        self.acknowledged.lock().expect("acknowledged").push(Acknowledged { repo, tag, digest });
    }

    /// Works as one client: images under tags of their own, a tag that moves, an index, now and then a deletion.
    fn work(&self, writer: usize) {
        let repo = format!("crash/w{writer}");
        for round in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let image = Image::new(&[3_000, 40_000]);
            self.push_whole(&repo, &image.blobs[0]);
            self.push_whole(&repo, &image.blobs[1]);
            self.push_chunked(&repo, &image.blobs[2]);
            self.push_manifest(&repo, &format!("v{round}"), &image.manifest);
            self.push_manifest(&repo, &format!("index-{round}"), &index(&[&image.manifest]));
            self.insist(&repo, |repo| repo.put_manifest("moving", &image.manifest)).0.expect(201);
            if round % 3 == 2 {
                self.delete(&repo, &format!("index-{}", round - 1));
            }
        }
    }

    fn delete(&self, repo: &str, tag: &str) {
        // what is being deleted need not be there any more
        self.acknowledged.lock().expect("acknowledged").retain(|push| push.repo != repo || push.tag != tag);
        let (response, again) = self.insist(repo, |repo| Request::delete(repo.manifest_path(tag)));
        assert!(response.status == 202 || (again && response.status == 404), "\n{response:?}");
        self.insist(repo, |repo| Request::get(repo.manifest_path(tag))).0.expect(404);
    }
}

/// Sets its flag when it goes, however that comes, so that clients end where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn acknowledged_pushes_survive_kills(backend: Backend) {
    let kills = std::env::var("KILLS").map_or(5, |kills| kills.parse().expect("KILLS is a number"));
    let mut server = Server::start(backend);
    let load =
        Load { client: RwLock::new(server.client()), acknowledged: Mutex::default(), over: AtomicBool::new(false) };
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        let over = Over(&load.over);
        for writer in 0..4 {
            let load = &load;
            scope.spawn(move || load.work(writer));
        }
        for kill in 0..kills {
            // each life of the server sees at least one push through, so that there is something to lose
            let (before, deadline) = (load.count(), Instant::now() + PATIENCE);
            while load.count() <= before {
                assert!(Instant::now() < deadline, "no push succeeded within {PATIENCE:?} of start {kill}");
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..150)));
            server.kill();
            server.restart();
            // before the clients find it and mend what they left
            verify(&server, &load, &mut seen);
            *load.client.write().expect("client") = server.client();
        }
        drop(over);
    });
    verify(&server, &load, &mut BTreeSet::new());
}

/// Checks that every acknowledged push pulls with its digest, and that every listed tag is whole. Leaves out those in `seen`.
fn verify(server: &Server, load: &Load, seen: &mut BTreeSet<String>) {
    let acknowledged = load.acknowledged.lock().expect("acknowledged");
    for push in acknowledged.iter() {
        if seen.insert(format!("{}:{}", push.repo, push.tag)) {
            assert_eq!(server.repo(&push.repo).pull_image(&push.tag), push.digest, "{}:{}", push.repo, push.tag);
        }
    }
    for writer in 0..4 {
        let repo = server.repo(&format!("crash/w{writer}"));
        // none of its pushes may have come so far
        let tags = repo.send(Request::get(repo.path("tags/list")));
        let tags = if tags.status == 404 { Vec::new() } else { strings(&tags.expect(200).json()["tags"]) };
        for push in acknowledged.iter().filter(|push| push.repo == repo.name) {
            assert!(tags.contains(&push.tag), "{} is listed", push.tag);
        }
        for tag in tags.iter().filter(|tag| !seen.contains(&format!("{}:{tag}", repo.name))) {
            repo.pull_image(tag);
        }
    }
}

crate::support::on_each_backend!(own: acknowledged_pushes_survive_kills);
