//! Rules for values: each says in words which values it accepts, and reads a value.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    document::{Node, Value},
    words::{listed, nearest},
};

/// A rule for values.
pub(crate) struct Rule<T> {
    /// In words that follow "must be".
    pub(crate) expects: String,
    /// The same as a JSON schema, which may accept more.
    pub(crate) schema: serde_json::Value,
    pub(crate) read: Box<Read<T>>,
}

/// Reads a value by a rule.
type Read<T> = dyn Fn(&Value) -> Result<T, Refusal>;

/// The reason of a refusal, if there is more to say than the rule itself.
#[derive(Default)]
pub(crate) struct Refusal {
    /// Instead of "must be" and what the rule expects.
    pub(crate) says: Option<String>,
    pub(crate) help: Option<String>,
    /// The item of a list that is wrong, and its rule in words that follow "must be".
    pub(crate) item: Option<(usize, String)>,
}

impl Refusal {
    fn help(help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..Self::default() }
    }

    fn says(says: impl Into<String>, help: impl Into<String>) -> Self {
        Self { says: Some(says.into()), help: Some(help.into()), item: None }
    }
}

impl<T: 'static> Rule<T> {
    pub(crate) fn new(expects: impl Into<String>, read: impl Fn(&Value) -> Option<T> + 'static) -> Self {
        let read: Box<Read<T>> = Box::new(move |value| read(value).ok_or_else(Refusal::default));
        Self { expects: expects.into(), schema: json!({}), read }
    }

    /// Returns the same rule, whose JSON schema accepts only text that a pattern matches.
    pub(crate) fn matching(mut self, pattern: &str) -> Self {
        self.schema["pattern"] = pattern.into();
        self
    }

    /// Returns the same rule, with its value turned into something else.
    pub(crate) fn map<U>(self, turn: impl Fn(T) -> U + 'static) -> Rule<U> {
        Rule { expects: self.expects, schema: self.schema, read: Box::new(move |value| (self.read)(value).map(&turn)) }
    }
}

/// Accepts `true` or `false`.
pub(crate) fn flag() -> Rule<bool> {
    Rule {
        expects: "true or false".to_owned(),
        schema: json!({ "type": "boolean" }),
        read: Box::new(|value| match value {
            Value::Flag(flag) => Ok(*flag),
            Value::Text(text) if matches!(text.as_str(), "true" | "false") => Err(Refusal::help("remove the quotes")),
            _ => Err(Refusal::default()),
        }),
    }
}

/// Accepts `true` and `false`, which mean something, and the lists that another rule accepts.
pub(crate) fn flag_or<T: 'static>(means: impl Fn(bool) -> T + 'static, other: Rule<T>) -> Rule<T> {
    let expects = format!("true, false, or {}", other.expects);
    let schema = json!({ "anyOf": [{ "type": "boolean" }, other.schema] });
    let read = move |value: &Value| match value {
        Value::Array(_) => (other.read)(value),
        value => (flag().read)(value).map(&means),
    };
    Rule { expects, schema, read: Box::new(read) }
}

/// Accepts an integer within limits.
pub(crate) fn integer<T>(limits: RangeInclusive<T>) -> Rule<T>
where
    T: TryFrom<i64> + PartialOrd + Display + Serialize + 'static,
{
    Rule {
        expects: format!("an integer from {} to {}", limits.start(), limits.end()),
        schema: json!({ "type": "integer", "minimum": limits.start(), "maximum": limits.end() }),
        read: Box::new(move |value| match value {
            Value::Integer(Some(number)) => {
                T::try_from(*number).ok().filter(|number| limits.contains(number)).ok_or_else(Refusal::default)
            }
            Value::Text(text) if text.parse::<i64>().is_ok() => Err(Refusal::help("remove the quotes")),
            _ => Err(Refusal::default()),
        }),
    }
}

