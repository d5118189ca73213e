//! `docs/reference/glossary.md` has the project's own words, one line for each.

use super::{quoted, read};

/// Words that the code or the store uses with a meaning of their own.
const OWN_WORDS: [&str; 21] = [
    "action",
    "attempt",
    "blob copy",
    "blob link",
    "claim",
    "decision",
    "finding",
    "grace",
    "identity",
    "lease",
    "mark",
    "namespace",
    "ordinal",
    "permit",
    "pin",
    "record",
    "scrub",
    "segment",
    "snapshot",
    "tombstone",
    "trash",
];

/// Returns the rows of the glossary: word, line and the cells behind the word.
fn rows(text: &str) -> Vec<(String, usize, Vec<String>)> {
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with("| *"));
    rows.map(|(number, line)| {
        let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        let word = cells.next().unwrap().trim_matches('*').to_owned();
        (word, number + 1, cells.collect())
    })
    .collect()
}

#[test]
fn the_glossary_has_each_own_word_once_and_in_order() {
    let text = read("docs/reference/glossary.md");
    let words: Vec<String> = rows(&text).into_iter().map(|(word, ..)| word).collect();
    let mut sorted = words.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(words, sorted, "docs/reference/glossary.md: its words stand in alphabetical order, each once");
    for word in OWN_WORDS {
        assert!(words.iter().any(|found| found == word), "docs/reference/glossary.md: a line for `{word}` is missing");
    }
}

#[test]
fn the_glossary_names_words_that_the_documents_use() {
    let text = read("docs/reference/glossary.md");
    let layout = read("docs/reference/storage-layout.md");
    let others = super::documents().into_iter().filter(|page| !page.ends_with("glossary.md"));
    let pages: String = others.map(read).collect::<String>() + &read("ARCHITECTURE.md");
    let pages = pages.to_lowercase();
    for (word, line, cells) in rows(&text) {
        let [meaning, key] = &cells[..] else { panic!("docs/reference/glossary.md:{line}: word, meaning, key") };
        assert!(meaning.ends_with('.'), "docs/reference/glossary.md:{line}: the meaning is a sentence");
        assert!(
            pages.contains(&word),
            "docs/reference/glossary.md:{line}: no other page uses `{word}`; delete the line"
        );
        for key in quoted(key) {
            let is_known = layout.contains(&key);
            assert!(is_known, "docs/reference/glossary.md:{line}: storage-layout.md has no key with `{key}`");
        }
    }
}
