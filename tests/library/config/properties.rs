//! Properties of every text as a configuration.

use std::time::Duration;

use proptest::prelude::*;

use super::read;

const ODD: [&str; 18] =
    ["", "=", "\"", "'", "'''", "\"\"\"", "[", "]", "{", "}", "\\", "#", "\n", "é", "\r", "\0", "://a@", "secret_key"];

/// Returns a line with something odd put into it.
fn odd(line: &'static str) -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), prop::sample::select(&ODD[..])).prop_map(move |(index, odd)| {
        let at = line.floor_char_boundary(index.index(line.len() + 1));
        format!("{}{odd}{}", &line[..at], &line[at..])
    })
}

/// Returns text that is nearly a configuration: odd lines of the project's own file, in any order.
fn nearly_valid() -> impl Strategy<Value = String> {
    let lines = include_str!("../../../config.toml").lines().map(|line| line.trim_start_matches("# "));
    let line = prop::sample::select(lines.collect::<Vec<_>>()).prop_flat_map(odd);
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

/// Returns a bucket whose secret stands in an odd line, between other odd lines.
fn with_a_secret() -> impl Strategy<Value = String> {
    let secrets = vec![
        "secret_key = \"hunter2\"",
        "secret_key = '''hunter2'''",
        "storage.s3.secret_key = \"hunter2\"",
        "s3 = { bucket = \"b\", secret_key = \"hunter2\" }",
        "endpoint = \"https://user:hunter2@127.0.0.1\"",
    ];
    let lines = vec!["bucket = \"b\"", "region = \"eu\"", "[storage.s3]", "key_prefix = \"\""];
    let above = prop::sample::select(lines.clone()).prop_flat_map(odd);
    let below = prop::sample::select(lines).prop_flat_map(odd);
    let secret = prop::sample::select(secrets).prop_flat_map(odd);
    (above, secret, below).prop_map(|(above, secret, below)| format!("[storage.s3]\n{above}\n{secret}\n{below}"))
}

/// Shows what there is to show, and holds the carets against the lines they are under.
fn check(text: &str) {
    let Err(error) = read(&[text, text]) else { return };
    let shown = error.to_string();
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    for problem in shown.split("\n\n") {
        assert!(problem.starts_with("error: ") && problem.contains("\nhelp: "), "{shown}");
        let line = problem.lines().nth(3).expect("a line of the file");
        let caret = problem.lines().nth(4).expect("a line with a caret");
        assert!(caret.ends_with('^') && caret.chars().count() <= line.chars().count() + 1, "{shown}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn no_text_that_is_nearly_valid_makes_it_panic(text in nearly_valid()) {
        check(&text);
    }

    #[test]
    fn no_secret_is_shown_whatever_is_odd_about_its_line(text in with_a_secret()) {
        if let Err(error) = read(&[&text]) {
            prop_assert!(!error.to_string().contains("hunter2"), "{}", error);
        }
    }

    #[test]
    fn ports_come_back(port: u16) {
        let config = read(&[&format!("server.port = {port}")]).expect("it is valid");
        prop_assert_eq!(config.server.port, port);
    }

    #[test]
    fn sizes_come_back(number in 2_u64..=999, unit in 0_usize..8, space: bool) {
        let units = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("gib", 1 << 30),
            ("TiB", 1_u64 << 40),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
        ];
        let (unit, factor) = units[unit];
        let space = if space { " " } else { "" };
        let as_text = read(&[&format!("max_blob_size = \"{number}{space}{unit}\"")]).expect("it is valid");
        let as_bytes = read(&[&format!("max_blob_size = {}", number * factor)]).expect("it is valid");
        prop_assert_eq!(as_text.max_blob_size, number * factor);
        prop_assert_eq!(as_bytes.max_blob_size, number * factor);
    }

    #[test]
    fn durations_come_back(number in 1_u64..=3650, unit in 0_usize..8) {
        let units = [
            ("s", 1),
            (" second", 1),
            ("m", 60),
            ("minutes", 60),
            ("h", 3600),
            (" hours", 3600),
            ("d", 86_400),
            (" day", 86_400),
        ];
        let (unit, factor) = units[unit];
        let expected = Duration::from_secs(number * factor);
        let as_text = read(&[&format!("scrub.upload_expiry = \"{number}{unit}\"")]).expect("it is valid");
        let as_seconds = read(&[&format!("scrub.upload_expiry = {}", number * factor)]).expect("it is valid");
        prop_assert_eq!(as_text.scrub.upload_expiry, expected);
        prop_assert_eq!(as_seconds.scrub.upload_expiry, expected);
    }
}
