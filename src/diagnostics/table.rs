//! Reads a table key by key, so that every problem is found, and every key that is not read is unknown.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    document::{self, Entries, Node, Value},
    keys::{KeyFacts, Keys},
    problem::{Problem, Problems},
    rule::Rule,
    source::Source,
    text::Text,
    words::{joined, nearest},
};

/// The state that all tables of one reading share.
pub(crate) struct Reading<'a> {
    sources: &'a [Arc<Source>],
    /// The keys that errors may suggest from other tables.
    known: &'a Keys,
    problems: RefCell<BTreeMap<(usize, usize), Vec<Problem>>>,
    keys: RefCell<Vec<KeyFacts>>,
    /// True if all sources are read together, so that a missing key is missing.
    pub(crate) whole: bool,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(sources: &'a [Arc<Source>], known: &'a Keys, whole: bool) -> Self {
        Self { sources, known, problems: RefCell::default(), keys: RefCell::default(), whole }
    }

    /// Adds a problem with a key or its value.
    pub(crate) fn refuse(&self, at: &Node, part: Part, says: impl Into<String>, help: impl Into<String>) {
        let span = match part {
            Part::Key => &at.key,
            Part::Value => &at.span,
        };
        let problem = match self.sources.get(at.source) {
            Some(source) => Problem::new(source, span, says, help),
            None => Problem::without_place(says, help),
        };
        self.problems.borrow_mut().entry((at.source, span.start)).or_default().push(problem);
    }

    /// Adds a problem with a file as a whole, shown at its beginning.
    pub(crate) fn refuse_file(&self, says: impl Into<String>, help: impl Into<String>) {
        let node = Node { source: 0, key: 0..1, span: 0..1, value: Value::Flag(false) };
        self.refuse(&node, Part::Key, says, help);
    }

    /// Returns the file and line of a key, as in `config.toml:3`.
    pub(crate) fn whereabouts(&self, at: &Node) -> String {
        self.sources.get(at.source).map_or_else(String::new, |source| {
            format!("{}:{}", source.name, document::line_of(&source.text, at.key.start))
        })
    }

    /// Returns a value that is text, with its place. None: it is no text.
    fn text(&self, node: &Node) -> Option<Text> {
        let (Value::Text(text), Some(source)) = (&node.value, self.sources.get(node.source)) else { return None };
        Some(Text::new(text.clone(), Arc::clone(source), node.span.clone()))
    }

    /// Ends the reading. Returns the keys that were read, or the problems in the order of the files and their lines.
    pub(crate) fn finish(self) -> Result<Vec<KeyFacts>, Problems> {
        let problems = self.problems.into_inner().into_values().flatten().collect();
        Problems::new(problems).or(self.keys.into_inner())
    }
}

/// The part of an entry that the caret points at.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Key,
    Value,
}

/// A table that is being read.
pub(crate) struct Table<'a> {
    reading: &'a Reading<'a>,
    /// The path as errors show it: `server.tls`, `rule[0]`.
    path: String,
    kind: Kind,
    node: Option<&'a Node>,
    entries: Option<&'a Entries>,
    known: Vec<String>,
}

/// The ways in which a table is written.
#[derive(Clone, Copy)]
enum Kind {
    /// The file itself.
    Root,
    /// `[path]`
    Headed,
    /// `[[path]]`
    Listed,
    /// A table in one that is listed.
    Inner,
}

impl<'a> Table<'a> {
    /// Returns the table that the whole file is.
    pub(crate) fn root(reading: &'a Reading<'a>, entries: &'a Entries) -> Self {
        let (path, known) = (String::new(), Vec::new());
        Self { reading, path, kind: Kind::Root, node: None, entries: Some(entries), known }
    }

