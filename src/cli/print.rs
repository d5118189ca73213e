//! Prints for people and for programs. Every text of the commands passes through here before it reaches a terminal.
//!
//! Printed text may hold texts of strangers: names in certificates, names of files, texts of other servers. A terminal
//! obeys control characters, and a line break forges a line. So one line has neither, and a text of several lines keeps only
//! its breaks.

use std::{
    fmt::{Display, Write as _},
    io::{self, ErrorKind, Write as _},
    process,
};

use serde::Serialize;

/// Prints one line.
pub(super) fn line(text: impl Display) {
    out(&(one_line(&text.to_string()) + "\n"));
}

/// Prints text of several lines.
pub(super) fn text(text: impl Display) {
    out(&lines(&text.to_string()));
}

/// Prints a value as JSON, in one line.
pub(super) fn json(value: &impl Serialize) {
    out(&(json_line(value) + "\n"));
}

/// Prints one line to standard error.
pub(super) fn error_line(text: impl Display) {
    error(one_line(&text.to_string()));
}

/// Prints text of several lines to standard error, and ends the last one.
pub(super) fn error(text: impl Display) {
    // there is no other place to tell of a standard error that is closed
    let _ = io::stderr().write_all((lines(&text.to_string()) + "\n").as_bytes());
}

/// Returns a value as JSON without line breaks and without characters that a terminal obeys.
pub(super) fn json_line(value: &impl Serialize) -> String {
    let json =
        serde_json::to_string(value).unwrap_or_else(|error| unreachable!("only plain values are printed: {error}"));
    escaped(&json, |_| false, |text, letter| write!(text, "\\u{:04x}", u32::from(letter)))
}

/// Returns text that takes one line, and that a terminal shows as it is.
pub(super) fn one_line(text: &str) -> String {
    escaped(text, |letter| letter == '\t', |text, letter| write!(text, "{}", letter.escape_default()))
}

/// Returns text of several lines that a terminal shows as it is.
pub(super) fn lines(text: &str) -> String {
    let is_layout = |letter| matches!(letter, '\n' | '\t');
    escaped(text, is_layout, |text, letter| write!(text, "{}", letter.escape_default()))
}

/// Replaces the characters that a terminal obeys, or that turn the order of others round, except those that `keeps` accepts.
fn escaped(text: &str, keeps: impl Fn(char) -> bool, escape: impl Fn(&mut String, char) -> std::fmt::Result) -> String {
    let turns = |letter| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if (letter.is_control() || turns(letter)) && !keeps(letter) {
            // writing to a text does not fail
            let _ = escape(&mut shown, letter);
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Writes to standard output. A reader that has gone ends the command without a word, as other tools do.
fn out(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(1),
        Err(failure) => {
            error_line(format_args!("error: standard output cannot be written: {failure}"));
            process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_commands_a_terminal_or_forges_a_line() {
        let text = "a\u{1b}[2J\r\nb\u{7}\u{9b}1m\u{7f}\u{202e}\té";
        assert_eq!(one_line(text), "a\\u{1b}[2J\\r\\nb\\u{7}\\u{9b}1m\\u{7f}\\u{202e}\té");
        assert_eq!(lines(text), "a\\u{1b}[2J\\r\nb\\u{7}\\u{9b}1m\\u{7f}\\u{202e}\té");
        let json = json_line(&text);
        assert!(json.chars().all(|letter| !letter.is_control()), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
