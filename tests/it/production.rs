//! The pages about production: their configuration starts with their unit. Paths mean what the reference says.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const BINARY: &str = env!("CARGO_BIN_EXE_simple-registry");
const PAGE: &str = include_str!("../../docs/how-to/run-in-production.md");

/// Returns the first block of a page in this language.
fn block(language: &str) -> &'static str {
    let (_, from) = PAGE.split_once(&format!("```{language}\n")).expect("the page has such a block");
    from.split_once("```").expect("the block ends").0
}

/// Returns the value of a key of the unit.
fn unit(key: &str) -> &'static str {
    let mut lines = block("ini").lines();
    lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_else(|| panic!("the unit has no {key}"))
}

/// Returns all files and folders below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// A server that this test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and returns the message of its first line that names an address.
fn start(command: &mut Command) -> (Running, String) {
    let mut server = Running(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(server.0.stderr.take().unwrap());
    let mut lines = log.lines().map_while(Result::ok).inspect(|line| eprintln!("{line}"));
    let message = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        line.get("address")?;
        Some(line["message"].as_str()?.to_owned())
    });
    // the rest of the log has somewhere to go
    std::thread::spawn(move || lines.for_each(drop));
    (server, message.expect("the server starts"))
}

#[test]
fn the_configuration_of_the_page_starts_with_its_unit() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let [etc, state, work] = ["etc", "state", "work"].map(|name| directory.join(name));
    for folder in [&etc, &state, &work] {
        fs::create_dir(folder).unwrap();
    }
    // the folders of this machine, and a free port
    let moved = |text: &str| {
        let text = text.replace("/etc/simple-registry", &etc.display().to_string());
        let text = text.replace("/var/lib/simple-registry", &state.display().to_string());
        text.replace("/usr/local/bin/simple-registry", BINARY).replace("port = 5000", "port = 0")
    };
    fs::write(etc.join("config.toml"), moved(block("toml"))).unwrap();
    assert_eq!(unit("StateDirectory"), "simple-registry", "systemd makes it below /var/lib");
    let command = format!("umask {}; exec {}", unit("UMask"), moved(unit("ExecStart")));
    let mut service = Command::new("/bin/sh");
    service.args(["-c", &command]).env_clear().env("STATE_DIRECTORY", &state).current_dir(&work);
    let (mut server, line) = start(&mut service);
    let says = format!(
        "from directory {}/data; anyone may push to every repository; 0 policy files in {}/policies",
        state.display(),
        etc.display()
    );
    assert!(line.contains(&says), "{line}");
    assert!(PAGE.contains("; anyone may push to every repository; 0 policy files in /etc/simple-registry/policies\""));
    // systemd kills a service that takes longer to end than the unit says
    let grace = simple_registry::config::Config::load(&[etc.join("config.toml")]).unwrap().server;
    let patience: u64 = unit("TimeoutStopSec").parse().unwrap();
    assert!(patience > grace.query_timeout_grace_period.as_secs());
    assert_eq!(unit("ExecReload"), "/bin/kill -HUP $MAINPID");
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0), "a reload does not end it, and SIGTERM ends it well");
    assert_eq!(below(&etc), [etc.join("config.toml")]);
    assert_eq!(below(&work), [] as [PathBuf; 0]);
    assert!(state.join("data/format").exists());
}

/// Writes a configuration with relative paths into `conf`, and a policy beside it.
fn relative(directory: &Path) {
    fs::create_dir_all(directory.join("conf/policies")).unwrap();
    let policy = "kind = \"access\"\nrepositories = [\"open\"]\ndefault = \"allow\"\n";
    fs::write(directory.join("conf/policies/p.toml"), policy).unwrap();
    let settings = "[server]\nport = 0\n[audit]\nfile = \"audit.jsonl\"\n[identity.ana]\nusername = \"ana\"\npassword = \"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\"\n";
    fs::write(directory.join("conf/c.toml"), settings).unwrap();
}

