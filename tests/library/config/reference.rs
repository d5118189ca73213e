//! `docs/reference/configuration.md` and `config.toml` say what the code does.

use std::collections::BTreeMap;

use simple_registry::config::{AccessPolicy, Config, ImmutableTags, Repository};

use super::{HASH, read, told};

/// A row of the reference: the values of a key, and its default.
pub(crate) struct Row {
    expects: String,
    default: String,
    /// True if it can change while the server runs.
    pub(crate) is_live: bool,
}

/// Returns the rows of the reference's tables by key.
pub(crate) fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut section = String::new();
    for line in include_str!("../../../docs/reference/configuration.md").lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.trim_matches(['`', '[', ']']).clone_into(&mut section);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let [key, expects, default, change, meaning] = cells[..] else { panic!("not five columns: {line}") };
        let key = key.trim_end_matches('`');
        assert!(meaning.len() > 10 && meaning.ends_with('.'), "`{key}` has no meaning");
        let table = if section == "Top level" { "" } else { &section };
        assert!(key.starts_with(table), "`{key}` stands under [{section}]");
        let is_live = match change {
            "live" => true,
            "restart" => false,
            other => panic!("`{key}` takes effect {other}"),
        };
        let row = Row { expects: expects.to_owned(), default: default.trim_matches('`').to_owned(), is_live };
        assert!(rows.insert(key.to_owned(), row).is_none(), "`{key}` stands there twice");
    }
    rows
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let documented: Vec<String> = rows().into_keys().collect();
    let mut keys: Vec<String> = Config::keys().iter().map(|key| key.path.clone()).collect();
    keys.sort();
    assert_eq!(documented, keys);
}

#[test]
fn the_reference_has_the_limits_and_defaults_of_the_code() {
    let rows = rows();
    for key in Config::keys() {
        let row = &rows[&key.path];
        assert_eq!(row.expects, key.expects, "what `{}` may be", key.path);
        match key.default {
            Some(default) => assert_eq!(row.default, default, "the default of `{}`", key.path),
            None => assert!(matches!(row.default.as_str(), "required" | "not set"), "the default of `{}`", key.path),
        }
    }
}

#[test]
fn a_missing_key_is_an_error_if_the_reference_calls_it_required() {
    let error = told("[storage.s3]\n[server.tls]\n[identity.ana]\n[[repository.a.upstream]]");
    let error = error
        .replace("identity.ana", "identity.<id>")
        .replace("`[[repository.a.upstream]]` needs `url`", "`repository.\"<namespace>\".upstream[].url` is missing");
    for (key, row) in rows() {
        assert_eq!(row.default == "required", error.contains(&format!("error: `{key}` is missing")), "{key}");
    }
}

/// Every key is read by the code: with its default nothing changes, with anything else of another type it is an error.
#[test]
fn every_key_takes_its_default_and_no_nonsense() {
    for key in Config::keys() {
        let path = key.path.replace("<namespace>", "*").replace("<id>", "ana");
        let below = needed_by(&path);
        let below = below.as_str();
        if let Some(default) = key.default {
            let mut config = read(&[below, &line(&path, default)]).unwrap_or_else(|error| panic!("{error}"));
            config.repository.clear();
            config.policy_dir.as_mut().expect("a directory").must_exist = false;
            let mut expected = read(&[below]).expect("it is valid");
            expected.repository.clear();
            assert_eq!(config, expected, "{path}");
        }
        let error = told(&line(&path, "1979-05-27"));
        let path = path.replace("[]", "[0]");
        assert!(error.contains(&format!("error: `{path}` must be ")) && error.contains("this is a date"), "{error}");
    }
}

/// Returns a line that gives a key.
pub(crate) fn line(path: &str, value: &str) -> String {
    match path.split_once("[].") {
        Some((list, "url")) => format!("{list} = [{{ url = {value} }}]"),
        Some((list, key)) => format!("{list} = [{{ {UPSTREAM}{}{key} = {value} }}]", beside(key)),
        None => format!("{path} = {value}"),
    }
}

/// The required key of a table of `upstream`.
const UPSTREAM: &str = "url = 'https://a/v2', ";

/// Returns the keys that a key of `upstream` needs beside it.
fn beside(key: &str) -> &'static str {
    match key {
        "client_certificate" => "client_private_key = 'a', ",
        "client_private_key" => "client_certificate = 'a', ",
        "username" => "password = 'a', ",
        "password" | "password_file" => "username = 'a', ",
        _ => "",
    }
}

/// Returns the required keys of the table that a key is in.
pub(crate) fn needed_by(path: &str) -> String {
    if path.starts_with("storage.s3.") {
        "[storage.s3]\naccess_key_id = \"a\"\nsecret_key = \"b\"\nendpoint = \"http://c\"\nbucket = \"d\"".to_owned()
    } else if path.starts_with("server.tls.") {
        "[server.tls]\nserver_certificate_bundle = \"a\"\nserver_private_key = \"b\"\nclient_ca_bundle = \"c\""
            .to_owned()
    } else if path.starts_with("identity.ana.") {
        format!("[identity.ana]\nusername = \"ana\"\npassword = '{HASH}'")
    } else if path == "mirror_of" {
        "repository.hub = {}".to_owned()
    } else if path.contains(".upstream[].") {
        format!("repository.\"*\".upstream = [{{ {UPSTREAM} }}]")
    } else {
        String::new()
    }
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let text = include_str!("../../../docs/reference/configuration.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 5);
    let config = read(&examples).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.server.bind_address.to_string().as_str(), config.server.port), ("0.0.0.0", 8080));
}

#[test]
fn the_projects_own_file_states_the_defaults_and_is_open() {
    let open = AccessPolicy { default_allow: Some(true), rules: Vec::new() };
    let mut expected = Config { access_policy: open.clone(), ..Config::default() };
    let everywhere = Repository {
        access_policy: Some(open),
        retention_rules: Some(Vec::new()),
        immutable_tags: Some(ImmutableTags::None),
        allow_delete: Some(false),
        ..Repository::default()
    };
    expected.repository.insert("*".to_owned(), everywhere);
    assert_eq!(read(&[include_str!("../../../config.toml")]).unwrap_or_else(|error| panic!("{error}")), expected);
}

/// Every key stands in the project's own file, with its default, though it may be commented out.
#[test]
fn the_projects_own_file_has_every_key() {
    let mut table = String::new();
    let mut found = BTreeMap::new();
    for line in include_str!("../../../config.toml").lines() {
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') && line.ends_with(']') {
            table = format!("{}.", line.trim_matches(['[', ']']).replace("\"*\"", "\"<namespace>\""));
            table = table.replace("identity.ana", "identity.<id>").replace("library", "\"<namespace>\"");
            table = table.replace("upstream.", "upstream[].");
        } else if let Some((key, value)) = line.split_once(" = ") {
            found.insert(format!("{table}{key}"), value);
        }
    }
    for key in Config::keys() {
        let value = found.remove(&key.path).unwrap_or_else(|| panic!("`{}` is not in config.toml", key.path));
        if let Some(default) = key.default {
            assert_eq!(value, default, "{}", key.path);
        }
    }
    assert!(found.is_empty(), "config.toml has what is no key: {found:?}");
}
