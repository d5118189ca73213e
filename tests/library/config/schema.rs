//! The JSON schema of the configuration: it accepts what is valid, and refuses the mistakes that a schema can see.

use std::process::Command;

use serde_json::Value;
use simple_registry::config::Config;

/// Mistakes that people make, and whether the schema refuses them. The others are wrong in a way that a schema cannot see.
const MISTAKES: &[(&str, bool)] = &[
    ("[server]\nprot = 1", true),
    ("[server]\nPort = 5000", true),
    ("[server]\nport = \"5000\"", true),
    ("[server]\nport = 70000", true),
    ("[sever]\nport = 5000", true),
    ("[server]\nbind_adress = \"0.0.0.0\"", true),
    ("[server]\nbind_address = \"localhost\"", true),
    ("[server]\nhost = \"0.0.0.0\"", true),
    ("[storage]\nroot_dir = \"./data\"", true),
    ("[storage.filesystem]\nroot_dir = \"./data\"", true),
    ("[repositories.\"*\".access_policy]\ndefault_allow = true", true),
    ("[repository.\"*\".access_policy]\ndefault = \"allow\"", true),
    ("[repository.\"*\".access_policy]\nrules = [\"identity.user == 'ana'\"]", false),
    ("[repository.\"*\".access_policy]\nrules = [\"request.access = 'pull'\"]", false),
    ("[repository.Team.access_policy]\ndefault_allow = true", true),
    ("[server]\nquery_timeout = \"60 sec\"", true),
    ("[server.tls]\nserver_certificate = \"x\"", true),
    ("[scrub]\ntrash = \"1w\"", true),
    ("[scrub]\nuntagged = \"remove\"", true),
    ("max_blob_size = \"10G\"", true),
    ("port = 5000", true),
    ("[identity.ana]\nuser = \"ana\"\npassword = \"x\"", true),
    ("[identity.ana]\nusername = \"ana\"\npassword = \"x\"", true),
    ("[repository.team.retention_policy]\nrules = [\"image.tag == latest\"]", false),
    ("[observability.logs]\nlevel = \"verbose\"", true),
    ("[repository.\"*\".access_policy]\nrules = \"identity.username == 'a'\"", true),
    ("[repository.\"*\".access_policy]\nrules = [\"request.action == 'push'\"]", false),
    ("[storage.s3]\nbucket = \"x\"", true),
    (
        "[storage.fs]\n[storage.s3]\naccess_key_id = \"a\"\nsecret_key = \"b\"\nendpoint = \"http://c\"\nbucket = \"d\"",
        true,
    ),
    ("server = 5000", true),
    ("verify_pulls = \"most\"", true),
    ("observability.metrics.listen = \"localhost\"", true),
    ("observability.tracing.sampling_rate = 2", true),
    ("observability.tracing.endpoint = \"127.0.0.1:4318\"", true),
    ("repository.a.immutable_tags = \"v1\"", true),
    ("[repository.a.upstream]\nurl = \"https://b/v2\"", true),
    ("[[repository.a.upstream]]\nurls = [\"https://b/v2\"]", true),
    ("[[repository.a.upstream]]\nurl = \"https://b/library\"", false),
];

/// Returns what a schema has against a value. Knows the words that the schema uses, and panics at any other.
fn faults(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, says) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "$schema" | "title" | "description" | "default" | "properties" | "patternProperties" => true,
            "type" => match says.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                "number" => value.is_number(),
                other => panic!("no type {other}"),
            },
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= says.as_u64().unwrap()),
            "enum" => says.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| matches(says, text)),
            "anyOf" => says.as_array().unwrap().iter().any(|schema| faults(schema, value, path).is_empty()),
            "not" => !faults(says, value, path).is_empty(),
            "required" => {
                let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
                says.as_array().unwrap().iter().all(has)
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                found.extend(items.flat_map(|item| faults(says, item, &format!("{path}[]"))));
                true
            }
            "additionalProperties" => {
                assert_eq!(*says, Value::Bool(false));
                for (key, value) in value.as_object().into_iter().flatten() {
                    let path = format!("{path}.{key}");
                    let patterns = schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
                    let by_pattern = patterns.filter(|(pattern, _)| matches(&(*pattern).clone().into(), key));
                    let schemas: Vec<&Value> =
                        schema["properties"].get(key).into_iter().chain(by_pattern.map(|(_, schema)| schema)).collect();
                    if schemas.is_empty() {
                        found.push(format!("{path} is not known"));
                    }
                    found.extend(schemas.iter().flat_map(|schema| faults(schema, value, &path)));
                }
                true
            }
            other => panic!("{path}: no word {other}"),
        };
        if !holds {
            found.push(format!("{path}: {word} {says}"));
        }
    }
    found
}

