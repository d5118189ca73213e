//! What a person is told when a policy is not valid.

use std::{fmt, ops::Range};

use crate::config;
pub(super) use crate::config::nearest;

/// Everything that is wrong with the policies, in the order of the files and their lines.
///
/// `Display` is what the user is shown: each problem with its file, line and column, the line with a caret under what
/// is wrong, the rule it breaks and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, and the rule that it breaks.
    pub says: String,
    /// The next step.
    pub help: String,
    /// Where it is; a file that cannot be read has no such place.
    pub place: Option<Place>,
}

/// Where something is, and the line it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters of the file's own line, counted from 1.
    pub column: usize,
    /// The line, or the part of a long one around the caret.
    text: String,
    /// Characters of `text` before the caret.
    indent: usize,
    width: usize,
}

impl PolicyErrors {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Each problem, for those who do not want to read sentences.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.says)?;
        if let Some(Place { file, line, column, text, indent, width }) = &self.place {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            writeln!(f, "{margin}--> {file}:{line}:{column}")?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {text}")?;
            writeln!(f, "{margin} | {}{}", " ".repeat(*indent), "^".repeat(*width))?;
        }
        write!(f, "help: {}", self.help)
    }
}

/// Characters of a long line shown before the caret, and after it.
const REACH: usize = 60;

impl Place {
    /// The line of `text` that `span` (in bytes) begins in, with the caret under as much of it as is in that line.
    /// `first` is the line and column at which `text` itself begins in its file, counted from 1.
    fn new(file: &str, text: &str, first: (usize, usize), span: &Range<usize>) -> Self {
        // what is wrong "at the end" is shown after the last thing written, not on the empty line below it
        let start = text.floor_char_boundary(span.start.min(text.trim_end().len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let above = text[..line_start].matches('\n').count();
        let before = text[line_start..start].chars().count();
        let shift = if above == 0 { first.1 - 1 } else { 0 };

        let shown: Vec<char> = text[line_start..line_end].trim_end().chars().map(printable).collect();
        let caret = before.min(shown.len());
        let width = text[start..end.min(line_end).max(start)].chars().count().clamp(1, REACH);
        let from = caret.saturating_sub(REACH);
        let to = (caret + width + REACH).min(shown.len());
        let (left, right) = (if from > 0 { "..." } else { "" }, if to < shown.len() { "..." } else { "" });
        let part: String = shown[from..to].iter().collect();
        Self {
            file: file.to_owned(),
            line: first.0 + above,
            column: before + 1 + shift,
            text: format!("{left}{part}{right}"),
            indent: caret - from + left.len(),
            width,
        }
    }
}

/// A character as a terminal may be given it: one column, and no control over the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A policy file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, as it is shown in errors.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// A problem with a part of the file, in bytes.
    pub(super) fn problem(&self, span: &Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Problem {
        let place = Place::new(&self.name, &self.text, (1, 1), span);
        Problem { says: says.into(), help: help.into(), place: Some(place) }
    }

    /// The last part of its path: the name by which records know the policy.
    pub(super) fn short_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }
}

/// An expression, and where each of its bytes was written.
#[derive(Clone, Copy)]
pub(super) enum Written<'a> {
    /// In a policy file, as the value at `span`.
    File {
        /// The file.
        file: &'a File,
        /// Where the value with its quotes is.
        span: &'a Range<usize>,
        /// The value.
        text: &'a str,
    },
    /// In a configuration file, of which only the expression is at hand.
    Config(&'a config::Expression),
}

impl<'a> Written<'a> {
    /// The expression.
    pub(super) fn text(&self) -> &'a str {
        match self {
            Self::File { text, .. } => text,
            Self::Config(expression) => &expression.text,
        }
    }

