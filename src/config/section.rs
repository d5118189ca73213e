//! Reading a table key by key, so that every problem is found and every key that is not read is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::document::{self, Entries, Node, Value};
use super::error::{ConfigError, Problem, Snippet, nearest};
use super::rule::Rule;
use super::{KeyFacts, Source, keys};

/// What all sections of one reading share.
pub(super) struct Reading<'a> {
    sources: &'a [Source],
    problems: RefCell<BTreeMap<(usize, usize), Vec<Problem>>>,
    keys: RefCell<Vec<KeyFacts>>,
    /// Whether this is the whole configuration, so that what is missing is missing.
    pub(super) whole: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(sources: &'a [Source], whole: bool) -> Self {
        Self { sources, problems: RefCell::default(), keys: RefCell::default(), whole }
    }

    /// Notes a problem with a key.
    pub(super) fn refuse(&self, at: &Node, place: Place, says: String, help: String) {
        let span = match place {
            Place::Key => &at.key,
            Place::Value => &at.span,
        };
        let snippet = self.sources.get(at.source).map(|source| Snippet::new(source, span));
        let problem = Problem { says, help, snippet };
        self.problems.borrow_mut().entry((at.source, span.start)).or_default().push(problem);
    }

    /// The file and line of a key, as in `config.toml:3`.
    pub(super) fn whereabouts(&self, at: &Node) -> String {
        self.sources.get(at.source).map_or_else(String::new, |source| {
            format!("{}:{}", source.name, document::line_of(&source.text, at.key.start))
        })
    }

    /// Where the text of a quoted value begins: its file, and its line and column, both counted from 1.
    pub(super) fn start_of_text(&self, at: &Node) -> (String, usize, usize) {
        self.sources.get(at.source).map_or_else(Default::default, |source| {
            let (line, column) = document::start_of_text(&source.text, &at.span);
            (source.name.clone(), line, column)
        })
    }

    /// The problems in the order of the files and their lines, if there are any.
    pub(super) fn finish(self) -> Result<Vec<KeyFacts>, ConfigError> {
        let problems: Vec<Problem> = self.problems.into_inner().into_values().flatten().collect();
        if problems.is_empty() { Ok(self.keys.into_inner()) } else { Err(ConfigError::new(problems)) }
    }
}

/// What the caret points at.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Key,
    Value,
}

