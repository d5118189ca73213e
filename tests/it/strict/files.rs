//! Pipes, devices and files without an end, where a file is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::support::client::Request;
use crate::support::server::{Backend, Server};

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("make a pipe");
}

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let Output { status, stderr, .. } = command.current_dir(directory).args(arguments).output().expect("run");
    (status.code(), String::from_utf8(stderr).expect("UTF-8"))
}

#[test]
fn a_command_refuses_what_is_no_plain_file_before_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_pipe(&directory.join("pipe"));
    symlink("/dev/zero", directory.join("endless")).unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    fs::write(directory.join("empty.toml"), "").unwrap();
    for (name, kind) in [("pipe", "a pipe"), ("endless", "a device"), ("directory", "a directory")] {
        let tls = format!("[server.tls]\nserver_certificate_bundle = {name:?}\nserver_private_key = {name:?}\n");
        fs::write(directory.join("tls.toml"), tls).unwrap();
        fs::write(
            directory.join("key.toml"),
            format!(
                "token.signing_key = {name:?}\nserver.port = 0\n[identity.a]\nusername = \"a\"\npassword = {:?}\n",
                simple_registry::credentials::hash_password("x").unwrap()
            ),
        )
        .unwrap();
        for arguments in [
            &["-c", name, "server"][..],
            &["-c", "tls.toml", "server"],
            &["-c", "key.toml", "server"],
            &["policy", "check", name],
            &["policy", "test", name],
            &["-c", "empty.toml", "policy", "replay", "--log", name],
        ] {
            let (code, said) = run(directory, arguments);
            assert_eq!(code, Some(1), "{arguments:?}: {said}");
            if arguments == ["-c", "directory", "server"] {
                assert!(said.contains("directory has no file that ends in .toml"), "{said}");
                continue;
            }
            assert!(said.contains(&format!("it is {kind}, and only plain files are read")), "{arguments:?}: {said}");
        }
    }
    fs::write(directory.join("long.jsonl"), "x".repeat(2 << 20)).unwrap();
    let (code, said) = run(directory, &["-c", "empty.toml", "policy", "replay", "--log", "long.jsonl"]);
    assert!(code == Some(1) && said.contains("it is longer than 1048576 bytes"), "{said}");
}

#[test]
fn an_edit_beside_a_pipe_is_refused_aloud_and_the_server_ends_when_it_is_told_to() {
    for endless in [false, true] {
        let policies = tempfile::tempdir().unwrap().keep();
        fs::write(policies.join("a.toml"), "repositories = [\"a\"]\ndefault = \"allow\"\n").unwrap();
        let settings = format!("policy_dir = {policies:?}\n");
        let mut server = Server::start_plain(Backend::Directory, &settings);
        let odd = policies.join("b.toml");
        let lines = server.log().len();
        if endless {
            symlink("/dev/zero", &odd).unwrap();
        } else {
            make_pipe(&odd);
        }
        server.signal(Signal::HUP);
        let lines = server.wait_for_line(lines, &["not reloaded", "only plain files are read"]);
        let ready = server.client().send(Request::get("/readyz")).expect(200);
        assert!(String::from_utf8_lossy(&ready.body).contains("warning: the last edit was refused"), "{ready:?}");
        fs::remove_file(&odd).unwrap();
        server.signal(Signal::HUP);
        server.wait_for_line(lines, &["reloaded: "]);
        assert_eq!(server.terminate().code(), Some(0));
    }
}
