//! Runs `simple-registry hash-password`, and reads passwords from files.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;
use std::process::ExitCode;

use rpassword::ConfigBuilder;
use zeroize::Zeroizing;

use super::print;
use crate::credentials::{LONGEST_PASSWORD, hash_password};

/// Asks twice for a password where standard input is a terminal, reads standard input otherwise, and prints the hash.
pub(super) fn run() -> ExitCode {
    match read_password().and_then(|password| hash_password(&password).map_err(|error| error.to_string())) {
        Ok(hash) => {
            print::line(hash);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print::error_line(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns the hash of the password in a file, for `--admin-password-file`.
pub(super) fn hash_of_file(path: &Path) -> Result<String, String> {
    let told = |error: String| format!("--admin-password-file {}: {error}", path.display());
    let file = File::open(path).map_err(|error| told(error.to_string()))?;
    let password = read_line(file).map_err(told)?;
    hash_password(&password).map_err(|error| told(error.to_string()))
}

fn read_password() -> Result<Zeroizing<String>, String> {
    if !io::stdin().is_terminal() {
        return read_line(io::stdin().lock());
    }
    let password = prompt("Password: ")?;
    if *password == *prompt("The same again: ")? {
        Ok(password)
    } else {
        Err("these were two different passwords; nothing was hashed".to_owned())
    }
}

/// Asks for a password on the terminal, without echo. The question goes to standard error, since the output is the
/// hash alone.
fn prompt(question: &str) -> Result<Zeroizing<String>, String> {
    let terminal = ConfigBuilder::new().input_file_path("/dev/stdin").output_writer(io::stderr()).build();
    let password = rpassword::prompt_password_with_config(question, terminal);
    password.map(Zeroizing::new).map_err(|error| format!("no password can be read from the terminal: {error}"))
}

/// Reads everything, without one line break at its end.
fn read_line(from: impl Read) -> Result<Zeroizing<String>, String> {
    let most = LONGEST_PASSWORD + "\r\n".len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    from.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| format!("no password can be read: {error}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "the password is not UTF-8".to_owned())?;
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Zeroizing::new(line.to_owned()))
}