/// Accepts a share of the whole, from 0 to 1.
pub(crate) fn share() -> Rule<f64> {
    let mut rule = Rule::new("a number from 0.0 to 1.0", |value| {
        let number = match value {
            Value::Number(number) => *number,
            Value::Integer(Some(0)) => 0.0,
            Value::Integer(Some(1)) => 1.0,
            _ => return None,
        };
        (0.0..=1.0).contains(&number).then_some(number)
    });
    rule.schema = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    rule
}

/// The units of sizes, the larger first where one ends with another.
const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Accepts a number of bytes within limits, which are given as they are written.
pub(crate) fn size(from: &'static str, to: &'static str) -> Rule<u64> {
    let limits = size_of(from).expect("limits are sizes")..=size_of(to).expect("limits are sizes");
    Rule {
        expects: format!("a size from {from} to {to}"),
        schema: number_or_text(*limits.start(), *limits.end(), "^[0-9]+( ?([KkMmGgTt][Ii]?)?[Bb])?$"),
        read: Box::new(move |value| {
            let bytes = match value {
                Value::Integer(number) => number.and_then(|number| u64::try_from(number).ok()),
                Value::Text(text) => match size_of(text) {
                    Some(bytes) => Some(bytes),
                    None => return Err(Refusal::help("write whole bytes, or text such as \"4MiB\" or \"5MB\"")),
                },
                _ => None,
            };
            bytes.filter(|bytes| limits.contains(bytes)).ok_or_else(Refusal::default)
        }),
    }
}

/// Returns the JSON schema of a number within limits, or of text that a pattern matches.
fn number_or_text(from: u64, to: u64, pattern: &str) -> serde_json::Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": from, "maximum": to },
        { "type": "string", "pattern": pattern },
    ] })
}

/// Reads `512`, `4MiB` or `4 MiB`: a whole number and a unit, in upper or lower case.
fn size_of(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" => 1,
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.checked_mul(factor)
}

