//! Doc comments of the source begin with a verb. Rooms that do not hold to it yet have a count, which may only go down.

use std::{collections::BTreeMap, fs};

use super::{files, prose::RELATIVE, root, shown};

/// The number of doc comments of each room that begin with a relative clause. Lower a number with each comment that you
/// rewrite.
const RELATIVE_YET: &[(&str, usize)] = &[("registry", 0)];

/// The number of doc comments of functions that begin with no verb, by room.
const WITHOUT_VERB_YET: &[(&str, usize)] = &[("registry", 0)];

/// Words that begin a question. A comment that begins with one answers it where a noun would be shorter.
const QUESTIONS: [&str; 5] = ["how", "where", "why", "when", "until"];

/// The number of doc comments of each room that begin with a question word.
const QUESTIONS_YET: &[(&str, usize)] = &[("registry", 0)];

/// A doc comment: the line that it begins in, its first word, and whether a function follows it.
struct Comment {
    line: usize,
    first: String,
    is_of_function: bool,
}

/// Finds the doc comments of a source text.
fn doc_comments(text: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let mut is_open = false;
    let mut is_over = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
            if !is_open {
                let first = comment.split_whitespace().next().unwrap_or_default();
                let first = first.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
                found.push(Comment { line: number + 1, first, is_of_function: false });
            }
            (is_open, is_over) = (true, false);
            continue;
        }
        is_open = false;
        if line.starts_with("#[") || is_over {
            continue;
        }
        is_over = true;
        let signature =
            line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let signature = signature.trim_start_matches("const ").trim_start_matches("async ");
        if let Some(comment) = found.last_mut() {
            comment.is_of_function = signature.starts_with("fn ");
        }
    }
    found
}

/// Compares the comments of each room that a test objects to with the count that the room may have.
fn check(rule: &str, yet: &[(&str, usize)], objects: impl Fn(&Comment) -> bool) {
    let mut rooms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let src = root().join("src");
    for file in files(&src, "rs") {
        let room = file.strip_prefix(&src).unwrap().components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        let comments = doc_comments(&fs::read_to_string(&file).unwrap()).into_iter().filter(&objects);
        let lines = comments.map(|comment| format!("{}:{}: {rule}: {} ...", shown(&file), comment.line, comment.first));
        rooms.entry(room).or_default().extend(lines);
    }
    let yet: BTreeMap<&str, usize> = yet.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, lines) in rooms {
        let most = yet.get(room.as_str()).copied().unwrap_or_default();
        if lines.len() > most {
            wrong.push(format!("src/{room}: {} comments, {most} at most\n{}", lines.len(), lines.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn doc_comments_do_not_begin_with_a_relative_clause() {
    check("a doc comment begins with a relative clause; begin with a verb", RELATIVE_YET, |comment| {
        RELATIVE.contains(&comment.first.to_lowercase().as_str())
    });
}

#[test]
fn doc_comments_do_not_begin_with_a_question_word() {
    check(
        "a doc comment begins with a question word; name the thing, or begin with a verb",
        QUESTIONS_YET,
        |comment| QUESTIONS.contains(&comment.first.to_lowercase().as_str()),
    );
}

#[test]
fn doc_comments_of_functions_begin_with_a_verb() {
    check("the doc comment of a function begins with no verb such as Returns", WITHOUT_VERB_YET, |comment| {
        comment.is_of_function && !comment.first.ends_with('s')
    });
}

#[test]
fn the_comment_test_sees_functions() {
    let text = "//! What a module is.\n\n/// Returns it.\n/// Who else.\n#[must_use]\npub(crate) async fn f() {}\n/// A type.\nstruct S;\n";
    let found: Vec<_> = doc_comments(text).into_iter().map(|c| (c.line, c.first, c.is_of_function)).collect();
    let expected = [(1, "What", false), (3, "Returns", true), (7, "A", false)];
    assert_eq!(found, expected.map(|(line, first, is_fn)| (line, first.to_owned(), is_fn)));
}
