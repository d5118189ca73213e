//! The rules of the house that a machine can hold: layers, sizes, plain words, and documents that match the code.

mod circles;
mod comments;
mod glossary;
mod keys;
mod layers;
mod links;
mod prose;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The largest number of lines in a source file. A longer file hides a noun.
const LONGEST_FILE: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the project.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lists the files below a folder that have an extension, in the order of their paths.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the words of a text that stand in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Returns a path as the project writes it, from its root.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Lists the pages that hold to the rules of prose and links.
fn documents() -> Vec<PathBuf> {
    let mut documents = files(&root().join("docs"), "md");
    let more = ["README.md", "CHANGELOG.md", "bench/README.md", "tests/e2e/README.md", "tests/stores/README.md"];
    documents.extend(more.map(|name| root().join(name)));
    documents
}

#[test]
fn files_are_short_enough_to_read() {
    let mut long = Vec::new();
    for file in files(&root().join("src"), "rs") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "over {LONGEST_FILE} lines; is a noun hiding in one?\n{}", long.join("\n"));
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let architecture = read("ARCHITECTURE.md");
    let named: BTreeSet<String> = quoted(&architecture).collect();
    for table in ["dependencies", "dev-dependencies"] {
        for dependency in manifest[table].as_table().unwrap().keys() {
            assert!(named.contains(dependency), "ARCHITECTURE.md does not say why {dependency} is among the {table}");
        }
    }
}

/// A terminal obeys control characters, so one file escapes what commands print.
#[test]
fn one_file_of_the_commands_prints() {
    let printers = ["print!(", "println!(", "eprint!(", "eprintln!(", "stdout()", "stderr()"];
    let allowed =
        ["src/cli/print.rs", "src/cli/scrub/report.rs", "src/cli/scrub/progress.rs", "src/cli/hash_password.rs"];
    let mut found = Vec::new();
    for file in files(&root().join("src/cli"), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        // some files ask whether a stream is a terminal, or write what they have escaped
        let printers = if allowed.contains(&shown(&file).as_str()) { &printers[..4] } else { &printers[..] };
        if shown(&file) != allowed[0] && printers.iter().any(|printer| text.contains(printer)) {
            found.push(shown(&file));
        }
    }
    assert!(found.is_empty(), "these print without src/cli/print.rs: {}", found.join(", "));
}
