//! A strict reader of the `OpenMetrics` 1.0 text format, as far as this program uses it.

use std::collections::{BTreeMap, BTreeSet};

/// The samples' labels, in the order they came.
pub(crate) type Labels = Vec<(String, String)>;

/// One metric family.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    unit: Option<String>,
    /// Name of the sample, labels, value.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

impl Family {
    /// Returns the value of the sample with this name and these labels, in any order.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeSet<_> = labels.iter().copied().collect();
        let fits = |sample: &&(String, Labels, f64)| sample.0 == name && set(&sample.1) == wanted;
        self.samples.iter().find(fits).map(|sample| sample.2)
    }
}

fn set(labels: &Labels) -> BTreeSet<(&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Reads a whole exposition, or says which rule it breaks.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("`# EOF` is not the last line")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("`# EOF` is not on a line of its own".to_owned());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.split_terminator('\n') {
        read_line(line, &mut families, &mut current).map_err(|rule| format!("{rule}: {line}"))?;
    }
    for (name, family) in &families {
        check(name, family).map_err(|rule| format!("{name}: {rule}"))?;
    }
    Ok(families)
}

fn read_line(line: &str, families: &mut BTreeMap<String, Family>, current: &mut String) -> Result<(), String> {
    if let Some(comment) = line.strip_prefix("# ") {
        let mut words = comment.splitn(3, ' ');
        let (keyword, name, rest) = (words.next(), words.next(), words.next());
        let (Some(keyword), Some(name), Some(rest)) = (keyword, name, rest) else {
            return Err("a word is missing".into());
        };
        if !is_name(name) {
            return Err("not a name".into());
        }
        if name != current.as_str() {
            if families.contains_key(name) {
                return Err("the family was interrupted by another".into());
            }
            name.clone_into(current);
            families.insert(name.to_owned(), Family::default());
        }
        let family = families.get_mut(name).expect("it was there or was inserted");
        if !family.samples.is_empty() {
            return Err("metadata after samples".into());
        }
        let before = match keyword {
            "TYPE" => std::mem::replace(&mut family.kind, rest.to_owned()),
            "HELP" => std::mem::replace(&mut family.help, rest.to_owned()),
            "UNIT" => family.unit.replace(rest.to_owned()).unwrap_or_default(),
            _ => return Err("neither TYPE, HELP nor UNIT".into()),
        };
        return if before.is_empty() { Ok(()) } else { Err("said twice".into()) };
    }
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name) {
        return Err("not a name".into());
    }
    let (labels, value) = if rest.starts_with('{') { read_labels(rest)? } else { (Labels::new(), rest) };
    let value = value.strip_prefix(' ').ok_or("no single space before the value")?;
    let value: f64 = value.parse().map_err(|_| "the value is not a number")?;
    let family = families.get_mut(current.as_str()).ok_or("a sample before any family")?;
    if !name.starts_with(current.as_str()) {
        return Err("a sample of another family".into());
    }
    if family.samples.iter().any(|(other, others, _)| other == name && set(others) == set(&labels)) {
        return Err("a sample twice".into());
    }
    family.samples.push((name.to_owned(), labels, value));
    Ok(())
}

/// Reads `{name="value",...}` and returns what follows.
fn read_labels(text: &str) -> Result<(Labels, &str), String> {
    let mut rest = text.strip_prefix('{').ok_or("no labels")?;
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name) || name.contains(':') {
            return Err("not a name of a label".into());
        }
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().ok_or("a label's value does not end")? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('"' | '\\'))) => escaped,
                    _ => return Err("an escape that there is not".into()),
                }),
                (_, character) => value.push(character),
            }
        };
        if labels.iter().any(|(other, _)| other == name) {
            return Err("a label twice".into());
        }
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok((labels, rest.strip_prefix('}').ok_or("the labels do not end")?)),
        }
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && name.bytes().all(fits)
}

