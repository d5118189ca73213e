//! One room builds and reads the text of keys.

use std::fs;

use super::{files, root, shown};

/// The places that may handle the text of keys: the keys themselves, and the store, which turns keys into paths.
const KEY_ROOMS: &[&str] = &["src/records/key", "src/storage/", "src/model_check/"];

/// The rooms that have keys at hand, and so may not take a text apart.
const ROOMS_WITH_KEYS: &[&str] = &["src/records/", "src/registry", "src/scrub"];

/// Calls that take a text apart, or compare a part of it.
const TAKES_APART: &[&str] =
    &["split_once(", "splitn(", "rsplit(", ".split(", "strip_prefix(", "strip_suffix(", "starts_with(", "ends_with("];

/// Lines that compare parts of another text.
const OF_ANOTHER_TEXT: &[(&str, &str)] = &[("src/scrub/run.rs", "name.as_str().strip_prefix(prefix.as_str())")];

/// Returns the first parts of the store's keys.
fn roots() -> Vec<&'static str> {
    let roots = simple_registry::storage::ROOTS.iter().map(|root| root.trim_end_matches('/'));
    roots.chain(["pulls-recorded-since"]).collect()
}

/// Returns whether a line of code handles the text of a key.
fn handles_a_key(line: &str, has_keys: bool) -> bool {
    let builds = line.split('"').skip(1).step_by(2).any(|text| {
        text == "!/" || roots().iter().any(|root| text.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')))
    });
    builds || (has_keys && TAKES_APART.iter().any(|call| line.contains(call)))
}

#[test]
fn only_the_keys_build_split_or_compare_the_text_of_a_key() {
    let mut wrong = Vec::new();
    for file in files(&root().join("src"), "rs") {
        let path = shown(&file);
        if KEY_ROOMS.iter().any(|room| path.starts_with(room)) || path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let has_keys = ROOMS_WITH_KEYS.iter().any(|room| path.starts_with(room));
        for (at, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let is_other = OF_ANOTHER_TEXT.iter().any(|(file, part)| path == *file && line.contains(part));
            if !is_comment && !is_other && handles_a_key(line, has_keys) {
                wrong.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "use `Key` and `Prefix` of `src/records/key.rs`\n{}", wrong.join("\n"));
}

#[test]
fn the_test_of_keys_sees_keys() {
    for line in [
        r#"let key = format!("repos/{name}!/tags/");"#,
        r#"store.list("uploads/", None, 1)"#,
        r#"key.split_once("!/")"#,
        "key.rsplit_once('/')",
        "entry.key.strip_prefix(&prefix)",
        "key.starts_with(&prefix)",
    ] {
        assert!(handles_a_key(line, true), "{line}");
    }
    assert!(!handles_a_key(r#"format!("/v2/{name}/blobs/{digest}")"#, false));
    assert!(!handles_a_key("Prefix::Tags(name).has(key)", true));
}