/// The units of durations, in milliseconds.
const TIMES: [(&[&str], u64); 5] = [
    (&["ms"], 1),
    (&["s", "second", "seconds"], 1_000),
    (&["m", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
];

/// Accepts a duration within limits, which are given as they are written.
pub(crate) fn time(from: &'static str, to: &'static str) -> Rule<Duration> {
    let limits = time_of(from).expect("limits are durations")..=time_of(to).expect("limits are durations");
    Rule {
        expects: format!("a duration from {from} to {to}"),
        schema: number_or_text(
            limits.start().as_secs(),
            limits.end().as_secs(),
            &format!("^[0-9]+ ?({})$", TIMES.map(|(names, _)| names.join("|")).join("|")),
        ),
        read: Box::new(move |value| {
            let time = match value {
                Value::Integer(number) => number.and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs),
                Value::Text(text) => match time_of(text) {
                    Some(time) => Some(time),
                    None => return Err(Refusal::help("write seconds, or text such as \"90s\", \"15m\" or \"1 day\"")),
                },
                _ => None,
            };
            time.filter(|time| limits.contains(time)).ok_or_else(Refusal::default)
        }),
    }
}

/// Reads `90s`, `15m` or `1 day`: a whole number and a unit. A number alone is not one; what unit it meant is unsure.
pub(crate) fn time_of(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = TIMES.iter().find(|(names, _)| names.contains(&unit))?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// Splits digits, at most one space, and letters.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    Some((number.parse().ok()?, unit))
}

/// Accepts one of a few words.
pub(crate) fn word<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Rule<T> {
    Rule { expects: names(words), schema: enumerated(words), read: Box::new(|value| one_of(words, value)) }
}

/// Accepts one of a few words, or something else by another rule.
pub(crate) fn word_or<T: Copy + 'static>(words: &'static [(&'static str, T)], other: Rule<T>) -> Rule<T> {
    let expects = format!("{}, or {}", names(words).replace(" or ", ", "), other.expects);
    let schema = json!({ "anyOf": [enumerated(words), other.schema] });
    let read = move |value: &Value| (other.read)(value).or_else(|_| one_of(words, value));
    Rule { expects, schema, read: Box::new(read) }
}

fn enumerated<T>(words: &[(&str, T)]) -> serde_json::Value {
    json!({ "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
}

fn one_of<T: Copy>(words: &[(&str, T)], value: &Value) -> Result<T, Refusal> {
    let Value::Text(text) = value else { return Err(Refusal::default()) };
    let known = words.iter().find(|(word, _)| word == text);
    known.map(|(_, meaning)| *meaning).ok_or_else(|| match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => Refusal::help(format!("did you mean \"{word}\"?")),
        None => Refusal::default(),
    })
}

fn names<T>(words: &[(&str, T)]) -> String {
    listed(words.iter().map(|(word, _)| *word), '"')
}

/// Accepts the text that `read` accepts.
pub(crate) fn text<T: 'static>(expects: &str, read: impl Fn(&str) -> Option<T> + 'static) -> Rule<T> {
    let mut rule = Rule::new(expects, move |value| match value {
        Value::Text(text) => read(text),
        _ => None,
    });
    rule.schema = json!({ "type": "string" });
    rule
}

/// Accepts any text.
pub(crate) fn any_text() -> Rule<String> {
    text("a text", |text| Some(text.to_owned()))
}

/// Accepts text that a type of the standard library parses.
pub(crate) fn parsed<T: FromStr + 'static>(expects: &str) -> Rule<T> {
    text(expects, |text| text.parse().ok())
}

/// Accepts an `http` or `https` URL of a server. Leaves one slash at its end out.
pub(crate) fn url(example: &str) -> Rule<String> {
    let expects = format!("a URL such as \"{example}\", without a user, a query or a fragment");
    let mut rule = text(&expects, |text| {
        let uri: http::Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority()?;
        let port = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, port)| port).split_once(':');
        // The parser takes a port that is empty or too large.
        let port_is_valid = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
        let plain = !text.contains(['@', '?', '#']) && !authority.host().is_empty();
        (known && port_is_valid && plain).then(|| text.strip_suffix('/').unwrap_or(text).to_owned())
    })
    .matching("^[Hh][Tt][Tt][Pp][Ss]?://[^@?#/]+(/[^@?#]*)?$");
    let read = rule.read;
    rule.read = Box::new(move |value| {
        read(value).map_err(|refusal| match value {
            Value::Text(text) if text.contains('@') => Refusal::help("leave out the user and password before the `@`"),
            Value::Text(text) if !text.contains("://") => Refusal::help("begin it with \"http://\" or \"https://\""),
            _ => refusal,
        })
    });
    rule
}

/// Accepts the text that `read` accepts. Otherwise `read` returns what is wrong, and the next step.
pub(crate) fn checked_text<T: 'static>(
    expects: &str,
    read: impl Fn(&str) -> Result<T, (String, String)> + 'static,
) -> Rule<T> {
    let read = move |value: &Value| match value {
        Value::Text(text) => read(text).map_err(|(says, help)| Refusal::says(says, help)),
        _ => Err(Refusal::default()),
    };
    Rule { expects: expects.to_owned(), schema: json!({ "type": "string" }), read: Box::new(read) }
}

/// Accepts a list of up to `most` values, each by a rule of its own. A problem with one is shown at that one.
pub(crate) fn list<T: 'static>(expects: &str, most: usize, item: Rule<T>) -> Rule<Vec<T>> {
    let schema = json!({ "type": "array", "maxItems": most, "items": item.schema });
    let read = move |value: &Value| {
        let Value::Array(values) = value else { return Err(Refusal::default()) };
        if values.len() > most {
            let says = format!("has {} entries, and may have {most}", values.len());
            return Err(Refusal::says(says, "leave some of them out"));
        }
        let read_item = |(index, value): (usize, &Node)| {
            let at = |refusal: Refusal| Refusal { item: Some((index, item.expects.clone())), ..refusal };
            (item.read)(&value.value).map_err(at)
        };
        values.iter().enumerate().map(read_item).collect()
    };
    Rule { expects: expects.to_owned(), schema, read: Box::new(read) }
}