#[test]
fn what_is_read_lies_beside_the_configuration_and_what_is_written_in_the_state_directory() {
    for state in [Some("state"), None] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        relative(directory);
        for folder in ["state", "work"] {
            fs::create_dir(directory.join(folder)).unwrap();
        }
        let mut command = Command::new(BINARY);
        command.args(["-c", "../conf/c.toml", "server"]).current_dir(directory.join("work"));
        command.env_remove("STATE_DIRECTORY");
        if let Some(state) = state {
            command.env("STATE_DIRECTORY", format!("{}:/other", directory.join(state).display()));
        }
        let (server, line) = start(&mut command);
        drop(server);
        assert!(line.contains("; 1 policy file in "), "{line}");
        let written = directory.join(state.unwrap_or("work"));
        for file in ["data/format", "token.key", "audit.jsonl", "audit.jsonl.anonymous"] {
            assert!(written.join(file).exists(), "{file} with STATE_DIRECTORY = {state:?}");
        }
        let other = directory.join(if state.is_some() { "work" } else { "state" });
        assert_eq!(below(&other), [] as [PathBuf; 0]);
    }
}

#[test]
fn files_of_certificates_are_relative_to_the_file_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (folder, text) in [
        ("base", "[server.tls]\nserver_certificate_bundle = \"a.crt\"\nserver_private_key = \"a.key\"\n"),
        (
            "site",
            "policy_dir = \"rules\"\n[server.tls]\nserver_private_key = \"b.key\"\nclient_ca_bundle = \"/abs/ca\"\n",
        ),
    ] {
        fs::create_dir(directory.join(folder)).unwrap();
        fs::write(directory.join(folder).join("c.toml"), text).unwrap();
    }
    let files = ["base/c.toml", "site/c.toml"].map(|file| directory.join(file));
    let config = simple_registry::config::Config::load(&files).unwrap();
    let tls = config.server.tls.unwrap();
    assert_eq!(tls.server_certificate_bundle, directory.join("base/a.crt"));
    assert_eq!(tls.server_private_key, directory.join("site/b.key"));
    assert_eq!(tls.client_ca_bundle, Some("/abs/ca".into()));
    assert_eq!(config.policy_dir.unwrap().path, directory.join("site/rules"));
    let of_a_folder = simple_registry::config::Config::load(&[directory.join("base")]).unwrap();
    assert_eq!(of_a_folder.policy_dir.unwrap().path, directory.join("base/policies"));
}

/// Gives a folder and everything below it to a user and a group.
fn give(folder: &Path, user: u32, group: u32, mode: u32) {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    for path in below(folder).into_iter().chain([folder.to_owned()]) {
        chown(&path, Some(user), Some(group)).unwrap();
        let of_folder = if path.is_dir() { 0o111 } else { 0 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | (of_folder & (mode >> 2)))).unwrap();
    }
}

#[test]
fn a_directory_of_another_user_gets_no_files_of_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let (config, data) = (directory.path().join("c.toml"), directory.path().join("data"));
    fs::write(&config, "[server]\nport = 0\n[storage.fs]\nroot_dir = \"data\"\nmode = \"0770\"\n").unwrap();
    let run = |command: &str| {
        let mut program = Command::new(BINARY);
        program.current_dir(directory.path()).arg("-c").arg(&config).arg(command).stdin(Stdio::null());
        program
    };
    drop(start(&mut run("server")));
    let scrub = || run("scrub").output().unwrap();
    assert!(scrub().status.success());
    // nobody else can give files away
    if !rustix::process::geteuid().is_root() {
        return;
    }
    give(&data, 4711, 4711, 0o660);
    for command in ["server", "scrub"] {
        let output = run(command).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("belongs to the user with id 4711, and this process writes as the user with id 0"),
            "{said}"
        );
        assert!(said.contains("sudo -u '#4711'"), "{said}");
    }
    for path in below(&data) {
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap()), 4711, "{}", path.display());
    }
    // a group that both are in
    give(&data, 4711, rustix::process::getegid().as_raw(), 0o660);
    let output = scrub();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
