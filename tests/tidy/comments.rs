//! Doc comments of the source begin with a noun, and those of functions with a verb.

use std::fs;

use super::{files, prose::RELATIVE, root, shown};

/// Words that begin a question. A comment that begins with one answers it where a noun would be shorter.
const QUESTIONS: [&str; 5] = ["how", "where", "why", "when", "until"];

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

/// Fails with the doc comments of the source that a rule objects to.
fn check(rule: &str, objects: impl Fn(&Comment) -> bool) {
    let mut wrong = Vec::new();
    for file in files(&root().join("src"), "rs") {
        let comments = doc_comments(&fs::read_to_string(&file).unwrap()).into_iter().filter(&objects);
        wrong.extend(
            comments.map(|comment| format!("{}:{}: {rule}: {} ...", shown(&file), comment.line, comment.first)),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn doc_comments_do_not_begin_with_a_relative_clause() {
    let relative = |comment: &Comment| RELATIVE.contains(&comment.first.to_lowercase().as_str());
    check("a doc comment begins with a relative clause; begin with a verb", relative);
}

#[test]
fn doc_comments_do_not_begin_with_a_question_word() {
    let question = |comment: &Comment| QUESTIONS.contains(&comment.first.to_lowercase().as_str());
    check("a doc comment begins with a question word; name the thing, or begin with a verb", question);
}

#[test]
fn doc_comments_of_functions_begin_with_a_verb() {
    let without_verb = |comment: &Comment| comment.is_of_function && !comment.first.ends_with('s');
    check("the doc comment of a function begins with no verb such as Returns", without_verb);
}

#[test]
fn the_comment_test_sees_functions() {
    let text = "//! What a module is.\n\n/// Returns it.\n/// Who else.\n#[must_use]\npub(crate) async fn f() {}\n/// A type.\nstruct S;\n";
    let found: Vec<_> = doc_comments(text).into_iter().map(|c| (c.line, c.first, c.is_of_function)).collect();
    let expected = [(1, "What", false), (3, "Returns", true), (7, "A", false)];
    assert_eq!(found, expected.map(|(line, first, is_fn)| (line, first.to_owned(), is_fn)));
}
