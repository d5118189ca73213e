//! A table of a policy file, read key by key, so that every key that is not read is unknown.

use std::{cell::RefCell, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::policy::problem::{File, Problem, listed, nearest};

/// What all tables of one file share.
pub(super) struct Reading<'a> {
    pub(super) file: &'a File,
    problems: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, problems: RefCell::default() }
    }

    pub(super) fn refuse(&self, at: &Range<usize>, says: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push((at.start, self.file.problem(at, says, help)));
    }

    /// The problems, in the order of the lines.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Text of a file, and where it is, with its quotes.
#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct Text {
    pub(in crate::policy) text: String,
    pub(in crate::policy) span: Range<usize>,
}

/// A table, or the whole file.
pub(super) struct Table<'a> {
    reading: &'a Reading<'a>,
    /// What errors call it.
    name: String,
    entries: &'a DeTable<'a>,
    pub(super) span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, name: &str, entries: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self { reading, name: name.to_owned(), entries, span, known: Vec::new() }
    }

    fn note(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    /// A key's value, if it is given.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.note(key);
        self.entries.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<Text> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Text { text: text.clone().into_owned(), span: value.span() }),
            other => self.mistyped(key, "a text", other, &value.span(), example),
        }
    }

    /// A key that must be there.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Text> {
        if self.entries.iter().all(|(name, _)| name.get_ref() != key) {
            self.note(key);
            self.missing(key, example);
            return None;
        }
        self.text(key, example)
    }

    pub(super) fn missing(&self, key: &str, example: &str) {
        let says = format!("{} needs `{key}`", self.name);
        self.reading.refuse(&self.span, says, format!("add for example `{key} = {example}`"));
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.mistyped(key, "true or false", other, &value.span(), "false"),
        }
    }

    pub(super) fn texts(&mut self, key: &'static str, example: &str) -> Option<Vec<Text>> {
        let value = self.value(key)?;
        let DeValue::Array(entries) = value.get_ref() else {
            return self.mistyped(key, "a list of texts", value.get_ref(), &value.span(), example);
        };
        let mut texts = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::String(text) => texts.push(Text { text: text.clone().into_owned(), span: entry.span() }),
                other => return self.mistyped(key, "a list of texts", other, &entry.span(), example),
            }
        }
        Some(texts)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let Text { text, span } = self.text(key, &format!("\"{}\"", words[0].0))?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all = || words.iter().map(|(word, _)| *word);
            let help = match nearest(&text, all()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write `{key} = \"{}\"`", words[0].0),
            };
            self.reading.refuse(&span, format!("`{key}` must be {}", listed(all(), '"')), help);
        }
        found
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let name = format!("`[[{key}]]`");
        let DeValue::Array(entries) = value.get_ref() else {
            let help = format!("write `[[{key}]]` on a line of its own, and its keys below it");
            self.reading.refuse(&value.span(), format!("`{key}` must be a list of tables"), help);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::Table(table) => tables.push(Self::new(self.reading, &name, table, entry.span())),
                other => {
                    let says = format!("{name} must be a table; this is {}", other.type_str());
                    self.reading.refuse(&entry.span(), says, format!("write `[[{key}]]` on a line of its own"));
                }
            }
        }
        tables
    }

    /// A table in this one.
    pub(super) fn table(&mut self, key: &'static str, example: &str) -> Option<Self> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(self.reading, &format!("`{key}`"), table, value.span())),
            other => self.mistyped(key, "a table", other, &value.span(), example),
        }
    }

    fn mistyped<T>(&self, key: &str, wanted: &str, is: &DeValue<'_>, at: &Range<usize>, example: &str) -> Option<T> {
        let says = format!("`{key}` must be {wanted}; this is {}", called(is));
        self.reading.refuse(at, says, format!("write for example `{key} = {example}`"));
        None
    }

    /// Ends the reading: every key that was not asked for is unknown.
    pub(super) fn finish(self) {
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                let help = unknown(name, self.known.iter().copied());
                self.reading.refuse(&key.span(), format!("`{name}` is not a key of {}", self.name), help);
            }
        }
    }
}

/// What an unknown key may have been meant as.
pub(super) fn unknown<'k>(key: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("remove it; there is {}", listed(known, '`')),
    }
}

/// What a person would call a value.
pub(super) fn called(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value as JSON of the shape of `sample`: its keys, texts, and lists of texts, all of which may be left out.
pub(super) fn shaped(
    reading: &Reading<'_>,
    value: &Spanned<DeValue<'_>>,
    sample: &serde_json::Value,
    path: &str,
) -> serde_json::Value {
    use serde_json::Value;
    let refuse = |wanted: &str, at: &Spanned<DeValue<'_>>| {
        let says = format!("`{path}` must be {wanted}; this is {}", called(at.get_ref()));
        reading.refuse(&at.span(), says, "see the reference of policies for the fields");
        sample.clone()
    };
    match (sample, value.get_ref()) {
        (Value::String(_), DeValue::String(text)) => Value::String(text.clone().into_owned()),
        (Value::String(_), _) => refuse("a text", value),
        (Value::Array(_), DeValue::Array(entries)) => entries
            .iter()
            .map(|entry| {
                if let DeValue::String(text) = entry.get_ref() {
                    Value::String(text.clone().into_owned())
                } else {
                    refuse("a list of texts", entry);
                    Value::String(String::new())
                }
            })
            .collect(),
        (Value::Array(_), _) => refuse("a list of texts", value),
        (Value::Object(fields), DeValue::Table(table)) => {
            let mut object = serde_json::Map::new();
            for (key, value) in table {
                let name = key.get_ref().as_ref();
                if let Some(sample) = fields.get(name) {
                    object.insert(name.to_owned(), shaped(reading, value, sample, &format!("{path}.{name}")));
                } else {
                    let help = unknown(name, fields.keys().map(String::as_str));
                    reading.refuse(&key.span(), format!("`{path}` has no `{name}`"), help);
                }
            }
            Value::Object(object)
        }
        _ => refuse("a table", value),
    }
}
