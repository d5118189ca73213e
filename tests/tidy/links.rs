//! Links of the documents lead to files and headings that exist.

use std::{collections::BTreeSet, fs, path::Path};

use super::{documents, root, shown};

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
