//! The configuration as a JSON schema, for editors.

use serde_json::{Map, Value, json};

use super::{keys::KEYS, model::Config};
use crate::diagnostics::LIST;

/// The reference of the configuration, which describes each key.
const REFERENCE: &str = include_str!("../../docs/reference/configuration.md");

impl Config {
    /// Returns a JSON schema of a configuration file. It uses the words of draft 4 only, which every editor knows.
    ///
    /// The schema refuses less than the registry does: it does not know rules in CEL, or limits of a size or duration that is
    /// text. The descriptions are those of the reference, so a key is described once.
    #[must_use]
    pub fn schema() -> Value {
        let mut root = table();
        for key in KEYS.facts() {
            let mut schema = key.schema.clone();
            if let Value::Object(fields) = &mut schema {
                fields.insert("description".to_owned(), description(&key.path).into());
                let default = key.default.and_then(|text| format!("value = {text}").parse::<toml::Table>().ok());
                fields.extend(
                    default.and_then(|table| json!(table).get("value").cloned()).map(|v| ("default".to_owned(), v)),
                );
            }
            let path: Vec<&str> = key.path.split('.').collect();
            insert(&mut root, &path, schema, key.required);
        }
        root["$schema"] = "http://json-schema.org/draft-04/schema#".into();
        root["title"] = "The configuration of simple-registry".into();
        root["properties"]["storage"]["not"] = json!({ "required": ["fs", "s3"] });
        root
    }
}

fn table() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// Puts the schema of a key at its path, and makes the tables above it.
fn insert(table_of_key: &mut Value, path: &[&str], schema: Value, required: bool) {
    let Some((first, rest)) = path.split_first() else { return };
    let of_list = first.strip_suffix(LIST);
    // A free key is any that has this form.
    let (group, name) = match of_list.unwrap_or(first) {
        "\"<namespace>\"" => {
            ("patternProperties", r"^(\*|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)$")
        }
        "<id>" => ("patternProperties", "^.{1,255}$"),
        name => ("properties", name),
    };
    let Some(fields) = table_of_key.as_object_mut() else { return };
    if rest.is_empty() && required {
        let names = fields.entry("required").or_insert_with(|| json!([]));
        names.as_array_mut().into_iter().for_each(|names| names.push(name.into()));
    }
    let group = fields.entry(group).or_insert_with(|| Map::new().into());
    let Some(group) = group.as_object_mut() else { return };
    if rest.is_empty() {
        group.insert(name.to_owned(), schema);
    } else if of_list.is_some() {
        let list = group.entry(name).or_insert_with(|| json!({ "type": "array", "items": table() }));
        insert(&mut list["items"], rest, schema, required);
    } else {
        insert(group.entry(name).or_insert_with(table), rest, schema, required);
    }
}

/// Returns the description of a key in the reference, as plain text.
fn description(path: &str) -> String {
    let row = REFERENCE
        .lines()
        .find(|line| line.strip_prefix("| `").is_some_and(|row| row.starts_with(&format!("{path}` |"))));
    let cell = row.and_then(|row| row.trim_end_matches(" |").rsplit(" | ").next()).unwrap_or_default();
    let mut text = String::new();
    let mut rest = cell;
    // A link keeps its text alone.
    while let Some((before, after)) = rest.split_once("](") {
        let (before, name) = before.rsplit_once('[').unwrap_or(("", before));
        text.extend([before, name]);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace("\\|", "|")
}