/// A table that is being read.
pub(super) struct Section<'a> {
    reading: &'a Reading<'a>,
    path: Vec<String>,
    node: Option<&'a Node>,
    entries: Option<&'a Entries>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The table that the whole document is.
    pub(super) fn root(reading: &'a Reading<'a>, entries: &'a Entries) -> Self {
        Self { reading, path: Vec::new(), node: None, entries: Some(entries), known: Vec::new() }
    }

    /// Where the table is written, if it is.
    pub(super) fn node(&self) -> Option<&'a Node> {
        self.node
    }

    /// Where a key of this table is written, if it is.
    pub(super) fn entry(&self, key: &str) -> Option<&'a Node> {
        self.entries.and_then(|entries| entries.get(key))
    }

    /// A table of this table, given or not.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        self.known.push(key);
        self.open(key, self.entry(key))
    }

    /// All tables of this table, whose keys are free.
    pub(super) fn tables(&self) -> Vec<(&'a String, Self)> {
        self.entries.into_iter().flatten().map(|(key, node)| (key, self.open(key, Some(node)))).collect()
    }

    fn open(&self, key: &str, node: Option<&'a Node>) -> Self {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        let entries = match node {
            None => None,
            Some(Node { value: Value::Table(entries), .. }) => Some(entries),
            Some(node) => {
                let shown = keys::join(path.iter().map(String::as_str));
                let says = format!("`{shown}` must be a table; this is {}", node.value.kind());
                let help = format!("write `[{shown}]` on a line of its own, and its keys below it");
                self.reading.refuse(node, Place::Value, says, help);
                None
            }
        };
        Self { reading: self.reading, path, node, entries, known: Vec::new() }
    }

    /// A key's value, or else its default, which is given as it would be written in the file.
    pub(super) fn key<T>(&mut self, key: &'static str, default: &'static str, rule: &Rule<T>) -> T {
        self.describe(key, rule, Some(default));
        self.read(key, default, rule).unwrap_or_else(|| {
            let value = document::value(default).and_then(|value| (rule.read)(&value).ok());
            value.expect("the default of every key keeps its own rule, which a test of all defaults shows")
        })
    }

    /// A key that may be absent; `example` is shown where it is wrong.
    pub(super) fn optional<T>(&mut self, key: &'static str, example: &'static str, rule: &Rule<T>) -> Option<T> {
        self.describe(key, rule, None);
        self.read(key, example, rule)
    }

    /// A key that must be given, in some file, where its table is.
    pub(super) fn required<T: Default>(&mut self, key: &'static str, example: &'static str, rule: &Rule<T>) -> T {
        let value = self.optional(key, example, rule);
        if let (Some(node), None, true) = (self.node, self.entry(key), self.reading.whole) {
            let table = keys::join(self.path.iter().map(String::as_str));
            let says = format!("`{}` is missing: `[{table}]` needs it", self.full(key));
            self.reading.refuse(node, Place::Key, says, format!("add {} to `[{table}]`", line(key, example)));
        }
        value.unwrap_or_default()
    }

    fn read<T>(&self, key: &str, example: &str, rule: &Rule<T>) -> Option<T> {
        let mut node = self.entry(key)?;
        let refusal = match (rule.read)(&node.value) {
            Ok(value) => return Some(value),
            Err(refusal) => refusal,
        };
        let mut path = self.full(key);
        let mut expects = &rule.expects;
        let mut example_of = example;
        if let (Some((index, of_item)), Value::Array(items)) = (&refusal.item, &node.value) {
            path = format!("{path}[{index}]");
            node = &items[*index];
            expects = of_item;
            example_of = "\"\"";
        }
        // A value of the right kind need not be told what kind it is.
        let is_usual = match &node.value {
            Value::Text(_) => example_of.starts_with('"'),
            Value::Integer(_) => !example_of.starts_with(['"', '[']),
            _ => false,
        };
        let says = match refusal.says {
            Some(says) => format!("`{path}` {says}"),
            None if is_usual => format!("`{path}` must be {expects}"),
            None => format!("`{path}` must be {expects}; this is {}", node.value.kind()),
        };
        let help = refusal.help.unwrap_or_else(|| format!("write for example {}", line(key, example)));
        self.reading.refuse(node, Place::Value, says, help);
        None
    }

    fn describe<T>(&mut self, key: &'static str, rule: &Rule<T>, default: Option<&'static str>) {
        let facts = KeyFacts { path: self.full(key), expects: rule.expects.clone(), default };
        self.reading.keys.borrow_mut().push(facts);
        self.known.push(key);
    }

    fn full(&self, key: &str) -> String {
        keys::join(self.path.iter().map(String::as_str).chain([key]))
    }

    /// Ends the reading of this table: every key that was not read is unknown.
    pub(super) fn finish(self) {
        for (key, node) in self.entries.into_iter().flatten() {
            if !self.known.contains(&key.as_str()) {
                let says = format!("`{}` is not a known key", self.full(key));
                self.reading.refuse(node, Place::Key, says, self.suggest(key));
            }
        }
    }

    /// What an unknown key may have been meant as.
    fn suggest(&self, key: &str) -> String {
        let inside: Vec<String> = keys::children(&self.path);
        if let Some(near) = nearest(key, inside.iter().map(String::as_str)) {
            return format!("did you mean `{near}`?");
        }
        let elsewhere = keys::tables_with(key);
        if !elsewhere.is_empty() {
            return format!("`{key}` belongs to {}", elsewhere.join(" or "));
        }
        if let Some(near) = nearest(key, keys::all()) {
            return format!("did you mean `{near}`, which belongs to {}?", keys::tables_with(near).join(" or "));
        }
        let table = match self.path.as_slice() {
            [] => "the top level".to_owned(),
            path => format!("`[{}]`", keys::join(path.iter().map(String::as_str))),
        };
        format!("remove it; {table} knows {}", inside.join(", "))
    }
}

/// A line of a file as it is shown in a sentence.
fn line(key: &str, value: &str) -> String {
    format!("`{key} = {value}`")
}
