//! Policy files: one policy each, with names for its rules and its own tests.
//!
//! What a file may say is in `docs/reference/policy.md`; reading it finds all that is wrong with its shape at once.

mod images;
mod table;
mod test;

use std::{collections::BTreeSet, fs, io, ops::Range, path::Path};

use toml::de::DeTable;

use super::{
    expression::Scope,
    problem::{File, PolicyErrors, Problem, nearest},
};
use crate::oci::Name;
pub use images::MAX_IMAGES;
pub(super) use images::RetentionCase;
pub(super) use table::Text;
use table::{Reading, Table};
pub(super) use test::{AccessCase, Case, Expectation, Test, faults};

/// Largest policy file in bytes.
pub const MAX_FILE: u64 = 256 * 1024;
/// Most rules of one policy, and most tests.
pub const MAX_RULES: usize = 200;

/// A policy file of the right shape; its expressions are not read yet.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) scope: Scope,
    /// The prefixes of names that it is about; none: all requests.
    pub(super) repositories: Option<Vec<String>>,
    pub(super) default: Option<bool>,
    pub(super) enforce: bool,
    pub(super) rules: Vec<Rule>,
    pub(super) tests: Vec<Test>,
}

/// `[[rule]]`
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Text,
    /// Whether it denies; a rule of retention keeps.
    pub(super) denies: bool,
    pub(super) when: Text,
    pub(super) message: Option<String>,
}

/// Reads the policy files of a directory: those directly in it that end in `.toml`, in the order of their names. Hidden
/// ones are left out, and so are subdirectories.
///
/// # Errors
/// A directory that is not there, a directory or file that cannot be read, a file that is not UTF-8 or larger than 256 KiB.
pub fn read_dir(dir: &Path) -> Result<Vec<File>, PolicyErrors> {
    let failed = |path: &Path, error: &io::Error| Problem {
        says: format!("{} cannot be read: {error}", path.display()),
        help:
            "see that the server may read it; `policy_dir` names the directory of policies, and an empty one has none"
                .to_owned(),
        place: None,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return Err(PolicyErrors::new(vec![failed(dir, &error)])),
    };
    let (mut paths, mut problems) = (BTreeSet::new(), Vec::new());
    for entry in entries {
        match entry {
            Ok(entry) => {
                let path = entry.path();
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                if !hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir() {
                    paths.insert(path);
                }
            }
            Err(error) => problems.push(failed(dir, &error)),
        }
    }
    let mut files = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(file) => files.push(file),
            Err(errors) => problems.extend(errors.problems().cloned()),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(PolicyErrors::new(problems)) }
}

/// Reads one policy file.
///
/// # Errors
/// A file that cannot be read, is not UTF-8 or larger than 256 KiB.
pub fn read_file(path: &Path) -> Result<File, PolicyErrors> {
    use io::Read;
    let name = path.display().to_string();
    let problem =
        |says: String, help: &str| PolicyErrors::new(vec![Problem { says, help: help.to_owned(), place: None }]);
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(problem(format!("{name} cannot be read: {error}"), "name a file that exists and may be read"));
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(problem(format!("{name} is larger than {MAX_FILE} bytes"), "split it into several policies"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| problem(format!("{name} is not UTF-8: {}", error.utf8_error()), "save the file as UTF-8"))?;
    // editors of some systems begin a file with a mark that is no part of its text
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(File { name, text })
}

/// Reads the text of a policy file.
pub(super) fn parse(file: &File) -> Result<Document, Vec<Problem>> {
    let reading = Reading::new(file);
    if file.text.len() as u64 > MAX_FILE {
        reading.refuse(&(0..1), format!("the file is larger than {MAX_FILE} bytes"), "split it into several policies");
        return Err(reading.finish());
    }
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    if let Some(error) = errors.first() {
        // what comes after a fault of syntax is mostly a consequence of it
        let span = error.span().unwrap_or(0..1);
        let help = "a line is `key = value`, with text in quotes, or `[[rule]]`";
        reading.refuse(&span, format!("not valid TOML: {}", error.message()), help);
        return Err(reading.finish());
    }
    let document = document(&reading, table.get_ref());
    let problems = reading.finish();
    if problems.is_empty() { Ok(document) } else { Err(problems) }
}

fn document(reading: &Reading<'_>, entries: &DeTable<'_>) -> Document {
    let mut root = Table::new(reading, "a policy", entries, 0..1);
    root.text("description", "\"Who may do what, and why\"");
    let scope =
        root.word("kind", &[("access", Scope::Access), ("retention", Scope::Retention)]).unwrap_or(Scope::Access);
    let repositories = root.texts("repositories", "[\"prod\"]").map(|prefixes| {
        if prefixes.is_empty() {
            reading.refuse(
                &root.span,
                "`repositories` is empty: the policy is about nothing",
                "name prefixes, or `[\"*\"]` for every repository",
            );
        }
        for prefix in &prefixes {
            check_prefix(reading, prefix);
        }
        prefixes.into_iter().map(|prefix| prefix.text).collect()
    });
    let default = match scope {
        Scope::Access => root.word("default", &[("deny", false), ("allow", true)]),
        Scope::Retention => None,
    };
    let enforce = root.flag("enforce").unwrap_or(true);
    let rules = rules(reading, &mut root, scope);
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.text.as_str()).collect();
    let tests = test::read(reading, &mut root, scope, &names);
    if rules.is_empty() && default.is_none() {
        reading.refuse(
            &(0..1),
            "the policy says nothing: it has no rule and no default",
            "add a `[[rule]]`, or remove the file",
        );
    }
    root.finish();
    Document { scope, repositories, default, enforce, rules, tests }
}

