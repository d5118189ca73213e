//! Policy files: what is said about wrong ones, their tests, and the examples.

use std::{fs, path::Path};

use simple_registry::{
    config::Config,
    diagnostics::Source,
    policy::{Policy, read_dir, run_tests},
};

use super::{file, told};

const A: &str = "identity.username == \"a\"";
const RULE: &str = "[[rule]]\nname = \"r\"\neffect = \"allow\"\nwhen = 'request.access == \"pull\"'\n";

#[test]
fn a_mistake_is_shown_with_its_place() {
    let text = "repositories = [\"prod\"]\n\n[[rule]]\nname   = \"ci\"\neffect = \"allow\"\nwhen   = \"identity.usrname == \\\"ci\\\"\"\n";
    assert_eq!(
        told(text),
        "error: `identity` has no `usrname`\n \
         --> policies/p.toml:6:20\n  \
         |\n\
         6 | when   = \"identity.usrname == \\\"ci\\\"\"\n  \
         |                    ^^^^^^^\n\
         help: did you mean `username`?"
    );
}

#[test]
fn places_in_long_expressions_are_their_own_lines() {
    let text = "repositories = [\"prod\"]\n[[rule]]\nname = \"ci\"\neffect = \"allow\"\nwhen = '''\nrequest.access == \"push\"\n  && identity.grups.contains(\"ci\")\n'''\n";
    let told = told(text);
    assert!(told.contains("p.toml:7:15"), "{told}");
    assert!(told.contains("7 |   && identity.grups.contains"), "{told}");
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_place() {
    let text = "[repository.a.access_policy]\ndefault_allow = true\nrules = [\n  \"identity.usrname == \\\"a\\\"\", # who\n]\n";
    let config = Config::from_sources(&[Source::new("config.toml", text)]).unwrap();
    assert_eq!(
        Policy::build(&config, &[]).unwrap_err().to_string(),
        "error: `identity` has no `usrname`\n \
         --> config.toml:4:13\n  \
         |\n\
         4 |   \"identity.usrname == \\\"a\\\"\", # who\n  \
         |             ^^^^^^^\n\
         help: did you mean `username`?"
    );
}

#[test]
fn wrong_files_are_refused_with_the_next_step() {
    // what is in the file, a part of what is said
    for (text, says) in [
        ("repositries = [\"a\"]\ndefault = \"deny\"", "did you mean `repositories`?"),
        ("repositories = []\ndefault = \"deny\"", "the policy is about nothing"),
        ("repositories = [\"prod/*\"]\ndefault = \"deny\"", "write \"prod\": it covers that name and all below it"),
        ("repositories = [\"Prod\"]\ndefault = \"deny\"", "no repository's name begins like this"),
        ("repositories = \"prod\"\ndefault = \"deny\"", "must be a list of texts"),
        ("repositories = [\"a\"]", "says nothing"),
        ("kind = \"acess\"\ndefault = \"deny\"", "did you mean \"access\"?"),
        ("default = \"refuse\"", "must be \"deny\" or \"allow\""),
        ("default = true", "must be \"deny\" or \"allow\"; this is a boolean"),
        ("default = \"deny\"\nenforce = \"no\"", "must be true or false"),
        ("rule = 1", "must be a list of tables"),
        ("[[rule]]\neffect = \"allow\"\nwhen = 'true'", "needs `name`"),
        ("[[rule]]\nname = \"a\"\nwhen = 'true'", "needs `effect`"),
        ("[[rule]]\nname = \"a\"\neffect = \"allow\"", "needs `when`"),
        ("[[rule]]\nname = \"\"\neffect = \"allow\"\nwhen = 'true'", "one line of 1 to 100 characters"),
        ("[[rule]]\nname = \"a\"\nefect = \"allow\"\nwhen = 'true'", "did you mean `effect`?"),
        ("[[rule]]\nname = \"a\"\neffect = \"alow\"\nwhen = 'true'", "did you mean \"allow\"?"),
        ("a = ", "not valid TOML"),
        ("default = \"deny\"\ndefault = \"allow\"", "`default` is given twice in one file, first in line 1"),
        ("kind = \"retention\"\ndefault = \"deny\"", "`default` is not a known key"),
        ("kind = \"retention\"\n[[rule]]\nname = \"a\"\nwhen = 'identity.username == \"a\"'", "there is no `identity`"),
        (
            "kind = \"retention\"\n[[rule]]\nname = \"a\"\nwhen = 'image.tag == \"a\"'\n[[test]]\nname = \"t\"\nimages = [{ tag = \"v1\" }]\nexpect = { keep = [\"v2\"] }",
            "no image of the test has the tag",
        ),
    ] {
        let told = told(text);
        assert!(told.contains(says), "{text}:\n{told}");
        assert!(told.contains("policies/p.toml:") && told.contains("help: "), "{told}");
    }
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_lines() {
    let text = format!("descripton = \"x\"\n{RULE}{RULE}[[rule]]\nname = \"s\"\neffect = \"deny\"\n");
    let told = told(&text);
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("-->")).collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(told.contains("two rules are called \"r\""), "{told}");
}

#[test]
fn rules_without_effect_are_refused() {
    let policy = |rules: &[(&str, &str)]| {
        let rules = rules.iter().enumerate().map(|(index, (effect, when))| {
            format!("[[rule]]\nname = \"r{index}\"\neffect = \"{effect}\"\nwhen = '{when}'\n")
        });
        format!("repositories = [\"prod\"]\n{}", rules.collect::<String>())
    };
    for (rules, says) in [
        (&[("allow", "false")][..], "the rule r0 is never true"),
        (&[("allow", A), ("allow", "identity.username==\"a\"")], "r1 says the same as the rule r0"),
        (&[("deny", A), ("deny", A)], "r1 says the same as the rule r0"),
        (&[("allow", A), ("deny", A)], "r0 never decides: the rule r1 denies under the same condition"),
        (&[("deny", "true"), ("deny", A)], "r1 never decides: the rule r0 denies every request"),
        (&[("allow", A), ("deny", "true")], "r0 never decides: the rule r1 denies every request"),
        (&[("allow", "true"), ("allow", A)], "r1 never decides: the rule r0 allows every request"),
    ] {
        let told = told(&policy(rules));
        assert!(told.contains(says), "{rules:?}:\n{told}");
    }
    for rules in [
        &[("allow", A), ("allow", "true")][..],
        &[("allow", "true"), ("deny", A)],
        &[("deny", A), ("deny", "true")],
        &[("allow", "request.access == \"pull\"")],
    ] {
        let text = policy(rules);
        assert!(Policy::build(&Config::default(), &[file("p.toml", &text)]).is_ok(), "{text}");
    }
}

#[test]
fn a_test_that_fails_says_what_was_decided_instead() {
    let test = |test: &str| format!("repositories = [\"a\"]\n{RULE}\n[[test]]\nname = \"t\"\n{test}\n");
    for (text, says) in [
        (
            "request = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"deny\" }",
            "expected deny, and got allow by the rule \"r\"",
        ),
        (
            "request = { action = \"start-upload\", namespace = \"a\" }\nexpect = { decision = \"allow\" }",
            "expected allow, and got deny by default",
        ),
        (
            "request = { action = \"start-upload\", namespace = \"a\" }\nexpect = { decision = \"deny\", rule = \"r\" }",
            "expected deny by the rule \"r\", and got deny by default",
        ),
        (
            "request = { action = \"get-blob\", namespace = \"b\" }\nexpect = { decision = \"allow\" }",
            "got not_covered, since the policy does not cover the repository",
        ),
        (
            "identity = { username = \"o'hara\" }\nrequest = { action = \"get-upload\", namespace = \"a\", upload_owner = \"ana b\", listener = \"side\" }\nexpect = { decision = \"allow\" }",
            r#"explain --as '{"username":"o'\''hara"}' --action get-upload --namespace a --upload-owner 'ana b' --listener side"#,
        ),
        (
            "request = { action = \"get-blob\", namespace = \"b\", digest = \"sha256:0\" }\nexpect = { decision = \"allow\" }",
            "explain --as anonymous --action get-blob --namespace b --digest sha256:0",
        ),
        (
            "request = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"allow\", rule = \"s\" }",
            "the policy has no rule \"s\"",
        ),
        (
            "request = { action = \"get-blbo\", namespace = \"a\" }\nexpect = { decision = \"allow\" }",
            "did you mean \"get-blob\"?",
        ),
        ("request = { action = \"get-blob\" }\nexpect = { decision = \"allow\" }", "get-blob is about a repository"),
        (
            "request = { action = \"get-blob\", namespace = \"a\", acces = \"pull\" }\nexpect = { decision = \"allow\" }",
            "did you mean `access`?",
        ),
        (
            "request = { action = \"get-blob\", namespace = \"a\", access = \"push\" }\nexpect = { decision = \"allow\" }",
            "the access of get-blob is \"pull\"",
        ),
        (
            "identity = { grops = [\"a\"] }\nrequest = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"allow\" }",
            "did you mean `groups`?",
        ),
        (
            "identity = { certificate = { organizations = \"ci\" } }\nrequest = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"allow\" }",
            "must be a list of texts",
        ),
        ("request = { action = \"get-blob\", namespace = \"a\" }", "needs `expect`"),
        ("expect = { decision = \"deny\" }", "needs `request`"),
        (
            "request = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"would_deny\" }",
            "must be \"allow\", \"deny\" or \"not_covered\"",
        ),
    ] {
        let told = told(&test(text));
        assert!(told.contains(says), "{text}:\n{told}");
    }
    let good =
        "request = { action = \"get-blob\", namespace = \"a\" }\nexpect = { decision = \"allow\", rule = \"r\" }";
    let outcomes = run_tests(&Config::default(), &[file("p.toml", &test(good))]).unwrap().outcomes;
    assert_eq!((outcomes.len(), outcomes[0].name.as_str(), &outcomes[0].failure), (1, "t", &None));
}

#[test]
fn the_tests_of_a_policy_about_everything_may_name_any_repository() {
    let text = format!(
        "{RULE}[[test]]\nname = \"t\"\nrequest = {{ action = \"get-blob\", namespace = \"any/where\" }}\nexpect = {{ decision = \"allow\" }}\n"
    );
    assert!(Policy::build(&Config::default(), &[file("p.toml", &text)]).is_ok());
}

#[test]
fn only_the_policies_of_a_directory_itself_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.toml", "a.toml", ".hidden.toml", "c.toml~", "notes.md"] {
        fs::write(dir.path().join(name), "default = \"deny\"\n").unwrap();
    }
    fs::create_dir_all(dir.path().join("more.toml")).unwrap();
    fs::write(dir.path().join("more.toml/d.toml"), "").unwrap();
    let names: Vec<String> = read_dir(dir.path()).unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["a.toml", "b.toml"].map(|name| dir.path().join(name).display().to_string()));
    assert!(read_dir(&dir.path().join("absent")).is_err(), "what is not there is no empty directory");
    fs::write(dir.path().join("a.toml"), [0xff, 0xfe]).unwrap();
    assert!(read_dir(dir.path()).unwrap_err().to_string().contains("is not UTF-8"));
    fs::write(dir.path().join("a.toml"), " ".repeat(300_000)).unwrap();
    assert!(read_dir(dir.path()).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn the_examples_are_valid_alone_and_together_and_each_has_tests() {
    let files = read_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples")).unwrap();
    assert!(files.len() >= 8);
    for file in &files {
        let policy = Policy::build(&Config::default(), std::slice::from_ref(file));
        let policy = policy.unwrap_or_else(|errors| panic!("{errors}"));
        assert!(
            run_tests(&Config::default(), std::slice::from_ref(file)).unwrap().outcomes.len() >= 2,
            "{}",
            file.name
        );
        assert_eq!(policy.warnings(), [""; 0], "{}", file.name);
    }
    let all = Policy::build(&Config::default(), &files).unwrap();
    assert_eq!(all.open_to_everyone().count(), 0);
}
