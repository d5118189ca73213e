//! What of a configuration file must not be shown in an error.
//!
//! An error shows the line it is in, and that line may hold a secret: spelt right or not, in a file that is valid TOML or
//! not. So this does not rely on the parser. It reads the text, and hides what follows a word that looks like the name of
//! a secret, and the value of every key that the configuration does not have, unless it is a plain number or boolean.
//! When in doubt it hides too much.

use std::ops::Range;

use super::decode;
use super::error::distance;

/// The ranges of `text` (in bytes, in ascending order of start) that must not be shown.
pub(super) fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(word) = next_word(text, at) {
        at = word.end;
        let name = &text[word.clone()];
        let begin = value_start(text, word.end);
        let hide = match (&begin, is_secret(name)) {
            (_, true) => true,
            (Some(start), false) => !decode::is_key(name) && !is_harmless(&text[*start..]),
            (None, false) => has_userinfo(text, &word),
        };
        if hide {
            // What follows a secret's name is hidden whatever stands between them.
            let start = begin.unwrap_or_else(|| skip(text, word.end, |c| matches!(c, ' ' | '\t' | '"' | '\'')));
            let end = value_end(text, start, begin.is_some());
            if end > start {
                ranges.push(start..end);
            }
            at = end.max(at);
        }
    }
    ranges
}

/// The next run of the characters that a bare key is made of.
fn next_word(text: &str, from: usize) -> Option<Range<usize>> {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '\\');
    let start = from + text[from..].find(in_word)?;
    Some(start..skip(text, start, in_word))
}

/// Where the value begins, if the word that ends at `end` is followed by `=` or, as in YAML, `:`.
fn value_start(text: &str, end: usize) -> Option<usize> {
    let after = skip(text, end, |c| matches!(c, '"' | '\''));
    let sign = skip(text, after, char::is_whitespace);
    let rest = &text[sign..];
    // `https:` in a URL and `==` in a rule assign nothing.
    let assigns = rest.starts_with('=') && !rest.starts_with("==") || rest.starts_with(": ");
    assigns.then(|| skip(text, sign + 1, |c| matches!(c, ' ' | '\t')))
}

/// The end of the value that begins at `start`: that of the line, or of the string or array that goes on after it.
fn value_end(text: &str, start: usize, assigned: bool) -> usize {
    let rest = &text[start..];
    let line_end = rest.find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[start..line_end].trim_end();
    for quotes in ["\"\"\"", "'''"] {
        if let Some(body) = rest.strip_prefix(quotes) {
            let end = body.find(quotes).map_or(text.len(), |close| start + close + 2 * quotes.len());
            return end.max(line_end);
        }
    }
    if !assigned {
        return start + line.len();
    }
    let close = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) if !line[1..].contains(quote) => Some(quote),
        Some('[') => Some(']'),
        Some('{') => Some('}'),
        // The value is on a line of its own, below.
        Some('\n' | '\r') => {
            let below = skip(text, start, char::is_whitespace);
            return text[below..].find('\n').map_or(text.len(), |newline| below + newline);
        }
        _ => None,
    };
    match close {
        Some(close) => text[start + 1..]
            .find(close)
            .map_or(text.len(), |found| start + 1 + found + close.len_utf8())
            .max(start + line.len()),
        None => start + line.len(),
    }
}

/// Whether a word is, or is close to, the name of something secret.
fn is_secret(word: &str) -> bool {
    let word = word.to_lowercase();
    let tells = ["secret", "passw", "token", "credential"].iter().any(|part| word.contains(part));
    tells || !decode::is_key(&word) && (distance(&word, "secret_key") <= 3 || distance(&word, "password") <= 2)
}

/// Whether a value is a plain number or boolean.
fn is_harmless(value: &str) -> bool {
    let line = value.lines().next().unwrap_or_default();
    let value = line.split('#').next().unwrap_or_default().trim();
    value.len() <= 10 && (value.parse::<f64>().is_ok() || matches!(value, "true" | "false"))
}

/// Whether the word begins the `name:password@` of a URL.
fn has_userinfo(text: &str, word: &Range<usize>) -> bool {
    let rest = &text[word.end..];
    let url = rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '/')).next().unwrap_or_default();
    text[..word.start].ends_with("//") && url.contains('@')
}

/// The first place at or after `from` whose character is not one of those.
fn skip(text: &str, from: usize, these: impl Fn(char) -> bool) -> usize {
    text[from..].find(|c| !these(c)).map_or(text.len(), |found| from + found)
}
