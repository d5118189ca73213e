//! The start of a server: wrong use, and the stores, buckets and addresses that it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::s3 as bucket_server;
use crate::support::server::{Backend, Server};

/// Runs the command in `directory` to its end.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simple-registry")).args(arguments).current_dir(directory).output().expect("run")
}

/// Runs the command, which must fail with an exit code. Returns its message.
#[track_caller]
fn refused(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(directory, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// Checks that a text has each of these words.
#[track_caller]
pub(crate) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

#[test]
fn wrong_use_exits_with_2_and_help_and_version_with_0() {
    let directory = tempfile::tempdir().unwrap();
    for wrong in
        [&["no-such-command"][..], &["server", "--no-such-flag"], &[], &["-c", "x.toml", "server", "--data-dir", "d"]]
    {
        refused(directory.path(), wrong, 2);
    }
    let version = run(directory.path(), &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    says(&String::from_utf8_lossy(&version.stdout), &["simple-registry", env!("CARGO_PKG_VERSION")]);
    assert_eq!(run(directory.path(), &["--help"]).status.code(), Some(0));
}

#[test]
fn a_server_started_with_a_password_file_makes_its_token_key_beside_the_store() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("password"), "a long password\n").unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut server = Command::new(env!("CARGO_BIN_EXE_simple-registry"))
            .current_dir(directory.path())
            .args(["server", "--data-dir", "data", "--port", "0", "--admin-password-file", "password"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let log = std::io::BufReader::new(server.stderr.take().unwrap());
        let is_up = std::io::BufRead::lines(log).map_while(Result::ok).any(|line| line.contains("serving http://"));
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(is_up && directory.path().join("data/format").exists());
        keys.push(fs::read(directory.path().join("data/token.key")).unwrap());
    }
    assert_eq!(keys[0], keys[1], "the second start uses the key of the first");
}

#[test]
fn options_work_where_people_write_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    says(&refused(directory, &["server", "-c", "none.toml"], 1), &["none.toml cannot be read"]);
    says(&refused(directory, &["server", "--port", "5001"], 2), &["--port belongs to --data-dir", "[server]"]);
    fs::create_dir(directory.join("conf")).unwrap();
    fs::write(directory.join("conf/a.toml"), "nonsense = 1").unwrap();
    says(&refused(directory, &["server", "-c", "conf"], 1), &["conf/a.toml:1:1"]);
    let help = |command: &str| run(directory, &[command, "--help"]).stdout;
    assert_eq!(help("genhash"), help("hash-password"));
}

#[test]
fn without_a_configuration_the_error_shows_how_to_start_without_one() {
    let directory = tempfile::tempdir().unwrap();
    says(&refused(directory.path(), &["server"], 1), &["config.toml", "--data-dir"]);
}

#[test]
fn a_mistake_in_the_configuration_is_shown_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.toml"), "[server]\nprot = 5000\n").unwrap();
    says(&refused(directory.path(), &["server"], 1), &["config.toml:2", "server.prot", "port", "^"]);
}

/// Returns a configuration on a directory, on any free port.
fn on_directory(directory: &Path, root: &Path) -> String {
    let path = directory.join("c.toml");
    let text = format!("[server]\nport = 0\n[storage.fs]\nroot_dir = {:?}\n", root.display().to_string());
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn objects_of_a_store_without_its_format_are_refused_and_left_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("other");
    fs::create_dir_all(root.join("repos")).unwrap();
    fs::write(root.join("repos/file"), "x").unwrap();
    let config = on_directory(directory.path(), &root);
    says(&refused(directory.path(), &["-c", &config, "server"], 1), &["repos/file", "`format`", "backup"]);
    assert!(!root.join("format").exists());
    assert_eq!(fs::read_to_string(root.join("repos/file")).unwrap(), "x");
}

#[test]
fn a_store_of_another_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    fs::create_dir_all(&root).unwrap();
    for (format, layout) in [
        ("{\"layout\":1}\n", "has layout 1,"),
        ("{\"layout\":3}\n", "has layout 3,"),
        ("gibberish", "has layout \"gibberish\","),
        ("", "has layout \"\","),
    ] {
        fs::write(root.join("format"), format).unwrap();
        let config = on_directory(directory.path(), &root);
        let refused = refused(directory.path(), &["-c", &config, "server"], 1);
        says(&refused, &[layout, "reads layout 2", "start a new store", "the build that wrote this one"]);
        assert_eq!(fs::read_to_string(root.join("format")).unwrap(), format);
    }
}

#[test]
fn a_root_that_cannot_be_a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("file");
    fs::write(&root, "x").unwrap();
    let config = on_directory(directory.path(), &root);
    says(&refused(directory.path(), &["-c", &config, "server"], 1), &["file", "cannot be used"]);
}

/// Returns a configuration on the S3 server of these tests.
fn on_bucket(directory: &Path, bucket: &str, secret: &str) -> String {
    let path = directory.join("c.toml");
    let server = Server::start(Backend::S3);
    let endpoint = bucket_server::external_endpoint().unwrap_or_else(|| server.s3().endpoint().to_owned());
    let text = format!(
        "[server]\nport = 0\n[storage.s3]\naccess_key_id = {:?}\nsecret_key = {secret:?}\nendpoint = {endpoint:?}\nbucket = {bucket:?}\nregion = {:?}\n",
        bucket_server::ACCESS_KEY,
        bucket_server::REGION
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn an_unknown_bucket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = on_bucket(directory.path(), "no-such-bucket", bucket_server::SECRET_KEY);
    says(&refused(directory.path(), &["-c", &config, "server"], 1), &["no-such-bucket", "create it"]);
}

#[test]
fn a_wrong_secret_is_refused_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let config = on_bucket(directory.path(), "any", "very-wrong-secret");
    let text = refused(directory.path(), &["-c", &config, "server"], 1);
    says(&text, &["storage.s3.access_key_id"]);
    assert!(!text.contains("very-wrong-secret"), "{text}");
}

#[test]
fn an_address_in_use_is_named() {
    let server = Server::start(Backend::Directory);
    let directory = tempfile::tempdir().unwrap();
    let port = server.address().rsplit_once(':').unwrap().1;
    let path = directory.path().join("c.toml");
    fs::write(&path, format!("[server]\nport = {port}\n[audit]\nfile = \"audit.jsonl\"\n")).unwrap();
    says(&refused(directory.path(), &["-c", "c.toml", "server"], 1), &[server.address(), "server.port"]);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["c.toml"], "a taken port leaves nothing behind");
}
