//! What a person is told when the configuration is not valid.

use std::fmt;
use std::ops::Range;

use super::Source;
use super::mask;

/// Everything that is wrong with the configuration, in the order of the files and their lines.
///
/// `Display` is what the user is shown: each problem with its file, line and column, the line with a caret under the key
/// or value, the path of the key, the rule it breaks and what to do next. The values of secrets are left out, also where
/// the file is not valid TOML; so this may be logged, and so may `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Takes all problems out of another error into this one.
    pub(super) fn join(&mut self, other: Self) {
        self.problems.extend(other.problems);
    }
}

impl fmt::Display for ConfigError {
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

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong, ready to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong: the path of the key and the rule.
    pub(super) says: String,
    /// The next step.
    pub(super) help: String,
    /// Where it is; a file that cannot be read has no such place.
    pub(super) snippet: Option<Snippet>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.says)?;
        if let Some(snippet) = &self.snippet {
            let Snippet { file, line, column, text, indent, width } = snippet;
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

/// The line a problem is in, with what must not be shown already left out of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    file: String,
    /// Counted from 1.
    line: usize,
    /// In characters of the file's own line, counted from 1.
    column: usize,
    text: String,
    /// Characters of `text` before the caret.
    indent: usize,
    width: usize,
}

/// What is shown in the place of a value that must not be.
const HIDDEN: &str = "[hidden]";
/// Characters of a long line shown before the caret, and after it.
const REACH: usize = 60;

impl Snippet {
    /// The line of `source` that `span` (in bytes) begins in, with the caret under as much of `span` as is in that line.
    pub(super) fn new(source: &Source, span: &Range<usize>) -> Self {
        let text = source.text.as_str();
        // An error "at the end" is shown after the last thing written, not on the empty line below it.
        let written = text.trim_end().len();
        let start = text.floor_char_boundary(span.start.min(written));
        let end = span.end.max(start + 1);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = text[..line_start].matches('\n').count() + 1;

        let hidden = mask::hidden(text);
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

/// A character as a terminal may be given it: one column, and no control over the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The part of a long line around the caret, and where the caret then is.
fn cut(line: &[char], caret: usize, width: usize) -> (String, usize, usize) {
    let width = width.min(REACH);
    let from = caret.saturating_sub(REACH);
    let to = (caret + width + REACH).min(line.len());
    let before = if from > 0 { "..." } else { "" };
    let after = if to < line.len() { "..." } else { "" };
    let part: String = line[from..to].iter().collect();
    let text = format!("{before}{part}{after}").trim_end().to_owned();
    // What is wrong at the end of a line is shown there, not after the spaces that nobody sees.
    let indent = (caret - from + before.len()).min(text.chars().count());
    (text, indent, width)
}

/// The candidate that `word` is most likely a misspelling of, if any is close: at most a third of its letters, and at
/// least one, are inserted, left out, replaced or swapped with their neighbour. Upper and lower case are one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of letters inserted, left out, replaced or swapped with their neighbour between two words (the distance of
/// optimal string alignment). Takes time proportional to the product of the lengths, of which it looks at 64 letters.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let beginning = |text: &str| text.chars().take(64).collect::<String>();
    strsim::osa_distance(&beginning(left), &beginning(right))
}