fn check(name: &str, family: &Family) -> Result<(), String> {
    if family.help.is_empty() {
        return Err("no help".into());
    }
    if family.unit.as_ref().is_some_and(|unit| !name.ends_with(&format!("_{unit}"))) {
        return Err("the name does not end with the unit".into());
    }
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_count", "_sum"],
        _ => return Err("not a type".into()),
    };
    if ["_total", "_info", "_bucket", "_count", "_sum"].iter().any(|reserved| name.ends_with(reserved)) {
        return Err("the family's name has the ending of a sample".into());
    }
    for (sample, labels, value) in &family.samples {
        if !suffixes.iter().any(|suffix| sample.strip_prefix(name) == Some(suffix)) {
            return Err(format!("{sample} has not the ending of a {}", family.kind));
        }
        if family.kind != "gauge" && (*value < 0.0 || !value.is_finite()) {
            return Err(format!("{sample} is {value}"));
        }
        if labels.iter().any(|(label, _)| label == "le") != sample.ends_with("_bucket") {
            return Err(format!("{sample} has a label `le`, or none"));
        }
    }
    if family.kind == "histogram" { check_histogram(name, family) } else { Ok(()) }
}

fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (_, labels, value) in family.samples.iter().filter(|(sample, ..)| sample.ends_with("_bucket")) {
        let (bound, others): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(label, _)| label == "le");
        let bound = if bound[0].1 == "+Inf" { f64::INFINITY } else { bound[0].1.parse().map_err(|_| "le")? };
        buckets.entry(others).or_default().push((bound, *value));
    }
    let series = family.samples.iter().filter(|(sample, ..)| sample.ends_with("_count")).count();
    if series != buckets.len() {
        return Err("a series without buckets, or without a count".into());
    }
    for (labels, buckets) in buckets {
        if !buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
            return Err("buckets are not cumulative in the order of their bounds".into());
        }
        let last = buckets.last().filter(|(bound, _)| *bound == f64::INFINITY).ok_or("no bucket +Inf")?;
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if family.value(&format!("{name}_count"), &labels) != Some(last.1) {
            return Err("the count is not that of the bucket +Inf".into());
        }
        family.value(&format!("{name}_sum"), &labels).ok_or("no sum")?;
    }
    Ok(())
}

#[test]
fn this_reader_refuses_what_breaks_the_format() {
    let counter = "# HELP a Help\n# TYPE a counter\n";
    let histogram = "# HELP h Help\n# TYPE h histogram\n";
    assert!(parse(&format!("{counter}a_total{{x=\"\\\"\\\\\\n\"}} 1\n# EOF\n")).is_ok());
    for (broken, rule) in [
        (format!("{counter}a_total 1\n"), "last line"),
        (format!("{counter}a_total 1\n# EOF\na_total 2\n"), "last line"),
        (format!("{counter}a_total 1# EOF\n"), "line of its own"),
        (format!("{counter}a 1\n# EOF\n"), "ending of a counter"),
        (format!("{counter}a_total -1\n# EOF\n"), "is -1"),
        (format!("{counter}a_total 1\na_total 1\n# EOF\n"), "twice"),
        (format!("{counter}a_total{{x=\"\\t\"}} 1\n# EOF\n"), "escape"),
        (format!("{counter}a_total{{x=\"1\",x=\"2\"}} 1\n# EOF\n"), "label twice"),
        (format!("{counter}a_total x\n# EOF\n"), "not a number"),
        (format!("{counter}# TYPE a counter\n# EOF\n"), "said twice"),
        (format!("{counter}\n# EOF\n"), "no value"),
        ("# TYPE a counter\n# EOF\n".to_owned(), "no help"),
        ("# HELP a Help\n# TYPE a timer\n# EOF\n".to_owned(), "not a type"),
        ("# HELP a_total Help\n# TYPE a_total counter\n# EOF\n".to_owned(), "ending of a sample"),
        ("# HELP a Help\n# TYPE a gauge\n# UNIT a bytes\n# EOF\n".to_owned(), "unit"),
        (format!("{counter}# HELP b Help\n# TYPE b gauge\nb 1\n{counter}# EOF\n"), "interrupted"),
        (format!("{histogram}h_bucket{{le=\"1\"}} 1\nh_count 1\nh_sum 1\n# EOF\n"), "+Inf"),
        (
            format!("{histogram}h_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 1\nh_count 1\nh_sum 1\n# EOF\n"),
            "cumulative",
        ),
        (format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_count 2\nh_sum 1\n# EOF\n"), "count is not"),
        (format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_count 1\n# EOF\n"), "no sum"),
    ] {
        let error = parse(&broken).expect_err(&broken);
        assert!(error.contains(rule), "{error}, not {rule}");
    }
}