    /// Returns the place of the table, if a file has it.
    pub(crate) fn node(&self) -> Option<&'a Node> {
        self.node
    }

    /// Returns the place of the table in its file, in bytes, if a file has it.
    pub(crate) fn span(&self) -> Option<Range<usize>> {
        self.node.map(|node| node.span.clone())
    }

    /// Returns the place of a key of this table, if a file has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&'a Node> {
        self.entries.and_then(|entries| entries.get(key))
    }

    /// Returns a key that is text, with its place.
    pub(crate) fn text(&self, key: &str) -> Option<Text> {
        self.entry(key).and_then(|node| self.reading.text(node))
    }

    /// Returns the texts of a key that is a list, with their places.
    pub(crate) fn texts(&self, key: &str) -> Vec<Text> {
        match self.entry(key) {
            Some(Node { value: Value::Array(items), .. }) => {
                items.iter().filter_map(|item| self.reading.text(item)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns a path as the file means it that has this key: relative to the folder of that file. A default is relative to
    /// the folder of the first file.
    pub(crate) fn beside_file(&self, key: &str, path: PathBuf) -> PathBuf {
        let source = self.reading.sources.get(self.entry(key).map_or(0, |node| node.source));
        match source.and_then(|source| Path::new(&source.name).parent()) {
            Some(folder) if !path.as_os_str().is_empty() => folder.join(path),
            _ => path,
        }
    }

    /// Adds a problem with the value of a key that a file has.
    pub(crate) fn refuse(&self, key: &str, says: impl Into<String>, help: impl Into<String>) {
        match self.entry(key) {
            Some(node) => self.reading.refuse(node, Part::Value, says, help),
            None => self.refuse_whole(says, help),
        }
    }

    /// Adds a problem with the table as a whole.
    pub(crate) fn refuse_whole(&self, says: impl Into<String>, help: impl Into<String>) {
        match self.node {
            Some(node) => self.reading.refuse(node, Part::Key, says, help),
            None => self.reading.refuse_file(says, help),
        }
    }

    /// Returns a table of this table, whether a file has it or not.
    pub(crate) fn table(&mut self, key: &str) -> Self {
        self.known.push(key.to_owned());
        self.open(key, self.entry(key))
    }

    /// Returns all tables of this table, whose keys are free.
    pub(crate) fn tables(&self) -> Vec<(&'a String, Self)> {
        self.entries.into_iter().flatten().map(|(key, node)| (key, self.open(key, Some(node)))).collect()
    }

    /// Returns the tables of `[[key]]`.
    pub(crate) fn list(&mut self, key: &str) -> Vec<Self> {
        self.known.push(key.to_owned());
        let Some(node) = self.entry(key) else { return Vec::new() };
        let path = self.full(key);
        let Value::Array(items) = &node.value else {
            let says = format!("`{path}` must be a list of tables; this is {}", node.value.kind());
            let help = format!("write `[[{path}]]` on a line of its own, and its keys below it");
            self.reading.refuse(node, Part::Value, says, help);
            return Vec::new();
        };
        let item = |(index, node)| self.read_table(format!("{path}[{index}]"), Kind::Listed, Some(node));
        items.iter().enumerate().map(item).collect()
    }

    fn open(&self, key: &str, node: Option<&'a Node>) -> Self {
        let kind = if matches!(self.kind, Kind::Root | Kind::Headed) { Kind::Headed } else { Kind::Inner };
        self.read_table(self.full(key), kind, node)
    }

    fn read_table(&self, path: String, kind: Kind, node: Option<&'a Node>) -> Self {
        let entries = match node {
            None => None,
            Some(Node { value: Value::Table(entries), .. }) => Some(entries),
            Some(node) => {
                let says = format!("`{path}` must be a table; this is {}", node.value.kind());
                let help = match kind {
                    Kind::Headed => format!("write `[{path}]` on a line of its own, and its keys below it"),
                    Kind::Listed => format!("write `{}` on a line of its own, and its keys below it", in_list(&path)),
                    Kind::Root | Kind::Inner => "write `{ key = value }`".to_owned(),
                };
                self.reading.refuse(node, Part::Value, says, help);
                None
            }
        };
        Self { reading: self.reading, path, kind, node, entries, known: Vec::new() }
    }

    /// Returns a key's value, or else its default, which is given as it would be written in the file.
    pub(crate) fn key<T>(&mut self, key: &str, default: &'static str, rule: &Rule<T>) -> T {
        self.describe(key, rule, Some(default), false);
        self.read(key, default, rule).unwrap_or_else(|| {
            let value = document::value(default).and_then(|value| (rule.read)(&value).ok());
            value.expect("the default of every key keeps its own rule, which a test of all defaults shows")
        })
    }

    /// Returns the value of a key that may be absent. `example` is shown if the value is wrong.
    pub(crate) fn optional<T>(&mut self, key: &str, example: &str, rule: &Rule<T>) -> Option<T> {
        self.describe(key, rule, None, false);
        self.read(key, example, rule)
    }

    /// Refuses a key that an older version had, and names the key that took its place.
    pub(crate) fn replaced(&mut self, old: &str, new: &str, why: &str) {
        self.known.push(old.to_owned());
        if let Some(node) = self.entry(old) {
            let says = format!("`{}` is no key any more: {why}", self.full(old));
            self.reading.refuse(node, Part::Key, says, format!("write `{new}` in its place"));
        }
    }

    /// Returns the value of a key that must be given, in some file, if its table is.
    pub(crate) fn required<T: Default>(&mut self, key: &str, example: &str, rule: &Rule<T>) -> T {
        self.describe(key, rule, None, true);
        let value = self.read(key, example, rule);
        if self.entry(key).is_none() {
            self.missing(key, example);
        }
        value.unwrap_or_default()
    }

    /// Adds the problem that a key is missing.
    pub(crate) fn missing(&self, key: &str, example: &str) {
        if let (Some(node), true) = (self.node, self.reading.whole) {
            let title = self.title();
            let says = match self.kind {
                Kind::Root | Kind::Headed => format!("`{}` is missing: {title} needs it", self.full(key)),
                Kind::Listed | Kind::Inner => format!("{title} needs `{key}`"),
            };
            self.reading.refuse(node, Part::Key, says, format!("add {} to {title}", line(key, example)));
        }
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
        self.reading.refuse(node, Part::Value, says, help);
        None
    }

    fn describe<T>(&mut self, key: &str, rule: &Rule<T>, default: Option<&'static str>, required: bool) {
        let facts = KeyFacts {
            path: self.full(key),
            expects: rule.expects.clone(),
            default,
            required,
            schema: rule.schema.clone(),
        };
        self.reading.keys.borrow_mut().push(facts);
        self.known.push(key.to_owned());
    }

    /// Returns the path as errors show it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the path of a key of this table.
    pub(crate) fn full(&self, key: &str) -> String {
        let key = joined([key]);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// Returns the name of the table in sentences.
    fn title(&self) -> String {
        match self.kind {
            Kind::Root => "the top level".to_owned(),
            Kind::Headed => format!("`[{}]`", self.path),
            Kind::Listed => format!("`{}`", in_list(&self.path)),
            Kind::Inner => format!("`{}`", self.path),
        }
    }

    /// Ends the reading of this table: every key that was not read is unknown.
    pub(crate) fn finish(self) {
        for (key, node) in self.entries.into_iter().flatten() {
            if !self.known.contains(key) {
                let says = format!("`{}` is not a known key", self.full(key));
                self.reading.refuse(node, Part::Key, says, self.suggest(key));
            }
        }
    }

    /// Suggests what an unknown key may have been meant as.
    fn suggest(&self, key: &str) -> String {
        if let Some(near) = nearest(key, self.known.iter().map(String::as_str)) {
            return format!("did you mean `{near}`?");
        }
        let elsewhere = self.reading.known.tables_with(key);
        if !elsewhere.is_empty() {
            return format!("`{key}` belongs to {}", elsewhere.join(" or "));
        }
        if let Some(near) = nearest(key, self.reading.known.names()) {
            let tables = self.reading.known.tables_with(near).join(" or ");
            return format!("did you mean `{near}`, which belongs to {tables}?");
        }
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        format!("remove it; {} knows {}", self.title(), known.join(", "))
    }
}

/// Returns the header of a listed table, whose path ends with its index.
fn in_list(path: &str) -> String {
    format!("[[{}]]", path.rsplit_once('[').map_or(path, |(list, _)| list))
}

/// Writes a line of a file as a sentence shows it.
fn line(key: &str, value: &str) -> String {
    format!("`{key} = {value}`")
}
