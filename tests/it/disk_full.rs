//! A file system that is truly full: what does not fit is 503, nothing wrong is visible, and all goes on when there is room.
//!
//! The server gets a small file system in memory of its own, mounted in a namespace of its own, for which root in a container or a user
//! who may make user namespaces is enough. Where neither is allowed, files that may not grow beyond a limit stand in for it: then what is
//! too much is told in the same way, and room is made by a start without the limit.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{Client, Request, Response};
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::{Repo, finish};

/// The size of the file system, or of the longest file where a limit stands in for it.
const ROOM: usize = 16 << 20;
const LONGEST_FILE: usize = 2 << 20;
/// A size that does not fit. The server drains this much, so the client sees the answer.
const TOO_LARGE: usize = 9 << 20;

/// A way to have a small disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Means {
    /// A mount in a namespace.
    Mount {
        /// Of a user namespace's root.
        user: bool,
    },
    /// A limit for the size of files.
    Limit,
}

impl Means {
    fn find() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for means in [Self::Mount { user: false }, Self::Mount { user: true }] {
            let status = means.command(directory.path(), &["true"]).stderr(Stdio::null()).status();
            if status.is_ok_and(|status| status.success()) {
                return means;
            }
        }
        Self::Limit
    }

    /// Runs a command in whose eyes `directory` is a small disk.
    fn command(self, directory: &Path, words: &[&str]) -> Command {
        let mut command = match self {
            Self::Mount { user } => {
                let mut command = Command::new("unshare");
                command.args(["--mount"]).args(user.then_some("--user")).args(user.then_some("--map-root-user"));
                let script = format!(r#"mount -t tmpfs -o size={ROOM} tmpfs "$0" && exec "$@""#);
                command.args(["sh", "-c"]).arg(script);
                command
            }
            Self::Limit => {
                let mut command = Command::new("sh");
                // in units of 512 or 1024 bytes, as the shell likes: at most twice as much
                let script = format!(r#"trap "" XFSZ; ulimit -f {} && exec "$@""#, LONGEST_FILE / 1024);
                command.arg("-c").arg(script);
                command
            }
        };
        command.arg(directory).args(words);
        command
    }
}

/// A server on a small disk.
struct SmallDisk {
    means: Means,
    directory: tempfile::TempDir,
    server: Child,
    repo: Repo,
}

impl SmallDisk {
    fn start() -> Self {
        let means = Means::find();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let disk = directory.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let root = disk.join("data").display().to_string();
        let text = format!(
            "server.port = 0\nstorage.fs.root_dir = {root:?}\naccess_policy.default_allow = true\n\
             repository.\"*\".access_policy.default_allow = true\n"
        );
        fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let words = [env!("CARGO_BIN_EXE_simple-registry"), "-c", &config, "server"];
        let (server, repo) = serve(means.command(&disk, &words));
        Self { means, directory, server, repo }
    }

    /// Returns the disk, as the server sees it.
    fn disk(&self) -> PathBuf {
        let disk = self.directory.path().join("disk");
        let below = disk.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.server.id().to_string()).join("root").join(below)
    }

    /// Takes all the room there is, to the last byte.
    fn fill(&self) {
        let mut filler = File::create(self.disk().join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![1; size];
            while filler.write_all(&piece).is_ok() {}
        }
    }

    /// Makes room again.
    fn empty(&mut self) {
        if self.means != Means::Limit {
            return fs::remove_file(self.disk().join("filler")).unwrap();
        }
        self.stop();
        let config = self.directory.path().join("config.toml").display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
        command.args(["-c", &config, "server"]);
        (self.server, self.repo) = serve(command);
    }

    fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Fails if anything half-written stays: a file that is on its way is removed by another thread, so it may take a moment.
    fn expect_no_temporaries(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while fs::read_dir(self.disk().join("data/.tmp")).unwrap().count() > 0 {
            assert!(Instant::now() < until, "temporary files stay");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server and waits for its address.
fn serve(mut command: Command) -> (Child, Repo) {
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(server.stderr.take().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = value["address"].as_str() {
                let _ = tell.send(address.to_owned());
            }
        }
    });
    let Ok(address) = told.recv_timeout(Duration::from_secs(30)) else {
        let _ = server.kill();
        panic!("the server never said its address: {:?}", server.wait());
    };
    (server, Repo::new(Client::new(address), "small/disk"))
}

/// Fails unless the answer says that there is no room, and when to come again.
#[track_caller]
fn refused(response: &Response) {
    let said = response.clone().expect_error(503, "UNAVAILABLE").remove(0);
    assert!(said["message"].as_str().is_some_and(|text| text.contains("full")), "{response:?}");
    response.required("retry-after");
}

#[test]
fn a_push_to_a_full_disk_is_503_and_succeeds_after_space_is_freed() {
    let mut small = SmallDisk::start();
    let (repo, mounted) = (small.repo.clone(), small.means != Means::Limit);
    let image = Image::new(&[100_000]);
    let pushed = repo.push_image("v1", &image);
    if mounted {
        fs::write(small.disk().join("filler"), vec![1; ROOM / 2]).unwrap();
    }

    // a body that does not fit: in one request, and as a chunk
    let large = unique(TOO_LARGE);
    let digest = sha256(&large);
    refused(&repo.send(finish(&repo.start_upload(), &digest).body(large.clone())));
    let upload = repo.start_upload();
    refused(&repo.send(Request::patch(&upload).body(large.clone()).chunked()));
    small.expect_no_temporaries();
    repo.get_blob(&digest).expect_error(404, "BLOB_UNKNOWN");
    let status = repo.send(Request::get(&upload)).expect(204);
    assert!(["0-0", "bytes=0-0"].contains(&status.required("range")), "{status:?}");

    // not even a fact fits
    let other = Image::new(&[50]);
    repo.push_blobs(&other);
    if mounted {
        small.fill();
        refused(&repo.send(Request::post(repo.path("blobs/uploads/"))));
        refused(&repo.send(repo.put_manifest("v1", &other.manifest)));
        refused(&repo.send(repo.put_manifest("new", &other.manifest)));
        refused(&repo.send(Request::delete(repo.manifest_path("v1"))));
        small.expect_no_temporaries();
    }
    assert_eq!(repo.pull_image("v1"), pushed, "what is there can be pulled");
    assert_eq!(repo.tags(""), ["v1"]);
    repo.get_manifest("new").expect_error(404, "MANIFEST_UNKNOWN");
    repo.get_manifest(&other.manifest.digest()).expect_error(404, "MANIFEST_UNKNOWN");

    small.empty();
    let repo = small.repo.clone();
    assert_eq!(repo.pull_image("v1"), pushed);
    let location = repo.send(Request::patch(&upload).body(large.clone()).chunked()).expect(202).location();
    repo.send(finish(&location, &digest)).expect(201);
    assert!(repo.get_blob(&digest).expect(200).body == large);
    let moved = repo.push_manifest("v1", &other.manifest);
    repo.push_manifest("new", &image.manifest);
    assert_eq!(repo.pull_image("v1"), moved);
    assert_eq!(repo.pull_image("new"), pushed);
}
