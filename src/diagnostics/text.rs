//! Text of a file, with the place of each of its bytes.

use std::{fmt, ops::Range, sync::Arc};

use super::{problem::Problem, source::Source};

/// The value of a TOML string, with its place. Two are equal if they say the same, wherever they stand.
#[derive(Clone)]
pub struct Text {
    value: String,
    source: Arc<Source>,
    /// The place of the string with its quotes, in bytes.
    span: Range<usize>,
}

impl Text {
    /// Returns text that stands in no file. Errors call its place `name`.
    #[must_use]
    pub fn unwritten(name: &str, value: &str) -> Self {
        Self { value: value.to_owned(), source: Arc::new(Source::new(name, value)), span: 0..value.len() }
    }

    pub(super) const fn new(value: String, source: Arc<Source>, span: Range<usize>) -> Self {
        Self { value, source, span }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// Makes a problem with a part of the text, in bytes.
    pub(crate) fn problem(&self, at: &Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Problem {
        let places = in_toml(&self.source.text, &self.span, &self.value);
        let place = |byte: usize| places.get(byte).copied().unwrap_or(self.span.end);
        // Quotes stay, since they show where the text ends.
        let inside = place(0)..place(self.value.len());
        let span = place(at.start)..place(at.end);
        Problem::in_text(&self.source, &inside, &span, says.into(), help.into())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Returns the place of each byte of a TOML string's value, and of its end, in the file.
///
/// A string with escapes is longer as written than as read, so places in it cannot be found by counting (TOML 1.0,
/// "String"). If the two do not fit together after all, every byte is at the beginning.
fn in_toml(file: &str, span: &Range<usize>, value: &str) -> Vec<usize> {
    let raw = file.get(span.clone()).unwrap_or_default();
    let quotes = match raw {
        raw if raw == value => 0,
        raw if raw.starts_with("\"\"\"") || raw.starts_with("'''") => 3,
        _ => 1,
    };
    let escapes = quotes > 0 && raw.starts_with('"');
    let mut at = quotes.min(raw.len());
    if quotes == 3 {
        // A newline right behind the opening quotes is no part of the value.
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
                    // A backslash at the end of a line takes the space up to the next character away.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the character of the file under the caret for each character of the value.
    fn shown(file: &str, value: &str) -> String {
        let start = file.find(['"', '\'']).unwrap();
        let places = in_toml(file, &(start..file.len()), value);
        assert_eq!(places.len(), value.len() + 1);
        value.char_indices().filter_map(|(at, _)| file[places[at]..].chars().next()).collect()
    }

    #[test]
    fn the_place_of_a_byte_is_found_whatever_the_quotes() {
        assert_eq!(shown("w = 'a\"b'", "a\"b"), "a\"b");
        assert_eq!(shown(r#"w = "a\"b""#, "a\"b"), "a\\b");
        assert_eq!(shown("w = \"\\u00e9x\"", "éx"), "\\x");
        assert_eq!(shown("w = '''\nab\ncd'''", "ab\ncd"), "ab\ncd");
        assert_eq!(shown("w = \"\"\"a \\\n   b\"\"\"", "a b"), "a b");
        assert_eq!(shown("w = '''a\r\nb'''", "a\nb"), "a\nb");
    }

    #[test]
    fn text_that_stands_in_no_file_is_its_own_line() {
        let problem = Text::unwritten("--option", "a = 'b'").problem(&(2..3), "no", "do");
        assert_eq!(problem.to_string(), "error: no\n --> --option:1:3\n  |\n1 | a = 'b'\n  |   ^\nhelp: do");
    }
}