fn check_prefix(reading: &Reading<'_>, prefix: &Text) {
    if prefix.text == "*" {
        return;
    }
    if let Err(rule) = prefix.text.parse::<Name>() {
        let short = prefix.text.trim_end_matches(['*', '/']);
        let help = match short.parse::<Name>() {
            Ok(_) => format!("write \"{short}\": it covers that name and all below it"),
            Err(_) => {
                "write the beginning of a repository's name, such as \"team\", or \"*\" for every repository".to_owned()
            }
        };
        reading.refuse(&prefix.span, format!("no repository's name begins like this: {rule}"), help);
    }
}

fn rules(reading: &Reading<'_>, root: &mut Table<'_>, scope: Scope) -> Vec<Rule> {
    const EFFECTS: [(&str, bool); 2] = [("allow", false), ("deny", true)];
    let example = match scope {
        Scope::Access => r#"'request.access == "pull"'"#,
        Scope::Retention => r#"'image.tag == "latest"'"#,
    };
    let mut rules: Vec<Rule> = Vec::new();
    let tables = root.tables("rule");
    if tables.len() > MAX_RULES {
        reading.refuse(
            &tables[MAX_RULES].span,
            format!("more than {MAX_RULES} rules in one policy"),
            "split it into several policies",
        );
        return rules;
    }
    for mut table in tables {
        let name = table.required("name", "\"ci-pushes\"");
        let denies = match scope {
            Scope::Access => {
                let effect = table.word("effect", &EFFECTS);
                if table.value("effect").is_none() {
                    table.missing("effect", "\"allow\"");
                }
                effect.unwrap_or(true)
            }
            Scope::Retention => table.word("effect", &[("keep", false)]).unwrap_or(false),
        };
        let when = table.required("when", example);
        let message = table.text("message", "\"push to staging first\"");
        if let Some(Text { text, span }) = &message {
            check_line(reading, "message", text, span, 500);
        }
        table.finish();
        let (Some(name), Some(when)) = (name, when) else { continue };
        check_line(reading, "name", &name.text, &name.span, 100);
        if rules.iter().any(|rule| rule.name.text == name.text) {
            let says = format!("two rules are called \"{}\": records could not tell them apart", name.text);
            reading.refuse(&name.span, says, "give one of them another name");
        }
        rules.push(Rule { name, denies, when, message: message.map(|message| message.text) });
    }
    rules
}

/// What is shown to people, in one line.
fn check_line(reading: &Reading<'_>, key: &str, text: &str, span: &Range<usize>, most: usize) {
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > most {
        reading.refuse(span, format!("`{key}` is one line of 1 to {most} characters"), "shorten it, in one line");
    }
}

/// What an unknown name may have been meant as, among names that a person chose.
fn among(name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => "there is none".to_owned(),
        None => format!("there is {}", super::problem::listed(names.iter().copied(), '"')),
    }
}
