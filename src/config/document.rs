//! Configuration files as trees in which every value knows where it was written.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem, Snippet};
use super::{Source, keys};

/// The keys of a table.
pub(super) type Entries = BTreeMap<String, Node>;

/// A value, and where it was last set.
#[derive(Clone)]
pub(super) struct Node {
    /// Which of the sources.
    pub(super) source: usize,
    /// Where the key is, in bytes.
    pub(super) key: Range<usize>,
    /// Where the value is, in bytes.
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Clone)]
pub(super) enum Value {
    Table(Entries),
    Array(Vec<Node>),
    Text(String),
    /// Absent where it is out of the range of 64 bits.
    Integer(Option<i64>),
    Number(f64),
    Flag(bool),
    Date,
}

impl Value {
    /// What a person would call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::Array(_) => "a list",
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Number(_) => "a number",
            Self::Flag(_) => "a boolean",
            Self::Date => "a date",
        }
    }
}

/// Reads one source. The error is about syntax, and keys that are given twice.
pub(super) fn parse(index: usize, source: &Source) -> Result<Entries, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let entries = entries(index, table.get_ref());
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let snippet = Snippet::new(source, &span);
        let message = match error.message() {
            message if !message.starts_with("string values must be quoted") => message,
            _ if span.is_empty() => "the value is missing",
            _ => "text must be in quotes, and this is no other kind of value",
        };
        let (says, help) = explain(message, &path_at(&source.text, span.start), &entries, source);
        let duplicate = error.message() == "duplicate key";
        problems.push(Problem { says, help, snippet: Some(snippet) });
        // What comes after a fault of syntax is mostly a consequence of it.
        if !duplicate {
            break;
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(ConfigError::new(problems)) }
}

/// What to say about an error of the TOML parser at a key.
fn explain(message: &str, path: &[String], entries: &Entries, source: &Source) -> (String, String) {
    let shown = keys::join(path.iter().map(String::as_str));
    if message == "duplicate key" {
        // Of two headers the tree has the later one, so look for the first in the text.
        let by_header =
            source.text.lines().position(|line| line.trim().starts_with('[') && header(line.trim()) == path);
        let by_key = || find(entries, path).map(|node| line_of(&source.text, node.key.start));
        let first = by_header.map(|index| index + 1).or_else(by_key);
        let says = match first {
            Some(line) => format!("`{shown}` is given twice in one file, first in line {line}"),
            None => "this key is given twice in one file".to_owned(),
        };
        return (says, "keep one of the two".to_owned());
    }
    // What stands where a key should be may be anything, a secret too: only what is known is named.
    let place = if !path.is_empty() && keys::is_path(&shown) { format!(", at `{shown}`") } else { String::new() };
    let says = format!("not valid TOML{place}: {message}");
    let help = "a line is `key = value`, with text in quotes, or `[table]`".to_owned();
    (says, help)
}

fn entries(source: usize, table: &DeTable<'_>) -> Entries {
    table.iter().map(|(key, value)| (key.get_ref().clone().into_owned(), node(source, key.span(), value))).collect()
}

/// Reads a value alone.
pub(super) fn value(text: &str) -> Option<Value> {
    DeValue::parse(text).ok().map(|value| node(0, 0..0, &value).value)
}

fn node(source: usize, key: Range<usize>, spanned: &Spanned<DeValue<'_>>) -> Node {
    let value = match spanned.get_ref() {
        DeValue::Table(table) => Value::Table(entries(source, table)),
        DeValue::Array(array) => Value::Array(array.iter().map(|item| node(source, item.span(), item)).collect()),
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Date,
    };
    Node { source, key, span: spanned.span(), value }
}

/// Lays one source over those before it: tables merge, everything else is replaced.
pub(super) fn merge(below: &mut Entries, above: Entries) {
    for (key, mut node) in above {
        if let Value::Table(over) = &mut node.value
            && let Some(Node { value: Value::Table(under), .. }) = below.get_mut(&key)
        {
            let mut merged = std::mem::take(under);
            merge(&mut merged, std::mem::take(over));
            node.value = Value::Table(merged);
        }
        below.insert(key, node);
    }
}

/// The value at a path.
pub(super) fn find<'a>(entries: &'a Entries, path: &[String]) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let node = entries.get(first)?;
    match &node.value {
        _ if rest.is_empty() => Some(node),
        Value::Table(inner) => find(inner, rest),
        _ => None,
    }
}

/// The line, counted from 1, that a place is in.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..text.floor_char_boundary(at)].matches('\n').count() + 1
}

/// The line and column, both counted from 1 and in characters, at which the text of a quoted value begins that stands in
/// `span`, quotes included.
pub(super) fn start_of_text(source: &str, span: &Range<usize>) -> (usize, usize) {
    let start = source.floor_char_boundary(span.start);
    let value = &source[start..];
    let mut quotes = 1;
    if value.starts_with("\"\"\"") || value.starts_with("'''") {
        // A line break right behind the quotes is no part of the text.
        let inside = &value[3..];
        quotes = 3 + if inside.starts_with("\r\n") { 2 } else { usize::from(inside.starts_with('\n')) };
    }
    let at = source.ceil_char_boundary(start + quotes);
    let line_start = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (line_of(source, at), source[line_start..at].chars().count() + 1)
}

/// The path of the key in the line at `at`, read off the text, for files that are no trees. Empty where it is not clear.
fn path_at(text: &str, at: usize) -> Vec<String> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    if line.starts_with('[') {
        return header(line);
    }
    let table = text[..start].lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let mut path = table.map(header).unwrap_or_default();
    let key = line.split(['=', ':']).next().unwrap_or_default();
    path.extend(parts(key));
    path
}

fn header(line: &str) -> Vec<String> {
    let end = line.find(']').unwrap_or(line.len());
    parts(line[..end].trim_start_matches('['))
}

/// The parts of a dotted key.
fn parts(dotted: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for c in dotted.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '.') => parts.push(String::new()),
            (None, c) if c.is_whitespace() => {}
            (_, c) => parts.last_mut().expect("it begins with one part and only grows").push(c),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}
