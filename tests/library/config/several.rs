//! The messages about several files, and about many problems, word for word.

use std::fs;

use simple_registry::config::Config;

use super::{read, told};

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let error =
        read(&["cache_tll = 1\nserver.port = -1", "verify_pulls = \"most\"", "[server\n"]).expect_err("all are wrong");
    let expected = r#"
error: `cache_tll` is not a known key
 --> config.toml:1:1
  |
1 | cache_tll = 1
  | ^^^^^^^^^
help: did you mean `cache_ttl`?

error: `server.port` must be an integer from 0 to 65535
 --> config.toml:2:15
  |
2 | server.port = -1
  |               ^^
help: write for example `port = 5000`

error: `verify_pulls` must be "none", "all", or an integer from 1 to 4294967295
 --> second.toml:1:16
  |
1 | verify_pulls = "most"
  |                ^^^^^^
help: write for example `verify_pulls = "none"`

error: not valid TOML, at `server`: unclosed table, expected `]`
 --> third.toml:1:8
  |
1 | [server
  |        ^
help: a line is `key = value`, with text in quotes, or `[table]`"#;
    assert_eq!(error.to_string(), expected.trim_start());
}

#[test]
fn a_wrong_value_is_told_though_a_later_file_replaces_it() {
    let error = read(&["server.port = \"a\"", "server.port = 1"]).expect_err("the first is wrong");
    assert!(error.to_string().contains("--> config.toml:1:15"), "{error}");
}

#[test]
fn two_storages_in_two_files_are_refused_at_the_later() {
    let s3 = "[storage.s3]\naccess_key_id = \"a\"\nsecret_key = \"b\"\nendpoint = \"http://c\"\nbucket = \"d\"";
    let error = read(&["\n[storage.fs]\n", s3]).expect_err("there are two storages");
    let expected = r"
error: `storage.s3` is given beside `storage.fs` (config.toml:2): there is one storage
 --> second.toml:1:10
  |
1 | [storage.s3]
  |          ^^
help: remove one of the two tables";
    assert_eq!(error.to_string(), expected.trim_start());
}

#[test]
fn an_address_taken_twice_is_refused_where_it_was_set_last() {
    let metrics = "[observability.metrics]\nlisten = \"127.0.0.1:8080\"";
    let error = read(&["[server]\nport = 8080\nbind_address = \"0.0.0.0\"", metrics]).expect_err("one address, twice");
    let expected = r#"
error: `observability.metrics.listen` is the address that the registry itself is served at (`server.bind_address` 0.0.0.0, `server.port` 8080)
 --> second.toml:2:10
  |
2 | listen = "127.0.0.1:8080"
  |          ^^^^^^^^^^^^^^^^
help: take another port, or write `listen = "main"`"#;
    assert_eq!(error.to_string(), expected.trim_start());
    assert!(read(&[metrics, "[observability.health]\nlisten = \"127.0.0.1:8080\""]).is_ok(), "those two may share one");
}

#[test]
fn a_file_that_cannot_be_read_is_told_beside_the_problems_of_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let [missing, bytes, good, bad] =
        ["missing", "bytes", "good", "bad"].map(|name| dir.path().join(format!("{name}.toml")));
    fs::write(&bytes, b"[server]\nport = 1 # \xff\n").expect("written");
    fs::write(&good, "\u{feff}server.port = 1").expect("written");
    fs::write(&bad, "\u{feff}port = 1").expect("written");

    assert_eq!(Config::load(std::slice::from_ref(&good)).expect("valid").server.port, 1);
    let error = Config::load(&[good, missing.clone(), bytes.clone(), bad.clone()]).expect_err("three are wrong");
    let expected = format!(
        r"
error: {missing} cannot be read: No such file or directory (os error 2)
help: name a file that exists with `-c`; `simple-registry server --data-dir ./data` needs none

error: {bytes} is not UTF-8: byte 20 begins no character
 --> {bytes}:2:12
  |
2 | port = 1 # {replacement}
  |            ^
help: save the file as UTF-8

error: `port` is not a known key
 --> {bad}:1:1
  |
1 | port = 1
  | ^^^^
help: `port` belongs to `[server]`",
        missing = missing.display(),
        bytes = bytes.display(),
        bad = bad.display(),
        replacement = char::REPLACEMENT_CHARACTER,
    );
    assert_eq!(error.to_string(), expected.trim_start());
    // a folder stands for its files, in the order of their names
    let folder = dir.path().join("folder.toml");
    std::fs::create_dir(&folder).expect("make a folder");
    let error = Config::load(std::slice::from_ref(&folder)).expect_err("a folder without files");
    assert!(error.to_string().contains("has no file that ends in .toml"), "{error}");
    for (name, text) in [("b.toml", "server.port = 2"), ("a.toml", "server.port = 1"), ("c.txt", "x"), (".d.toml", "x")]
    {
        std::fs::write(folder.join(name), text).expect("write");
    }
    assert_eq!(Config::load(&[folder]).expect("valid").server.port, 2);
}

#[test]
fn the_first_20_of_a_thousand_wrong_keys_are_told_without_their_values() {
    let lines: Vec<String> = (0..1000).map(|index| format!("kezy{index} = \"some value\"")).collect();
    let error = told(&lines.join("\n"));
    assert_eq!(error.matches("is not a known key").count(), 20);
    assert!(error.contains("the first 20 of 1000 problems"), "{error}");
    // The values of keys that nobody knows may be secrets.
    assert!(error.contains("20 | kezy19 = [hidden]") && !error.contains("some value"), "{error}");
}
