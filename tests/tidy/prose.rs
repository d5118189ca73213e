//! Plain words: short sentences that begin with their subject, in the pages and in the comments of TOML files.

use std::{fs, path::Path};

use super::{documents, files, root, shown};

/// The largest number of words in a sentence.
const LONGEST_SENTENCE: usize = 30;

/// Words that begin a relative clause. A sentence that begins with one hides its subject.
pub(crate) const RELATIVE: [&str; 9] =
    ["who", "what", "which", "whether", "that", "whose", "whoever", "whatever", "whichever"];

/// The rule about them.
const RELATIVE_RULE: &str = "a sentence begins with a relative clause; name its subject";

/// A piece of prose: its words with their lines, and whether it is a cell of a table.
struct Block {
    words: Vec<(usize, String)>,
    is_cell: bool,
}

impl Block {
    fn new(is_cell: bool) -> Self {
        Self { words: Vec::new(), is_cell }
    }

    fn add(&mut self, line: usize, text: &str) {
        self.words.extend(plain(text).split_whitespace().map(|word| (line, word.to_owned())));
    }
}

/// Removes what a reader does not read as words: code spans become one word, links keep their text.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (number, part) in text.split('`').enumerate() {
        plain.push_str(if number % 2 == 0 { part } else { "CODE" });
    }
    let mut rest = plain.as_str();
    let mut without_links = String::new();
    while let Some(at) = rest.find("](") {
        without_links.push_str(&rest[..at]);
        rest = rest[at..].find(')').map_or("", |end| &rest[at + end + 1..]);
    }
    without_links.push_str(rest);
    without_links.replace(['*', '[', ']'], "")
}

/// Splits a page into paragraphs, entries of lists, headings and cells of tables. Code is left out.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut block = Block::new(false);
    let mut is_code = false;
    let mut after_blank = true;
    let mut row = 0;
    for (number, line) in text.lines().enumerate() {
        let (number, trimmed) = (number + 1, line.trim_start());
        let is_fence = trimmed.starts_with("```");
        is_code ^= is_fence;
        let is_row = trimmed.starts_with('|');
        row = if is_row { row + 1 } else { 0 };
        let is_indented = line.starts_with("    ") && after_blank;
        if trimmed.is_empty() || is_code || is_fence || is_indented || is_row || trimmed.starts_with(['#', '-', '>']) {
            found.push(std::mem::replace(&mut block, Block::new(false)));
        }
        let is_numbered = trimmed.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if is_numbered {
            found.push(std::mem::replace(&mut block, Block::new(false)));
        }
        if is_row && row > 2 {
            for cell in cells(trimmed) {
                let mut block = Block::new(true);
                block.add(number, &cell);
                found.push(block);
            }
        } else if !(is_code || is_fence || is_indented || is_row) {
            let text = trimmed.trim_start_matches(['#', '-', '>', ' ']);
            let text = if is_numbered { text.split_once(". ").map_or(text, |(_, text)| text) } else { text };
            block.add(number, text);
        }
        if trimmed.starts_with('#') {
            found.push(std::mem::replace(&mut block, Block::new(false)));
        }
        // A block of code may have empty lines and goes on after each.
        after_blank = trimmed.is_empty() || (is_indented && after_blank);
    }
    found.push(block);
    found.retain(|block| !block.words.is_empty());
    found
}

