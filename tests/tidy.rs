//! The rules of the house that a machine can hold: layers, sizes, and that the documents speak of what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file beyond which a noun is hiding in it.
const LONGEST_FILE: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

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

/// Words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The table of layers in `ARCHITECTURE.md`: each module's layer.
fn layers() -> BTreeMap<String, u32> {
    let text = read("ARCHITECTURE.md");
    let rows =
        text.lines().skip_while(|line| !line.starts_with("| layer |")).skip(2).take_while(|line| line.starts_with('|'));
    let mut layers = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let layer = cells[0].parse().unwrap_or_else(|_| panic!("a layer is a number: {row}"));
        layers.extend(quoted(cells[1]).map(|module| (module, layer)));
    }
    assert!(layers.len() > 5, "ARCHITECTURE.md has a table that begins with '| layer |'");
    layers
}

/// The modules of this crate that a source text names as `crate::module` or in `crate::{...}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.extend([word(std::mem::take(&mut item).trim())]),
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        found.insert(word(item.trim()));
    }
    found.remove("");
    found
}

#[test]
fn every_import_goes_down_the_layers() {
    let layers = layers();
    let src = root().join("src");
    let mut wrong = Vec::new();
    for file in files(&src, "rs") {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(layer) = layers.get(&module) else {
            wrong.push(format!("{module} is not in the table of layers in ARCHITECTURE.md"));
            continue;
        };
        for import in imports(&fs::read_to_string(&file).unwrap()).into_iter().filter(|import| *import != module) {
            match layers.get(&import) {
                Some(below) if below < layer => {}
                Some(other) => wrong.push(format!(
                    "{}: {module} (layer {layer}) imports {import} (layer {other}); imports go to a lower layer",
                    inside.display()
                )),
                None => wrong.push(format!("{}: imports {import}, which is no module of the table", inside.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_layer_test_sees_imports() {
    let text = "use crate::{a::{b, c}, d};\nfn f() { crate::e::g() }\n// crate::not_this\n";
    assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), ["a", "d", "e"]);
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

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), "md");
    documents.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut broken = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !document.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
