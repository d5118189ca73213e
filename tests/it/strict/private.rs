//! Files that the server writes, and secrets that others can read.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::client::Client;
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server under a umask, and returns it with its address.
fn start_under(umask: &str, directory: &Path, arguments: &[&str]) -> (Started, String) {
    let child = Command::new("sh")
        .args(["-c", "umask $0; exec \"$@\"", umask, env!("CARGO_BIN_EXE_simple-registry")])
        .args(arguments)
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let mut started = Started(child);
    let mut lines = BufReader::new(started.0.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let line =
        |line: String| serde_json::from_str::<serde_json::Value>(&line).ok()?["address"].as_str().map(str::to_owned);
    let address = lines.find_map(line).expect("an address");
    (started, address)
}

/// Returns the permission bits below a directory: those of directories, and those of files.
fn modes(below: &Path) -> (Vec<u32>, Vec<u32>) {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    let mut left = vec![below.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            directories.push(metadata.mode() & 0o777);
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(metadata.mode() & 0o777);
        }
    }
    for modes in [&mut directories, &mut files] {
        modes.sort_unstable();
        modes.dedup();
    }
    (directories, files)
}

#[test]
fn a_server_writes_private_files_whatever_its_umask() {
    for umask in ["000", "022", "077"] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let (_server, address) = start_under(umask, directory, &["server", "--data-dir", "data", "--port", "0"]);
        Repo::new(Client::new(address), "a").push_image("v1", &Image::new(&[100_000]));
        assert_eq!(modes(&directory.join("data")), (vec![0o700], vec![0o600]), "umask {umask}");
    }
}

#[test]
fn the_mode_of_the_store_opens_it_to_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let config = "server.port = 0\n[storage.fs]\nroot_dir = \"data\"\nmode = \"0750\"\n\
                  [access_policy]\ndefault_allow = true\n[repository.\"*\".access_policy]\ndefault_allow = true\n";
    fs::write(directory.join("config.toml"), config).unwrap();
    let (_server, address) = start_under("000", directory, &["server"]);
    Repo::new(Client::new(address), "a").push_image("v1", &Image::new(&[100_000]));
    assert_eq!(modes(&directory.join("data")), (vec![0o750], vec![0o640]));
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_of_at_the_start() {
    let key = tempfile::tempdir().unwrap().keep().join("token.key");
    let hash = simple_registry::credentials::hash_password("a password").unwrap();
    let settings = format!("[identity.ana]\nusername = \"ana\"\npassword = {hash:?}\n[token]\nsigning_key = {key:?}\n");
    let mut server = Server::start_plain(Backend::Directory, &settings);
    for (mode, is_warned) in [(0o644, true), (0o640, false)] {
        fs::set_permissions(server.configuration_file(), fs::Permissions::from_mode(mode)).unwrap();
        // a server writes its configuration anew, so this process reads the one that is there
        let lines = server.log().len();
        server.start_again_as_it_is();
        let said = server.log()[lines..].join("\n");
        assert_eq!(said.contains("holds secrets and can be read by everybody"), is_warned, "{said}");
    }
    fs::set_permissions(server.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let lines = server.log().len();
    server.start_again_as_it_is();
    assert!(server.log()[lines..].join("\n").contains("everybody on this machine may enter the store"));
}
