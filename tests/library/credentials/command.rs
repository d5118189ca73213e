//! `simple-registry hash-password` and `server --admin-password-file`, through the binary.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier as _};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::wait_until;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn hash_of(input: &[u8]) -> Output {
    let mut child = command(&["hash-password"]).stdin(Stdio::piped()).spawn().unwrap();
    // what is too long is not read to its end
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Holds the output to be one line with the hash of a password.
fn check_hash(output: &[u8], password: &str) {
    let text = std::str::from_utf8(output).unwrap();
    let hash = PasswordHash::new(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(hash.algorithm.as_str(), "argon2id");
    let params = Params::try_from(&hash).unwrap();
    assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19456, 2, 1), "OWASP's recommendation");
    assert!(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok(), "{text} is not of {password:?}");
}

#[test]
fn standard_input_is_hashed() {
    for (input, password) in [
        ("correct horse", "correct horse"),
        ("correct horse\n", "correct horse"),
        ("correct horse\r\n", "correct horse"),
        (" пароль \n", " пароль "),
    ] {
        let output = hash_of(input.as_bytes());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        check_hash(&output.stdout, password);
    }
}

#[test]
fn what_is_no_password_is_refused() {
    let (long, longer) = ("a".repeat(1025), "a".repeat(100_000));
    let cases: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\n\n", "control character"),
        (b"hunter2\xff", "not UTF-8"),
        (long.as_bytes(), "longer than 1024 bytes"),
        (longer.as_bytes(), "longer than 1024 bytes"),
    ];
    for (input, says) in cases {
        let output = hash_of(input);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{told}");
        assert!(told.starts_with("error: ") && told.contains(says) && !told.contains("hunter2"), "{told}");
    }
}

/// A terminal, and `hash-password` on it: what the terminal shows, and what went to standard output.
struct Terminal {
    keyboard: File,
    child: Child,
    shown: String,
}

impl Terminal {
    fn start() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let screen = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let mut command = command(&["hash-password"]);
        let child = command.stdin(screen.try_clone().unwrap()).stderr(screen).spawn().unwrap();
        Self { keyboard: File::from(master), child, shown: String::new() }
    }

    /// Waits until a question is shown and nothing that is typed will be, and answers it.
    fn answer(&mut self, question: &str, answer: &str) {
        while !self.shown.ends_with(question) {
            let mut bytes = [0; 256];
            let length = self.keyboard.read(&mut bytes).unwrap();
            self.shown.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        let is_hidden = || !tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO);
        wait_until("the terminal hides what is typed", is_hidden);
        self.keyboard.write_all(answer.as_bytes()).unwrap();
        self.keyboard.write_all(b"\n").unwrap();
        // the question is answered once the terminal is as it was, or the next question waits
        self.shown.clear();
    }

    fn end(mut self) -> (String, Output) {
        let mut rest = Vec::new();
        // a terminal that nobody has open any more is an error, not an end
        let mut bytes = [0; 256];
        while let Ok(length @ 1..) = self.keyboard.read(&mut bytes) {
            rest.extend_from_slice(&bytes[..length]);
        }
        (String::from_utf8(rest).unwrap(), self.child.wait_with_output().unwrap())
    }
}

#[test]
fn a_terminal_is_asked_twice_and_shows_nothing() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", "correct horse");
    terminal.answer("The same again: ", "correct horse");
    let (shown, output) = terminal.end();
    assert!(output.status.success(), "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
    check_hash(&output.stdout, "correct horse");
}

#[test]
fn two_different_passwords_are_none() {
    let mut terminal = Terminal::start();
    terminal.answer("Password: ", "correct horse");
    terminal.answer("The same again: ", "correct house");
    let (shown, output) = terminal.end();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(shown.contains("two different passwords") && !shown.contains("horse"), "{shown}");
}

/// Starts a server that cannot have its directory, so that it ends; what it says.
fn serve(password: Option<&[u8]>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("password"));
    fs::write(&store, "not a directory").unwrap();
    if let Some(password) = password {
        fs::write(&file, password).unwrap();
    }
    let (store, file) = (store.to_str().unwrap(), file.to_str().unwrap());
    let arguments = ["server", "--data-dir", store, "--admin-password-file", file, "--private"];
    let output = command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_admins_password_is_read_from_a_file() {
    for (password, says) in [
        (None, "No such file"),
        (Some(&b""[..]), "the password is empty"),
        (Some(b"\n"), "the password is empty"),
        (Some(b"hunter2\n\n"), "control character"),
        (Some(b"hunter2\xff"), "not UTF-8"),
    ] {
        let told = serve(password);
        assert!(told.starts_with("error: --admin-password-file ") && told.contains(says), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let told = serve(Some(b"hunter2\n"));
    assert!(!told.contains("--admin-password-file") && told.contains("store"), "it went on to the store: {told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_login_needs_a_directory_and_private_needs_a_login() {
    for arguments in [
        &["server", "--admin-password-file", "x"][..],
        &["server", "--data-dir", "x", "--private"],
        &["-c", "x.toml", "server", "--data-dir", "x", "--admin-password-file", "x"],
        &["hash-password", "hunter2"],
    ] {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