/// Splits a row of a table at its bars. A bar behind a backslash is text.
fn cells(row: &str) -> Vec<String> {
    let row = row.replace("\\|", "/");
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Joins neighbouring comment lines of a TOML file into blocks. A key or table behind `#` is no prose.
fn comments(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut block = Block::new(false);
    for (number, line) in text.lines().enumerate() {
        let comment = line.strip_prefix('#').map(str::trim);
        match comment {
            Some(comment) if !(comment.is_empty() || comment.contains(" = ") || comment.starts_with('[')) => {
                block.add(number + 1, comment);
            }
            _ => found.push(std::mem::replace(&mut block, Block::new(false))),
        }
    }
    found.push(block);
    found.retain(|block| !block.words.is_empty());
    found
}

/// Splits a block at the ends of its sentences.
fn sentences(block: &Block) -> Vec<&[(usize, String)]> {
    block
        .words
        .split_inclusive(|(_, word)| {
            let word = word.trim_end_matches(['"', '\'', ')']);
            word.ends_with(['.', '!', '?']) && !word.ends_with("..") && !matches!(word, "e.g." | "i.e.")
        })
        .collect()
}

/// Returns what is wrong with each sentence, as line and rule.
fn faults(blocks: &[Block]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for block in blocks {
        for sentence in sentences(block) {
            let (line, first) = &sentence[0];
            let words: Vec<&str> = sentence.iter().map(|(_, word)| word.as_str()).collect();
            let begin = words[..words.len().min(6)].join(" ");
            let is_question = words[words.len() - 1].ends_with('?');
            let first = first.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            let is_relative = RELATIVE.contains(&first.as_str())
                || (first == "those" && words.get(1).is_some_and(|word| RELATIVE.contains(word)));
            if is_relative && !is_question {
                faults.push((*line, format!("{RELATIVE_RULE}: {begin} ...")));
            }
            let count = words.iter().filter(|word| word.contains(char::is_alphanumeric)).count();
            if count > LONGEST_SENTENCE && !block.is_cell {
                let rule =
                    format!("a sentence has {count} words; {LONGEST_SENTENCE} at most, so split it: {begin} ...");
                faults.push((*line, rule));
            }
        }
    }
    faults
}

/// Returns the sentences of a text that begin with a relative clause, as line and rule.
pub(crate) fn relative_sentences(text: &str) -> Vec<(usize, String)> {
    let mut faults = faults(&blocks(text));
    faults.retain(|(_, rule)| rule.starts_with(RELATIVE_RULE));
    faults
}

fn report(path: &Path, faults: Vec<(usize, String)>) -> Vec<String> {
    faults.into_iter().map(|(line, rule)| format!("{}:{line}: {rule}", shown(path))).collect()
}

#[test]
fn every_sentence_of_the_documents_is_short_and_begins_with_its_subject() {
    let mut wrong = Vec::new();
    for document in documents() {
        wrong.extend(report(&document, faults(&blocks(&fs::read_to_string(&document).unwrap()))));
    }
    assert!(wrong.is_empty(), "{} places\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_sentence_of_the_architecture_is_short_and_begins_with_its_subject() {
    let path = root().join("ARCHITECTURE.md");
    let wrong = report(&path, faults(&blocks(&fs::read_to_string(&path).unwrap())));
    assert!(wrong.is_empty(), "{} places\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_sentence_of_the_toml_files_is_short_and_begins_with_its_subject() {
    let mut wrong = Vec::new();
    let mut paths = files(&root().join("policies"), "toml");
    paths.push(root().join("config.toml"));
    for path in paths {
        wrong.extend(report(&path, faults(&comments(&fs::read_to_string(&path).unwrap()))));
    }
    assert!(wrong.is_empty(), "{} places\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_sentence_test_sees_prose_and_leaves_code_alone() {
    let long = "word ".repeat(31);
    let text = format!(
        "# Title\n\nThe server starts. What it\nsays is this.\n\n    what a command prints, {long}\n\n    who goes on\n\n\
         ```\nwho {long}\n```\n\n- {long}\n- `who` asks. Who asks?\n\n| what | who |\n| --- | --- |\n| {long} | Whoever may |\n"
    );
    let found: Vec<usize> = faults(&blocks(&text)).iter().map(|(line, _)| *line).collect();
    assert_eq!(found, [3, 14, 19]);
    let found: Vec<usize> =
        faults(&comments("# Reads.\n# What for.\n# that = \"key\"\n")).iter().map(|f| f.0).collect();
    assert_eq!(found, [2]);
}