    /// A problem with a part of the expression, in bytes.
    pub(super) fn problem(&self, span: &Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Problem {
        match self {
            Self::File { file, span: value, text } => {
                let places = in_toml(&file.text, value, text);
                let at = |byte: usize| places.get(byte).copied().unwrap_or(value.end);
                file.problem(&(at(span.start)..at(span.end)), says, help)
            }
            Self::Config(config::Expression { text, file, line, column }) => {
                let place = Place::new(file, text, (*line, *column), span);
                Problem { says: says.into(), help: help.into(), place: Some(place) }
            }
        }
    }
}

/// Where each byte of a TOML string's value, and its end, stands in the file that it was written in.
///
/// A string with escapes is longer as written than as read, so that places in it cannot be found by counting (TOML 1.0,
/// "String"). Where the two do not fit together after all, every byte is at the beginning.
fn in_toml(file: &str, span: &Range<usize>, value: &str) -> Vec<usize> {
    let raw = file.get(span.clone()).unwrap_or_default();
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    let escapes = raw.starts_with('"');
    let mut at = quotes.min(raw.len());
    if quotes == 3 {
        // a newline right behind the opening quotes is no part of the value
        let newline = ["\r\n", "\n"].into_iter().find(|newline| raw[at..].starts_with(newline));
        at += newline.map_or(0, str::len);
    }
    let mut places = Vec::with_capacity(value.len() + 1);
    let mut left = value;
    while let Some(wanted) = left.chars().next() {
        let Some(written) = raw[at..].chars().next() else { break };
        if escapes && written == '\\' {
            let length = match raw.as_bytes().get(at + 1) {
                Some(b'x') => 4,
                Some(b'u') => 6,
                Some(b'U') => 10,
                Some(b' ' | b'\t' | b'\r' | b'\n') => {
                    // a backslash at the end of a line takes the space up to the next character away
                    at += 1 + raw[at + 1..].len() - raw[at + 1..].trim_start().len();
                    continue;
                }
                _ => 2,
            };
            places.extend(std::iter::repeat_n(span.start + at, wanted.len_utf8()));
            at = raw.floor_char_boundary(at + length);
        } else if written == '\r' && wanted == '\n' {
            at += 1;
            continue;
        } else {
            places.extend((0..wanted.len_utf8()).map(|byte| span.start + at + byte));
            at += written.len_utf8();
        }
        left = &left[wanted.len_utf8()..];
    }
    places.push(span.start + at);
    if left.is_empty() { places } else { vec![span.start; value.len() + 1] }
}

/// Words as a sentence lists them: `"a", "b" or "c"`.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>, quote: char) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of the file is shown under the caret for each character of the value of `when`.
    fn shown(file: &str, value: &str) -> Vec<String> {
        let start = file.find(['"', '\'']).unwrap();
        let places = in_toml(file, &(start..file.len()), value);
        assert_eq!(places.len(), value.len() + 1);
        value.char_indices().map(|(at, _)| file[places[at]..].chars().take(1).collect()).collect()
    }

    #[test]
    fn places_in_toml_strings_are_found_whatever_the_quotes() {
        assert_eq!(shown("w = 'a\"b'", "a\"b").concat(), "a\"b");
        assert_eq!(shown(r#"w = "a\"b""#, "a\"b").concat(), "a\\b");
        assert_eq!(shown("w = \"\\u00e9x\"", "éx").concat(), "\\x");
        assert_eq!(shown("w = '''\nab\ncd'''", "ab\ncd").concat(), "ab\ncd");
        assert_eq!(shown("w = \"\"\"a \\\n   b\"\"\"", "a b").concat(), "a b");
        assert_eq!(shown("w = '''a\r\nb'''", "a\nb").concat(), "a\nb");
    }

    #[test]
    fn the_caret_is_under_what_is_wrong() {
        let file = File { name: "p.toml".into(), text: "a = 1\nlänge = 'x'\n".into() };
        let problem = file.problem(&(15..18), "no", "do");
        assert_eq!(problem.to_string(), "error: no\n --> p.toml:2:9\n  |\n2 | länge = 'x'\n  |         ^^^\nhelp: do");
    }

    #[test]
    fn suggestions_are_close() {
        assert_eq!(nearest("usrname", ["username", "groups"]), Some("username"));
        assert_eq!(nearest("zebra", ["username", "groups"]), None);
    }
}
