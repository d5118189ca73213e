//! Problems of files, and how a person sees them.

use std::{fmt, ops::Range};

use super::source::Source;

/// All problems of some files, in the order of the files and their lines.
///
/// `Display` is what the user is shown: each problem with its file, line and column, the line with a caret under what is
/// wrong, the rule that it breaks and the next step. Of more than
/// [`MOST_SHOWN`] it shows the first and the number. Secrets are left out, also if the file is not valid TOML. So this may be
/// logged, and so may `Debug`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// A problem of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The thing that is wrong, and the rule that it breaks.
    pub says: String,
    /// The next step.
    pub help: String,
    /// The place. None: the file cannot be read.
    pub place: Option<Place>,
}

/// A place in a file, and its line, without what must not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column from 1, in characters of the file's own line.
    pub column: usize,
    /// The line, or the part of a long one around the caret.
    text: String,
    /// Characters of `text` before the caret.
    indent: usize,
    width: usize,
}

/// The most problems that a person is shown at once.
pub const MOST_SHOWN: usize = 20;

impl Problems {
    pub(crate) const fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// Returns each problem.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Returns these problems as an error, or `good` if there is none.
    pub(crate) fn or<T>(self, good: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(good) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        self.0.extend(problems);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(MOST_SHOWN).enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nthe first {MOST_SHOWN} of {} problems; {more} more follow", self.0.len()),
        }
    }
}

impl std::error::Error for Problems {}

impl Problem {
    /// Returns a problem with a part of a file, in bytes.
    pub(crate) fn new(source: &Source, span: &Range<usize>, says: impl Into<String>, help: impl Into<String>) -> Self {
        Self { says: says.into(), help: help.into(), place: Some(Place::new(source, span, &(0..0))) }
    }

    /// Returns a problem inside of text, which has no keys in it, and so shows the text whole.
    pub(super) fn in_text(
        source: &Source,
        text: &Range<usize>,
        span: &Range<usize>,
        says: String,
        help: String,
    ) -> Self {
        Self { says, help, place: Some(Place::new(source, span, text)) }
    }

    /// Returns a problem that has no place in a file.
    pub(crate) fn without_place(says: impl Into<String>, help: impl Into<String>) -> Self {
        Self { says: says.into(), help: help.into(), place: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", without_breaks(&self.says))?;
        if let Some(Place { file, line, column, text, indent, width }) = &self.place {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            writeln!(f, "{margin}--> {}:{line}:{column}", without_breaks(file))?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {text}")?;
            writeln!(f, "{margin} | {}{}", " ".repeat(*indent), "^".repeat(*width))?;
        }
        write!(f, "help: {}", without_breaks(&self.help))
    }
}

/// Returns text without line breaks. Names of files and of tests may have some, which would forge a line.
fn without_breaks(text: &str) -> String {
    text.replace('\n', "\\n")
}

/// The text shown in place of a value that must not be.
const HIDDEN: &str = "[hidden]";
/// Characters of a long line shown before the caret, and after it.
const REACH: usize = 60;

impl Place {
    /// Returns the line that `span` (in bytes) begins in, with the caret under as much of `span` as is in that line.
    fn new(source: &Source, span: &Range<usize>, harmless: &Range<usize>) -> Self {
        let text = source.text.as_str();
        // An error "at the end" is shown after the last thing written, not on the empty line below it.
        let written = text.trim_end().len();
        let start = text.floor_char_boundary(span.start.min(written));
        let end = span.end.max(start + 1);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = text[..line_start].matches('\n').count() + 1;

        let hidden = source.hidden(harmless);
        let mut shown = Vec::new();
        let (mut from, mut to) = (None, 0);
        let mut at = line_start;
        while at < line_end {
            let mask = hidden.iter().find(|range| range.contains(&at));
            let next = mask.map_or_else(|| text.ceil_char_boundary(at + 1), |range| range.end.min(line_end));
            let touched = at < end && next > start;
            if touched && from.is_none() {
                from = Some(shown.len());
            }
            match mask {
                Some(_) => shown.extend(HIDDEN.chars()),
                None => shown.extend(text[at..next].chars().filter(|c| *c != '\r').map(printable)),
            }
            if touched {
                to = shown.len();
            }
            at = next;
        }
        let caret = from.unwrap_or(shown.len());
        let width = to.saturating_sub(caret).max(1);
        let column = text[line_start..start].chars().count() + 1;
        let (text, indent, width) = cut(&shown, caret, width);
        Self { file: source.name.clone(), line, column, text, indent, width }
    }
}

/// Returns a character that is safe on a terminal: one column, and no control over the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Cuts a long line around the caret. Returns the part, and the indent and width of the caret in it.
fn cut(line: &[char], caret: usize, width: usize) -> (String, usize, usize) {
    let width = width.min(REACH);
    let from = caret.saturating_sub(REACH);
    let to = (caret + width + REACH).min(line.len());
    let before = if from > 0 { "..." } else { "" };
    let after = if to < line.len() { "..." } else { "" };
    let part: String = line[from..to].iter().collect();
    let text = format!("{before}{part}{after}").trim_end().to_owned();
    // A caret at the end of a line stands there, not after the spaces that nobody sees.
    let indent = (caret - from + before.len()).min(text.chars().count());
    (text, indent, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_what_is_wrong() {
        let source = Source::new("p.toml", "a = 1\nlänge = 'x'\n");
        let problem = Problem::new(&source, &(15..18), "no", "do");
        let many = Problems::new(vec![Problem::without_place("no", "do"); MOST_SHOWN + 2]).to_string();
        assert_eq!(many.matches("error: no").count(), MOST_SHOWN);
        assert!(many.ends_with("the first 20 of 22 problems; 2 more follow"), "{many}");
        let all = Problems::new(vec![Problem::without_place("no", "do"); MOST_SHOWN]).to_string();
        assert!(all.ends_with("help: do"), "{all}");
        assert_eq!(problem.to_string(), "error: no\n --> p.toml:2:9\n  |\n2 | länge = 'x'\n  |         ^^^\nhelp: do");
    }
}
