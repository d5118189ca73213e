//! Imports go down the layers of `ARCHITECTURE.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{files, quoted, read, root};

/// Returns the table of layers in `ARCHITECTURE.md`: each module's layer.
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

/// Returns the modules of this crate that a source text names as `crate::module` or in `crate::{...}`.
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
