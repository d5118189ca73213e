//! A file as a tree in which every value has its place.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::Keys,
    problem::{Problem, Problems},
    source::Source,
    words::joined,
};

/// The keys of a table.
pub(crate) type Entries = BTreeMap<String, Node>;

/// A value, and the place that set it last.
#[derive(Clone)]
pub(crate) struct Node {
    /// The index of the source.
    pub(super) source: usize,
    /// The place of the key, in bytes.
    pub(super) key: Range<usize>,
    /// The place of the value, in bytes.
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

impl Node {
    /// Returns the place of the key, to compare it with that of another: the index of the source, and bytes.
    pub(crate) const fn place(&self) -> (usize, usize) {
        (self.source, self.key.start)
    }
}

/// A TOML value.
#[derive(Clone)]
pub(crate) enum Value {
    Table(Entries),
    Array(Vec<Node>),
    Text(String),
    /// None: out of the range of 64 bits.
    Integer(Option<i64>),
    Number(f64),
    Flag(bool),
    /// As it is written.
    Date(String),
}

impl Value {
    /// Returns the name of its kind, as a person would say it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::Array(_) => "a list",
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Number(_) => "a number",
            Self::Flag(_) => "a boolean",
            Self::Date(_) => "a date",
        }
    }
}

/// Reads one source, the one with this index. The error is about syntax, and keys that are given twice.
pub(crate) fn parse(index: usize, source: &Source, keys: &Keys) -> Result<Entries, Problems> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let entries = entries(index, table.get_ref());
    let mut problems = Problems::default();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let message = match error.message() {
            message if !message.starts_with("string values must be quoted") => message,
            _ if span.is_empty() => "the value is missing",
            _ => "text must be in quotes, and this is no other kind of value",
        };
        let (says, help) = explain(message, &path_at(&source.text, span.start), &entries, source, keys);
        problems.extend([Problem::new(source, &span, says, help)]);
        // A problem behind a fault of syntax is mostly a consequence of it.
        if error.message() != DUPLICATE {
            break;
        }
    }
    problems.or(entries)
}

/// The message of the TOML parser for a key that is given twice.
const DUPLICATE: &str = "duplicate key";

/// Explains an error of the TOML parser at a key, and names the next step.
fn explain(message: &str, path: &[String], entries: &Entries, source: &Source, keys: &Keys) -> (String, String) {
    let shown = joined(path.iter().map(String::as_str));
    if message == DUPLICATE {
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
    // The text in place of a key may be a secret, so only a known key is named.
    let place = if !path.is_empty() && keys.has_path(&shown) { format!(", at `{shown}`") } else { String::new() };
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
        DeValue::Datetime(date) => Value::Date(date.to_string()),
    };
    Node { source, key, span: spanned.span(), value }
}

/// Lays one source over the earlier ones: tables merge, everything else is replaced.
pub(crate) fn merge(below: &mut Entries, above: Entries) {
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

/// Finds the value at a path.
pub(crate) fn find<'a>(entries: &'a Entries, path: &[String]) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let node = entries.get(first)?;
    match &node.value {
        _ if rest.is_empty() => Some(node),
        Value::Table(inner) => find(inner, rest),
        _ => None,
    }
}

/// Returns the line of a place, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..text.floor_char_boundary(at)].matches('\n').count() + 1
}

/// Reads the path of the key in the line at `at` off the text, for a file that is no tree. Returns an empty path if it is
/// not clear.
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

/// Splits a dotted key into its parts.
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
