//! A policy file of the right shape.

use std::sync::Arc;

use super::{
    limits::{MAX_FILE, MAX_RULES},
    test::{self, Test},
};
use crate::{
    diagnostics::{self, Entries, Keys, Problem, Problems, Reading, Source, Table, Text, rule},
    oci::Name,
    policy::expression::Scope,
};

/// A policy file of the right shape; its expressions are not read yet.
#[derive(Debug)]
pub(in crate::policy) struct Document {
    pub(in crate::policy) scope: Scope,
    /// The prefixes of its repositories. None: all requests.
    pub(in crate::policy) repositories: Option<Vec<String>>,
    pub(in crate::policy) default: Option<bool>,
    pub(in crate::policy) enforce: bool,
    pub(in crate::policy) rules: Vec<Rule>,
    pub(in crate::policy) tests: Vec<Test>,
}

/// `[[rule]]`
#[derive(Debug)]
pub(in crate::policy) struct Rule {
    pub(in crate::policy) name: String,
    /// True if it denies. A rule of retention keeps.
    pub(in crate::policy) denies: bool,
    pub(in crate::policy) when: Text,
    pub(in crate::policy) message: Option<String>,
}

/// Reads the text of a policy file.
pub(in crate::policy) fn parse(source: &Arc<Source>) -> Result<Document, Problems> {
    let none = Keys::default();
    let reading = Reading::new(std::slice::from_ref(source), &none, true);
    if source.text.len() as u64 > MAX_FILE {
        let says = format!("the file is larger than {MAX_FILE} bytes");
        return Err(Problem::new(source, &(0..1), says, "split it into several policies").into());
    }
    let entries = diagnostics::parse(0, source, &none)?;
    let document = document(&reading, &entries);
    reading.finish().map(|_| document)
}

fn document(reading: &Reading<'_>, entries: &Entries) -> Document {
    const KINDS: &[(&str, Scope)] = &[("access", Scope::Access), ("retention", Scope::Retention)];
    const DEFAULTS: &[(&str, bool)] = &[("deny", false), ("allow", true)];
    let mut root = Table::root(reading, entries);
    root.optional("description", "\"Who may do what, and why\"", &rule::any_text());
    let scope = root.key("kind", "\"access\"", &rule::word(KINDS));
    let prefixes = rule::list("a list of texts", usize::MAX, rule::checked_text("a prefix of names", prefix));
    let repositories = root.optional("repositories", "[\"prod\"]", &prefixes);
    if repositories.as_ref().is_some_and(Vec::is_empty) {
        let help = "name prefixes, or `[\"*\"]` for every repository";
        root.refuse("repositories", "`repositories` is empty: the policy is about nothing", help);
    }
    let default = match scope {
        Scope::Access => root.optional("default", "\"deny\"", &rule::word(DEFAULTS)),
        Scope::Retention => None,
    };
    let enforce = root.key("enforce", "true", &rule::flag());
    let rules = rules(&mut root, scope);
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let tests = test::read(&mut root, scope, &names);
    if root.entry("rule").is_none() && root.entry("default").is_none() {
        let help = "add a `[[rule]]`, or remove the file";
        root.refuse_whole("the policy says nothing: it has no rule and no default", help);
    }
    root.finish();
    Document { scope, repositories, default, enforce, rules, tests }
}

/// Accepts the beginning of a repository's name, or `*`.
fn prefix(text: &str) -> Result<String, (String, String)> {
    match text.parse::<Name>() {
        _ if text == "*" => Ok(text.to_owned()),
        Ok(_) => Ok(text.to_owned()),
        Err(rule) => {
            let short = text.trim_end_matches(['*', '/']);
            let help = match short.parse::<Name>() {
                Ok(_) => format!("write \"{short}\": it covers that name and all below it"),
                Err(_) => "write the beginning of a repository's name, such as \"team\", or \"*\" for every repository"
                    .to_owned(),
            };
            Err((format!("is no prefix, since no repository's name begins like this: {rule}"), help))
        }
    }
}

/// Reads `[[rule]]`.
fn rules(root: &mut Table<'_>, scope: Scope) -> Vec<Rule> {
    const EFFECTS: &[(&str, bool)] = &[("allow", false), ("deny", true)];
    const KEEPS: &[(&str, bool)] = &[("keep", false)];
    let example = match scope {
        Scope::Access => r#"'request.access == "pull"'"#,
        Scope::Retention => r#"'image.tag == "latest"'"#,
    };
    let mut rules: Vec<Rule> = Vec::new();
    let tables = root.list("rule");
    if let Some(over) = tables.get(MAX_RULES) {
        over.refuse_whole(format!("more than {MAX_RULES} rules in one policy"), "split it into several policies");
        return rules;
    }
    for mut table in tables {
        let name = table.required("name", "\"ci-pushes\"", &line(100));
        let denies = match scope {
            Scope::Access => table.required("effect", "\"allow\"", &rule::word(EFFECTS)),
            Scope::Retention => table.key("effect", "\"keep\"", &rule::word(KEEPS)),
        };
        table.required("when", example, &rule::any_text());
        let message = table.optional("message", "\"push to staging first\"", &line(500));
        if !name.is_empty() && rules.iter().any(|rule| rule.name == name) {
            let says = format!("two rules are called \"{name}\": records could not tell them apart");
            table.refuse("name", says, "give one of them another name");
        }
        if let Some(when) = table.text("when") {
            rules.push(Rule { name, denies, when, message });
        }
        table.finish();
    }
    rules
}

/// Accepts text that is shown to people, in one line.
fn line(most: usize) -> rule::Rule<String> {
    let expects = format!("one line of 1 to {most} characters");
    rule::text(&expects, move |text| {
        let fits = !text.trim().is_empty() && !text.chars().any(char::is_control) && text.chars().count() <= most;
        fits.then(|| text.to_owned())
    })
}
