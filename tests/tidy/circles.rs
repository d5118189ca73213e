//! Modules beside each other import each other in one direction, without a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{files, root};

/// The imports of the modules of one room: the names of those that each imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Adds the paths that a `use` tree names.
fn leaves(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let mut depth = 0;
    let items = tree.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for item in items.map(str::trim).filter(|item| !item.is_empty()) {
        if let Some((front, group)) = item.split_once('{') {
            leaves(&format!("{prefix}{front}"), group.trim_end().trim_end_matches('}'), found);
        } else {
            found.push(format!("{prefix}{item}"));
        }
    }
}

/// Returns every path of modules that a source text names, in imports and elsewhere. The file's own tests do not count.
fn paths(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for statement in code.split(';') {
        let begin = statement.find("use ").filter(|at| statement[..*at].ends_with(['\n', ' ', ')']) || *at == 0);
        if let Some(begin) = begin {
            leaves("", &statement[begin + 4..], &mut found);
        }
    }
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    found.extend(code.split(|c| !is_path(c)).filter(|word| word.contains("::")).map(str::to_owned));
    found
}

/// Returns the module that a path leads to, as seen from the module `from`.
fn resolve(from: &[String], path: &str, modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut parts = path.split("::").filter(|part| !part.is_empty()).peekable();
    let mut module = match *parts.peek()? {
        "crate" => Vec::new(),
        "self" | "super" => from.to_vec(),
        _ => return None,
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(module.pop()),
            part => {
                module.push(part.to_owned());
                if !modules.contains(&module) {
                    module.pop();
                    break;
                }
            }
        }
    }
    Some(module)
}

/// Returns the imports inside of each room, from the sources of all modules.
fn rooms(sources: &BTreeMap<Vec<String>, String>) -> BTreeMap<String, Imports> {
    let modules: BTreeSet<Vec<String>> = sources.keys().cloned().collect();
    let mut rooms: BTreeMap<String, Imports> = BTreeMap::new();
    for (module, text) in sources {
        for target in paths(text).iter().filter_map(|path| resolve(module, path, &modules)) {
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (module.get(common), target.get(common)) {
                let room = rooms.entry(module[..common].join("/")).or_default();
                room.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    rooms
}

/// Returns the modules of a room that import themselves through others.
fn in_circles(imports: &Imports) -> Vec<&String> {
    let reaches_itself = |module: &&String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = imports[*module].iter().collect();
        while let Some(other) = next.pop() {
            if seen.insert(other) {
                next.extend(imports.get(other).into_iter().flatten());
            }
        }
        seen.contains(module)
    };
    imports.keys().filter(reaches_itself).collect()
}

#[test]
fn no_modules_beside_each_other_import_each_other_in_a_circle() {
    let src = root().join("src");
    let mut sources = BTreeMap::new();
    for file in files(&src, "rs") {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let mut module: Vec<String> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        sources.insert(module, fs::read_to_string(&file).unwrap());
    }
    let mut wrong = Vec::new();
    for (room, imports) in rooms(&sources) {
        let found = in_circles(&imports);
        if !found.is_empty() {
            let of = |module: &String| imports[module].iter().filter(|other| found.contains(other)).collect::<Vec<_>>();
            let lines: Vec<String> =
                found.iter().map(|module| format!("  {module} imports {:?}", of(module))).collect();
            wrong.push(format!("src/{room}: {} modules in circles\n{}", found.len(), lines.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "a circle hides a noun that belongs below both\n{}", wrong.join("\n"));
}

#[test]
fn the_circle_test_sees_circles() {
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let sources = [
        ("a", "mod b;\nmod c;\nmod d;\nuse self::b::B;\n"),
        ("a/b", "use super::{\n    c::{C, other as name},\n    E,\n};\n"),
        ("a/c", "pub use std::io;\nfn f() { crate::a::d::g() }\n// super::e\n"),
        ("a/d", "pub(super) use super::b;\n#[cfg(test)]\nmod tests {\n    use super::super::e::E;\n}\n"),
        ("a/e", "use super::d;\n"),
        ("f", "use crate::a::b::B;\n"),
    ];
    let sources = sources.into_iter().map(|(path, text)| (module(path), text.to_owned())).collect();
    let rooms = rooms(&sources);
    assert_eq!(in_circles(&rooms["a"]), ["b", "c", "d"]);
    assert!(in_circles(&rooms[""]).is_empty());
}