fn matches(pattern: &Value, text: &str) -> bool {
    regex::Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
}

/// Returns what the schema has against a file.
fn against(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{text}\n{error}"));
    faults(&Config::schema(), &serde_json::to_value(table).unwrap(), "")
}

#[test]
fn the_schema_accepts_the_projects_own_file_with_every_key_in_force() {
    let own = include_str!("../../../config.toml");
    assert_eq!(against(own), [""; 0]);
    let line = |line: &'static str| match line.strip_prefix("# ") {
        Some(key) if key.contains(" = ") || key.starts_with('[') => key,
        _ => line,
    };
    let all: Vec<&str> = own.lines().map(line).collect();
    // Only one kind of storage can be in force.
    let all = all.join("\n").replace("[storage.s3]", "[s3]").replace("<hash>", super::HASH);
    let (s3, others): (Vec<String>, Vec<String>) =
        against(&all).into_iter().partition(|fault| fault.starts_with(".s3"));
    assert_eq!((s3.len(), others), (1, Vec::new()));
}

#[test]
fn the_schema_accepts_the_examples_of_the_reference() {
    let text = include_str!("../../../docs/reference/configuration.md");
    for example in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let faults = against(example);
        // The first examples are parts of one configuration, so each lacks keys that the other has.
        assert!(faults.iter().all(|fault| fault.contains("storage.s3: required")), "{example}\n{faults:?}");
    }
}

#[test]
fn the_schema_accepts_the_default_of_every_key() {
    for key in Config::keys() {
        if let Some(default) = key.default {
            let value: toml::Table = format!("value = {default}").parse().unwrap();
            let faults = faults(&key.schema, &serde_json::to_value(&value["value"]).unwrap(), &key.path);
            assert_eq!(faults, [""; 0], "{}", key.path);
        }
    }
}

#[test]
fn the_schema_refuses_the_mistakes_that_a_schema_can_see() {
    for (text, is_refused) in MISTAKES {
        let faults = against(text);
        assert_eq!(!faults.is_empty(), *is_refused, "{text}\n{faults:?}");
    }
}

#[test]
fn the_schema_accepts_values_that_the_registry_accepts() {
    for text in [
        "server.bind_address = \"::1\"\nserver.query_timeout = \"1 day\"\nscrub.trash = 0\nmax_blob_size = \"5 mb\"",
        "observability.metrics.listen = \"[::1]:9090\"\nobservability.health.listen = \"off\"\nverify_pulls = 7",
        "observability.metrics.listen = \"[fe80::1%1]:9090\"\nobservability.logs.format = \"json\"",
        "observability.logs.level = \"info,simple_registry::http=debug\"\nscrub.grace = \"500ms\"",
        "repository.\"a.b/c__d-e\".immutable_tags = [\"^v\"]\nobservability.tracing.endpoint = \"https://[::1]:4318/x/\"",
    ] {
        assert!(super::read(&[text]).is_ok(), "{text}");
        assert_eq!(against(text), [""; 0], "{text}");
    }
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    fn check(schema: &Value, path: &str, found: &mut Vec<String>) {
        let inner = ["properties", "patternProperties"].iter().filter_map(|group| schema.get(group)?.as_object());
        for (key, schema) in inner.flatten() {
            let path = format!("{path}.{key}");
            // a list of tables is described by the keys of its tables
            let schema = schema.get("items").filter(|items| items.get("properties").is_some()).unwrap_or(schema);
            if schema.get("properties").is_none() {
                let description = schema["description"].as_str().unwrap_or_default();
                assert!(description.len() > 10 && !description.contains("]("), "{path}: {description}");
                found.push(path.clone());
            }
            check(schema, &path, found);
        }
    }
    let mut found = Vec::new();
    check(&Config::schema(), "", &mut found);
    assert_eq!(found.len(), Config::keys().len());
}

#[test]
fn the_command_prints_the_schema_and_reads_no_configuration() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_simple-registry")).args(arguments).output().expect("the command runs")
    };
    let output = run(&["config", "schema"]);
    assert!(output.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), Config::schema());
    let output = run(&["-c", "config.toml", "config", "schema"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave out -c"));
}
