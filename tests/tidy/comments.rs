//! Doc comments begin with a noun, and those of functions with a verb.

use std::fs;

use super::{
    files,
    prose::{RELATIVE, relative_sentences},
    root, shown,
};

/// Words that begin a question. A comment that begins with one answers it where a noun would be shorter.
const QUESTIONS: [&str; 5] = ["how", "where", "why", "when", "until"];

/// A doc comment: the line that it begins in, its first word, the function that follows it, and all of its text.
struct Comment {
    line: usize,
    first: String,
    of: Of,
    text: String,
}

/// The item that a doc comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A function that returns a value.
    Value,
    /// A function without a value. A test is such a function, and its comment may tell a scene.
    Deed,
    Other,
}

/// Finds the doc comments of a source text.
fn doc_comments(text: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let mut is_open = false;
    let mut is_over = true;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        if let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
            if !is_open {
                let first = comment.split_whitespace().next().unwrap_or_default();
                let first = first.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
                found.push(Comment { line: number + 1, first, of: Of::Other, text: String::new() });
            }
            if let Some(open) = found.last_mut() {
                open.text.push_str(comment.strip_prefix(' ').unwrap_or(comment));
                open.text.push('\n');
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
            let text = lines[number..].join(" ");
            let returns = text.split(['{', ';']).next().is_some_and(|signature| signature.contains("->"));
            comment.of = match signature.starts_with("fn ") {
                true if returns => Of::Value,
                true => Of::Deed,
                false => Of::Other,
            };
        }
    }
    found
}

/// Fails with the doc comments below some folders that a rule objects to.
fn check(folders: &[&str], rule: &str, objects: impl Fn(&Comment) -> bool) {
    let mut wrong = Vec::new();
    for file in folders.iter().flat_map(|folder| files(&root().join(folder), "rs")) {
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
    check(&["src", "tests"], "a doc comment begins with a relative clause; begin with a verb", relative);
}

/// The first word is not all: a comment has sections and sentences behind it.
#[test]
fn no_sentence_of_a_doc_comment_begins_with_a_relative_clause() {
    let mut wrong = Vec::new();
    for file in ["src", "tests"].iter().flat_map(|folder| files(&root().join(folder), "rs")) {
        for comment in doc_comments(&fs::read_to_string(&file).unwrap()) {
            let faults = relative_sentences(&comment.text).into_iter();
            wrong.extend(faults.map(|(line, rule)| format!("{}:{}: {rule}", shown(&file), comment.line + line - 1)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn doc_comments_do_not_begin_with_a_question_word() {
    let question = |comment: &Comment| QUESTIONS.contains(&comment.first.to_lowercase().as_str());
    let rule = "a doc comment begins with a question word; name the thing, or begin with a verb";
    check(&["src", "tests"], rule, question);
}

#[test]
fn doc_comments_of_functions_begin_with_a_verb() {
    let rule = "the doc comment of a function begins with no verb such as Returns";
    let without_verb = |comment: &Comment| !comment.first.ends_with('s');
    check(&["src"], rule, |comment| comment.of != Of::Other && without_verb(comment));
    check(&["tests"], rule, |comment| comment.of == Of::Value && without_verb(comment));
}

#[test]
fn the_comment_test_sees_functions() {
    let text = "//! What a module is.\n\n/// Returns it.\n/// Who else.\n#[must_use]\npub(crate) async fn f(\n    a: A,\n) -> B {\n}\n\
                /// A type.\nstruct S;\n/// A scene.\n#[test]\nfn g() {\n    || -> u8 { 0 };\n}\n";
    let found: Vec<_> = doc_comments(text).into_iter().map(|c| (c.line, c.first, c.of)).collect();
    let expected = [(1, "What", Of::Other), (3, "Returns", Of::Value), (10, "A", Of::Other), (12, "A", Of::Deed)];
    assert_eq!(found, expected.map(|(line, first, of)| (line, first.to_owned(), of)));
    let text = "//! A module.\n//!\n//! What for.\nstruct S {\n    /// A field. Who has\n    /// it. Which one?\n    f: u8,\n}\n\
                /// Returns one.\n///\n/// # Errors\n/// Whatever is wrong.\nfn f() -> u8 { 0 }\n";
    let found = doc_comments(text).into_iter().map(|comment| {
        relative_sentences(&comment.text).into_iter().map(|(line, _)| comment.line + line - 1).collect::<Vec<_>>()
    });
    assert_eq!(found.collect::<Vec<_>>(), [vec![3], vec![5], vec![12]]);
}
