//! Links of the documents lead to files and headings that exist.

use std::{collections::BTreeSet, fs, path::Path};

use super::{documents, files, quoted, read, root, shown};

/// Returns the anchors of a page, one for each heading, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
        let anchor = kept.replace(' ', "-");
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !found.contains(anchor));
        found.extend(free);
    }
    found
}

/// Says what is wrong with the target of a link, if anything is.
fn fault(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { document.to_owned() } else { document.parent()?.join(path) };
    if !file.exists() {
        return Some(format!("the link leads to no file: {target}"));
    }
    let is_missing =
        || !anchors(&fs::read_to_string(&file).unwrap_or_else(|error| panic!("{target}: {error}"))).contains(anchor);
    (!anchor.is_empty() && is_missing()).then(|| format!("the link leads to no heading: {target}"))
}

#[test]
fn links_between_documents_lead_to_files_and_headings() {
    let mut broken = Vec::new();
    for document in documents().into_iter().chain([root().join("ARCHITECTURE.md")]) {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let line = text[..at].lines().count();
            let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            broken.extend(fault(&document, target).map(|fault| format!("{}:{line}: {fault}", shown(&document))));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn anchors_are_those_of_the_headings() {
    let text = "# One: `two.three`\n```\n# code\n```\n## `[storage.s3]`\n## One twothree\n#hash\n";
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["one-twothree", "one-twothree-1", "storages3"]);
    let page = root().join("docs/README.md");
    assert_eq!(fault(&page, "#no-such-heading").unwrap(), "the link leads to no heading: #no-such-heading");
    assert_eq!(fault(&page, "gone.md").unwrap(), "the link leads to no file: gone.md");
    assert_eq!(fault(&page, "reference/api.md#errors"), None);
}

/// Returns whether a text has the name as a word of its own.
fn has_word(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}

#[test]
fn files_and_functions_that_the_architecture_names_exist() {
    let code: String = files(&root().join("src"), "rs").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let is_function = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let mut wrong = Vec::new();
    for (number, line) in read("ARCHITECTURE.md").lines().enumerate() {
        for name in quoted(line) {
            let file = name.strip_prefix("src/").filter(|path| !path.contains(['{', '*', '<']));
            let function = name.rsplit_once("::").map_or(name.as_str(), |(_, last)| last);
            let is_wrong = match file {
                Some(_) => !root().join(&name).exists(),
                // one word alone may be a word of another language
                None => {
                    is_function(function) && (name.contains("::") || name.contains('_')) && !has_word(&code, function)
                }
            };
            if is_wrong {
                wrong.push(format!("ARCHITECTURE.md:{}: `{name}` does not exist", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
