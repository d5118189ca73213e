//! Texts of strangers on a terminal.

use std::process::{Command, Output};

use crate::shared::certificates::Authority;
use crate::support::content::Image;
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

/// A name that clears a screen, forges a line, and turns what follows round.
const HOSTILE: &str = "x\u{1b}[2J\nforged\u{7}\u{9b}1m\u{202e}";

fn run(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.arg("-c").arg(server.configuration_file()).args(arguments);
    let Output { status, stdout, stderr } = command.output().expect("run");
    let (out, err) = (String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"));
    assert!(matches!(status.code(), Some(0 | 3)), "{arguments:?}: {err}");
    for text in [&out, &err] {
        let commands =
            text.chars().find(|letter| (letter.is_control() && !"\n\t".contains(*letter)) || *letter == '\u{202e}');
        assert_eq!(commands, None, "{arguments:?}: {text:?}");
    }
    out
}

#[test]
fn no_command_prints_what_a_terminal_obeys() {
    let authority = Authority::new("ours");
    let directory = tempfile::tempdir().unwrap().keep();
    let (certificate, key) = authority.server().write(&directory, "server");
    let bundle = directory.join("authority.pem");
    std::fs::write(&bundle, authority.pem()).unwrap();
    let record = directory.join("audit.jsonl");
    let settings = format!(
        "[server.tls]\nserver_certificate_bundle = {certificate:?}\nserver_private_key = {key:?}\nclient_ca_bundle = {bundle:?}\n\
         [audit]\nfile = {record:?}\n"
    );
    let server = Server::start_plain(Backend::Directory, &settings);
    let stranger = authority.client(HOSTILE);
    let repo = Repo::new(server.client().with_tls(authority.client_config(Some(&stranger))), "a/b");
    repo.push_image("v1", &Image::new(&[10]));

    let history = run(&server, &["history", "a/b:v1"]);
    assert_eq!(history.lines().count(), 1, "{history}");
    assert!(history.contains("forged\\u{7}\\u{9b}1m\\u{202e}"), "{history}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&server, &["history", "a/b:v1", "--format", "json"])).unwrap();
    let by = json["history"][0]["by"].as_str().unwrap();
    assert!(by.contains("\u{9b}1m\u{202e}"), "JSON says what the name is: {by:?}");

    // under another configuration every decision changes, so replay names the stranger
    let other = directory.join("other.toml");
    std::fs::write(&other, "access_policy.default_allow = false\n").unwrap();
    let replayed = Command::new(env!("CARGO_BIN_EXE_simple-registry"))
        .current_dir(&directory)
        .arg("-c")
        .arg(&other)
        .args(["policy", "replay", "--log"])
        .arg(&record)
        .output()
        .expect("run");
    let text = String::from_utf8(replayed.stdout).unwrap();
    assert!(text.contains("forged\\u{7}"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");

    // a file of a stranger in the store
    let strange = server.root().join("blobs").join(HOSTILE.replace('\n', "\u{c}"));
    std::fs::write(strange, "").unwrap();
    run(&server, &["scrub", "--report", "-"]);
}

#[test]
fn an_error_is_one_line_whatever_it_names() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.toml"), "storage.fs.root_dir = \"no\\nforged\"\n").unwrap();
    for arguments in [
        &["-c", "c.toml", "history", "a/b:v1"][..],
        &["-c", "c.toml", "restore", "a/b:v1"],
        &["-c", "c.toml", "scrub"],
        &["-c", "no\nforged.toml", "server"],
        &["policy", "check", "no\nforged.toml"],
        &["-c", "c.toml", "policy", "replay", "--log", "no\nforged"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
        let output = command.current_dir(directory.path()).args(arguments).output().expect("run");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("no\\nforged"), "{arguments:?}: {text}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{arguments:?}: {text}");
    }
}
