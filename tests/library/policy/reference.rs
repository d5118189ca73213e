//! `docs/reference/policy.md` says what the code does.

use std::collections::BTreeSet;

use simple_registry::action::ACTIONS;
use simple_registry::policy::{
    ACCESSES, LISTENERS, MAX_DEPTH, MAX_FILE, MAX_IMAGES, MAX_JOINS, MAX_LENGTH, MAX_RULES, MAX_WORDS, vocabularies,
};

const REFERENCE: &str = include_str!("../../../docs/reference/policy.md");

/// Returns the text below a heading.
fn section(title: &str) -> &'static str {
    let start =
        REFERENCE.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("the reference has a section {title}"));
    let rest = &REFERENCE[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// Returns the first words in backticks of the rows of the tables in a section. A call has the name of its function.
fn rows(title: &str) -> BTreeSet<&'static str> {
    let rows = section(title).lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let code = row.split('`').next().unwrap();
        let call = code.split('(').next().unwrap();
        if call.len() < code.len() { call.rsplit('.').next().unwrap() } else { code }
    })
    .collect()
}

#[test]
fn the_reference_has_every_variable_function_and_word_and_no_other() {
    let [access, retention] = vocabularies();
    let set = |words: &[&'static str]| words.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(rows("Variables"), set(&access.variables));
    assert_eq!(rows("Functions"), set(&access.functions));
    assert_eq!(rows("Variables of retention"), set(&retention.variables));
    let more: Vec<&str> = retention.functions.iter().filter(|name| !access.functions.contains(name)).copied().collect();
    assert_eq!(rows("Functions of retention"), set(&more));
    assert_eq!(rows("Actions"), ACTIONS.iter().map(|row| row.word).collect());
}

#[test]
fn the_reference_says_what_actions_do() {
    for row in ACTIONS {
        let line = section("Actions").lines().find(|line| line.starts_with(&format!("| `{}` ", row.word))).unwrap();
        assert!(line.contains(&format!("| `{}` |", row.access.as_str())), "{line}");
    }
    for word in ACCESSES.into_iter().chain(LISTENERS) {
        assert!(REFERENCE.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_reference_has_the_limits_of_the_code() {
    let limits = section("Limits");
    for (what, limit) in [
        ("bytes", MAX_LENGTH.to_string()),
        ("words", MAX_WORDS.to_string()),
        ("levels", MAX_DEPTH.to_string()),
        ("joins", MAX_JOINS.to_string()),
        ("rules", MAX_RULES.to_string()),
        ("images", MAX_IMAGES.to_string()),
        ("KiB", (MAX_FILE / 1024).to_string()),
    ] {
        assert!(limits.contains(&format!("{limit} {what}")), "{limit} {what} is not among\n{limits}");
    }
}
