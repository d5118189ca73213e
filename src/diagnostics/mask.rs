//! Finds the parts of a configuration file that an error must not show.
//!
//! An error shows its line, and that line may hold a secret: spelt right or not, in a file that is valid TOML or not. So
//! this code reads the text, and does not rely on the parser. It hides the value behind a word that looks like the name of
//! a secret, and the value of every key that the configuration does not have. Plain numbers and booleans are shown. In
//! doubt the code hides too much.

use std::ops::Range;

use super::{keys::Keys, words::distance};

/// Returns the ranges of `text`, in bytes, that must not be shown.
pub(super) fn hidden(text: &str, keys: &Keys) -> Vec<Range<usize>> {
    let mut ranges: Vec<_> = userinfo(text).collect();
    let mut at = 0;
    while let Some(word) = next_word(text, at) {
        at = word.end;
        let name = &text[word.clone()];
        let begin = value_start(text, word.end);
        let hide = match (
            &begin,
            is_secret(name, keys) && !is_token_table(text, &word, keys) || holds_a_login(name, text, begin),
        ) {
            (begin, true) => begin.is_some() || !is_header(text, word.start),
            (Some(start), false) => !keys.has_name(name) && !is_harmless(&text[*start..]),
            (None, false) => false,
        };
        if hide {
            // The text behind a secret's name is hidden whatever stands between them.
            let start = begin.unwrap_or_else(|| skip(text, word.end, |c| matches!(c, ' ' | '\t' | '"' | '\'')));
            let end = value_end(text, start, begin.is_some(), keys);
            if end > start {
                ranges.push(start..end);
            }
            at = end.max(at);
        }
    }
    ranges
}

/// Finds the next run of the characters that a bare key is made of.
fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '\\');
    let start = from + text[from..].find(in_word)?;
    Some(start..skip(text, start, in_word))
}

/// Returns the begin of the value, if the word that ends at `end` is followed by `=` or, as in YAML, `:`.
fn value_start(text: &str, end: usize) -> Option<usize> {
    let after = skip(text, end, |c| matches!(c, '"' | '\''));
    let sign = skip(text, after, char::is_whitespace);
    let rest = &text[sign..];
    // `https:` in a URL and `==` in a rule assign nothing.
    let assigns = rest.starts_with('=') && !rest.starts_with("==") || rest.starts_with(": ");
    assigns.then(|| skip(text, sign + 1, |c| matches!(c, ' ' | '\t')))
}

/// Returns the end of the value that begins at `start`: that of the last line before one that sets another key. If the value
/// goes on behind its first line, only a known key ends it, since anything may be in a value.
fn value_end(text: &str, start: usize, assigned: bool, keys: &Keys) -> usize {
    let mut lines = text[start..].split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let is_whole = is_whole(first.trim_end());
    let mut end = start + first.trim_end().len();
    if assigned {
        let mut line_start = start + first.len();
        for line in lines.take_while(|line| !sets_a_key(line, !is_whole, keys)) {
            line_start += line.len();
            end = line_start;
        }
    }
    end
}

/// Returns true if a value ends in the line in which it begins.
fn is_whole(value: &str) -> bool {
    let Some(quote) = value.chars().next() else { return false };
    if !matches!(quote, '"' | '\'') {
        return !value.contains(['"', '\'', '[', '{']);
    }
    let body = &value[1..];
    let is_close = |(at, _): &(usize, &str)| quote == '\'' || !body[..*at].ends_with('\\');
    let close = body.match_indices(quote).find(is_close);
    close.is_some_and(|(at, _)| !body[at + 1..].starts_with(quote))
}

/// Returns true if a line begins with a table or key; with `known`, with a known one.
fn sets_a_key(line: &str, known: bool, keys: &Keys) -> bool {
    let line = line.trim_start();
    let Some(word) = next_word(line, 0) else { return false };
    let before = &line[..word.start];
    let assigned = before.is_empty() && value_start(line, word.end).is_some();
    (assigned || before == "[") && (!known || keys.has_name(&line[word]))
}

/// Returns true if a word is, or is close to, the name of something secret.
fn is_secret(word: &str, keys: &Keys) -> bool {
    let word = word.to_lowercase();
    let tells = ["secret", "passw", "token", "credential"].iter().any(|part| word.contains(part));
    tells || !keys.has_name(&word) && (distance(&word, "secret_key") <= 3 || distance(&word, "password") <= 2)
}

/// Returns true if a word is the table `token` before one of its keys. Nothing is secret in that table.
fn is_token_table(text: &str, word: &Range<usize>, keys: &Keys) -> bool {
    let key =
        text[word.end..].strip_prefix('.').map(|rest| &rest[..skip(rest, 0, |c| c.is_alphanumeric() || c == '_')]);
    &text[word.clone()] == "token" && key.is_some_and(|key| keys.has_path(&format!("token.{key}")))
}

/// Returns true if the value of a user's name has a colon, and perhaps a password behind it, as a line of an htpasswd file.
fn holds_a_login(name: &str, text: &str, begin: Option<usize>) -> bool {
    let line = begin.and_then(|start| text[start..].lines().next()).unwrap_or_default();
    name == "username" && line.contains(':')
}

/// Returns true if a value is a plain number or boolean.
fn is_harmless(value: &str) -> bool {
    let line = value.lines().next().unwrap_or_default();
    let value = line.split('#').next().unwrap_or_default().trim();
    value.len() <= 10 && (value.parse::<f64>().is_ok() || matches!(value, "true" | "false"))
}

/// Returns true if a place is in the name of a table, between the brackets.
fn is_header(text: &str, at: usize) -> bool {
    let line = text[..at].rsplit('\n').next().unwrap_or_default().trim_start();
    line.starts_with('[') && !line.contains(']')
}

/// Finds the `name:password@` of every URL, up to the last `@` of its line, since a password may have any character in it.
/// Text that looks like one counts even if the `@` is not in that line.
fn userinfo(text: &str) -> impl Iterator<Item = Range<usize>> {
    let lines = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some((*end - line.len(), line))
    });
    lines.filter_map(|(at, line)| {
        let authority = line.find("//").map(|slashes| slashes + 2);
        let start =
            authority.or_else(|| line.find('=').map(|sign| skip(line, sign + 1, |c| matches!(c, ' ' | '"' | '\''))));
        if let Some(end) = line.rfind('@') {
            return Some(at + start.filter(|start| *start < end).unwrap_or(0)..at + end);
        }
        let start = authority?;
        let host = line[start..].split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).next()?;
        let is_port = |port: &str| port.chars().all(|c| c.is_ascii_digit());
        let (_, port) = host.rsplit_once(']').unwrap_or(("", host)).1.split_once(':')?;
        (!is_port(port)).then(|| at + start..at + start + host.len())
    })
}

/// Finds the first place at or after `from` whose character is not one of those.
fn skip(text: &str, from: usize, these: impl Fn(char) -> bool) -> usize {
    text[from..].find(|c| !these(c)).map_or(text.len(), |found| from + found)
}
