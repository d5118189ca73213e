//! Decisions about images.

use jiff::{SignedDuration, Timestamp};
use simple_registry::{
    config::{Config, Repository},
    diagnostics::{Source, Text},
    oci::Name,
    policy::{Image, Policy, Retained, RetentionDecision},
};

use super::file;

pub(super) fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub(super) fn ago(days: i64) -> Timestamp {
    now() - SignedDuration::from_hours(24 * days)
}

/// Returns an image that was pushed and pulled so many days ago.
pub(super) fn image(tag: &str, pushed: i64, pulled: i64) -> Image {
    Image { tag: tag.to_owned(), pushed_at: Some(ago(pushed)), last_pulled_at: Some(ago(pulled)), ..Image::default() }
}

/// Returns a configuration with the retention rules of repositories.
pub(super) fn config(repositories: &[(&str, &[&str])]) -> Config {
    let rule = |text: &&str| Text::unwritten("config.toml", text);
    let repository = |(name, rules): &(&str, &[&str])| {
        let retention_rules = rules.iter().map(rule).collect();
        ((*name).to_owned(), Repository { retention_rules: Some(retention_rules), ..Repository::default() })
    };
    Config { repository: repositories.iter().map(repository).collect(), ..Config::default() }
}

pub(super) fn built(config: &Config, files: &[Source]) -> Policy {
    Policy::build(config, files).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn retain(policy: &Policy, repository: &str, images: &[Image]) -> Option<RetentionDecision> {
    let name: Name = repository.parse().unwrap();
    let decision = policy.retain(&name, images, now());
    let explained = policy.explain_retention(&name, images, now());
    assert_eq!(decision.is_some(), explained.is_some());
    if let Some((decision, explained)) = decision.as_ref().zip(explained) {
        assert_eq!(decision.enforced, explained.enforced);
        assert_eq!(decision.images.len(), images.len());
        for (retained, explained) in decision.images.iter().zip(&explained.images) {
            assert_eq!((retained.keep, retained.rule.as_deref()), (explained.keep, explained.rule.as_deref()));
        }
    }
    decision
}

/// Returns the decision of one rule about the first of some images.
pub(super) fn asked(rule: &str, images: &[Image]) -> Retained {
    retain(&built(&config(&[("a", &[rule])]), &[]), "a", images).unwrap().images.swap_remove(0)
}

/// Returns the tags that stay.
pub(super) fn kept(rules: &[&str], images: &[Image]) -> Vec<String> {
    let decision = retain(&built(&config(&[("a", rules)]), &[]), "a/b", images).unwrap();
    let kept = images.iter().zip(&decision.images).filter(|(_, retained)| retained.keep);
    kept.map(|(image, _)| image.tag.clone()).collect()
}

#[test]
fn the_documented_rules_work_as_written() {
    const DOCUMENTED: [&str; 5] = [
        r#"image.tag != "latest""#,
        "image.pushed_at > now() - days(15)",
        "image.last_pulled_at > now() - days(15)",
        "top(image.tag, last_pulled, 10)",
        "top(image.tag, last_pushed, 10)",
    ];
    // each keeps, alone, what it says: the age of an image is its number, and it was pulled half of that ago
    let images: Vec<Image> = (1..=40)
        .map(|age| if age == 12 { image("latest", 12, 6) } else { image(&format!("b{age}"), age, age / 2) })
        .collect();
    let ages = |rule: &str| -> Vec<usize> {
        let kept = kept(&[rule], &images);
        let is_kept = |image: &&Image| kept.contains(&image.tag);
        images.iter().filter(is_kept).map(|kept| images.iter().position(|image| image == kept).unwrap() + 1).collect()
    };
    assert_eq!(ages(DOCUMENTED[0]), (1..=40).filter(|age| *age != 12).collect::<Vec<_>>());
    assert_eq!(ages(DOCUMENTED[1]), (1..15).collect::<Vec<_>>());
    assert_eq!(ages(DOCUMENTED[2]), (1..30).collect::<Vec<_>>());
    // b10 and b11 were pulled at one time: the name decides
    assert_eq!(ages(DOCUMENTED[3]), (1..=10).collect::<Vec<_>>());
    assert_eq!(ages(DOCUMENTED[4]), (1..=10).collect::<Vec<_>>());
    assert_eq!(kept(&DOCUMENTED, &images).len(), 40);
    // an old `latest` that nobody pulls is the one thing that all five let go
    let mut images = images;
    images.push(image("older", 90, 80));
    images[11] = image("latest", 60, 60);
    let gone: Vec<&str> = {
        let kept = kept(&DOCUMENTED, &images);
        images.iter().map(|image| image.tag.as_str()).filter(|tag| !kept.iter().any(|kept| kept == tag)).collect()
    };
    assert_eq!(gone, ["latest"]);
}

/// Writes a policy file from prefixes, `dry` if it is not enforced, and rules by name.
fn written(name: &str, about: &[&str], dry: bool, rules: &[(&str, &str)]) -> Source {
    let mut lines = vec!["kind = \"retention\"".to_owned()];
    if !about.is_empty() {
        lines.push(format!("repositories = {about:?}"));
    }
    if dry {
        lines.push("enforce = false".to_owned());
    }
    lines.extend(rules.iter().map(|(rule, when)| format!("[[rule]]\nname = \"{rule}\"\nwhen = '''{when}'''\n")));
    file(name, &lines.join("\n"))
}

/// Returns the decision about each image, in short: the policy and rule that keep it, `goes`, or why it stays.
fn short(decision: &RetentionDecision) -> Vec<String> {
    let one = |retained: &Retained| match (&retained.by, &retained.rule, &retained.why) {
        (Some(by), Some(rule), None) => format!("{} {rule}", by.policy),
        (Some(by), Some(rule), Some(_)) => format!("{} {rule} failed", by.policy),
        (_, _, Some(why)) => why.clone(),
        _ if retained.keep => panic!("it stays and nobody says why"),
        _ => "goes".to_owned(),
    };
    decision.images.iter().map(one).collect()
}

const A: &str = "image.tag == 'a'";
const B: &str = "image.tag == 'b'";
/// Fails for every image.
const FAILS: &str = "[1][image.size] == 1";

/// The expected decision about the images `a`, `b` and `c`, and whether it is enforced. None: no policy covers the repository.
type Outcome = Option<(bool, [&'static str; 3])>;

/// One row: what is configured, and what is decided in which repository.
struct Row {
    what: &'static str,
    config: Config,
    files: Vec<Source>,
    decided: &'static [(&'static str, Outcome)],
}

fn rows() -> Vec<Row> {
    const TABLE: &str = "[repository.\"x\".retention_policy] rules[0]";
    vec![
        Row {
            what: "nothing covers it",
            config: config(&[("x", &[]), ("y", &[A])]),
            files: vec![written("f.toml", &["z"], false, &[("r", A)])],
            decided: &[("x", None), ("x/z", None), ("w", None), ("zz", None)],
        },
        Row {
            what: "the rules of everything that covers it are one pool",
            config: config(&[("x", &[A])]),
            files: vec![
                written("f.toml", &["x/y", "z"], false, &[("r", B)]),
                written("all.toml", &[], false, &[("r", "image.tag == 'c'")]),
            ],
            decided: &[
                ("x", Some((true, [TABLE, "goes", "all.toml r"]))),
                ("x/y/z", Some((true, [TABLE, "f.toml r", "all.toml r"]))),
                ("elsewhere", Some((true, ["goes", "goes", "all.toml r"]))),
            ],
        },
        Row {
            what: "of tables the longest counts, also where it has no rules",
            config: config(&[("*", &[B]), ("x", &[A]), ("x/y", &[])]),
            files: Vec::new(),
            decided: &[
                ("x", Some((true, [TABLE, "goes", "goes"]))),
                ("x/y/z", None),
                ("w", Some((true, ["goes", "[repository.\"*\".retention_policy] rules[0]", "goes"]))),
            ],
        },
        Row {
            what: "what fails keeps, and what is true is told before it",
            config: config(&[]),
            files: vec![written("f.toml", &["x"], false, &[("broken", FAILS), ("a", A)])],
            decided: &[("x", Some((true, ["f.toml a", "f.toml broken failed", "f.toml broken failed"])))],
        },
        Row {
            what: "what is not enforced only reports where nothing else covers it",
            config: config(&[("x", &[A])]),
            files: vec![written("dry.toml", &["x", "y"], true, &[("b", B), ("broken", FAILS)])],
            decided: &[
                ("x", Some((true, [TABLE, "goes", "goes"]))),
                ("y", Some((false, ["dry.toml broken failed", "dry.toml b", "dry.toml broken failed"]))),
            ],
        },
    ]
}

#[test]
fn policies_come_together_as_the_table_says() {
    let mut images = ["a", "b", "c"].map(|tag| image(tag, 1, 1));
    for image in &mut images {
        image.size = 7;
    }
    for Row { what, config, files, decided } in rows() {
        // the order of files never tells what stays
        let backwards: Vec<Source> = files.iter().rev().cloned().collect();
        for files in [files, backwards] {
            let policy = built(&config, &files);
            for (repository, expected) in decided {
                let decision = retain(&policy, repository, &images);
                let got = decision.as_ref().map(|decision| (decision.enforced, short(decision)));
                let expected = expected.map(|(enforced, images)| (enforced, images.map(str::to_owned).to_vec()));
                assert_eq!(got, expected, "{what}: {repository}");
            }
        }
    }
}

#[test]
fn access_policies_know_nothing_of_retention_and_retention_nothing_of_them() {
    let access = file("a.toml", "repositories = [\"x\"]\ndefault = \"allow\"\n");
    let policy = built(&Config::default(), &[access, written("r.toml", &["x", "y"], false, &[("a", A)])]);
    let request = |namespace: &str| {
        let (action, namespace) = ("get-blob".to_owned(), namespace.to_owned());
        simple_registry::policy::Request { action, namespace, ..Default::default() }.completed()
    };
    let decide =
        |namespace| super::decide_now(&policy, &simple_registry::identity::Facts::default(), &request(namespace));
    assert_eq!((decide("x").effect.as_str(), decide("y").effect.as_str()), ("allow", "not_covered"));
    assert_eq!(retain(&policy, "x", &[image("a", 1, 1)]).unwrap().policies[0].policy, "r.toml");
}

#[test]
fn a_rule_about_an_unknown_time_keeps_and_says_so() {
    let unknown = Image { tag: "v1".into(), ..Image::default() };
    let pushed = Image { pushed_at: Some(ago(40)), ..unknown.clone() };
    // the rule, and what it makes of the two: whether it keeps, and whether because it failed
    for (rule, of_unknown, of_pushed) in [
        ("image.pushed_at > now() - days(15)", "failed", "goes"),
        ("image.last_pulled_at > now() - days(15)", "failed", "failed"),
        ("image.tag == 'v1' || image.pushed_at > now() - days(15)", "kept", "kept"),
        ("image.pushed_at > now() - days(15) || image.tag == 'v1'", "kept", "kept"),
        ("image.tag == 'v2' && image.pushed_at > now() - days(15)", "goes", "goes"),
        ("image.last_pulled_at > now() && image.tag == 'v2'", "goes", "goes"),
        ("image.tag == 'v2' || image.last_pulled_at > now()", "failed", "failed"),
        ("image.tag == 'v1' ? image.size > 1 : image.last_pulled_at > now()", "goes", "goes"),
        ("top(image.tag, last_pushed, 10)", "failed", "kept"),
        ("top(image.tag, last_pulled, 10)", "failed", "failed"),
        ("top(image.tag, last_pulled.filter(x, x != 'z'), 10)", "failed", "failed"),
        ("!top(image.tag, last_pulled, 10)", "failed", "failed"),
        ("image.tag in last_pulled", "failed", "failed"),
        ("last_pulled.contains(image.tag)", "failed", "failed"),
        ("top('v2', last_pulled, 10)", "goes", "goes"),
        ("'v1' in last_pushed", "goes", "kept"),
        ("last_pushed.filter(x, x != 'z').contains('v1')", "goes", "kept"),
        ("'v1' in last_pulled || size(last_pulled) > 0", "goes", "goes"),
    ] {
        for (image, expected) in [(&unknown, of_unknown), (&pushed, of_pushed)] {
            let retained = asked(rule, std::slice::from_ref(image));
            let got = match (retained.keep, &retained.why) {
                (true, Some(_)) => "failed",
                (true, None) => "kept",
                (false, _) => "goes",
            };
            assert_eq!(got, expected, "{rule} of {image:?}");
        }
    }
    let why = |rule: &str| asked(rule, std::slice::from_ref(&unknown)).why.unwrap();
    assert_eq!(
        why("top(image.tag, last_pulled, 10)"),
        "the rule rules[0] failed, and what fails keeps: when the image was last pulled is not known"
    );
    assert!(why("image.pushed_at < now()").ends_with("when the image was pushed is not known"));
    assert!(
        why("last_pushed.exists(x, 1 / size(last_pulled) == 1)  || last_pushed[0] == 'x'").ends_with("no such entry")
    );
    // those with a time push nobody else down or up
    let images = [pushed.clone(), Image { tag: "v0".into(), ..unknown }, image("v2", 1, 1)];
    assert_eq!(kept(&["top(image.tag, last_pushed, 1)"], &images), ["v0", "v2"]);
    assert_eq!(kept(&["top(image.tag, last_pushed, 2)"], &images), ["v1", "v0", "v2"]);
}

#[test]
fn immutable_images_go_only_where_a_rule_names_them() {
    let images = [
        Image { immutable: true, ..image("v1", 90, 90) },
        image("b1", 90, 90),
        Image { immutable: true, ..image("v2", 9, 9) },
    ];
    assert_eq!(kept(&["image.pushed_at > now() - days(30)"], &images), ["v1", "v2"]);
    assert_eq!(kept(&["image.immutable && image.pushed_at > now() - days(30)"], &images), ["v2"]);
    assert_eq!(kept(&["image.tag == 'x' || image.immutable"], &images), ["v1", "v2"]);
    assert_eq!(kept(&["!image.immutable"], &images), ["b1"]);
    // of the pool, whichever rule it is
    assert_eq!(kept(&["image.tag == 'b1'", "image.immutable && image.tag == 'v2'"], &images), ["b1", "v2"]);
    let retained = asked("image.tag == 'x'", &images);
    assert_eq!((retained.keep, retained.rule, retained.by), (true, None, None));
    assert_eq!(retained.why.unwrap(), "its tag is immutable, and no rule names image.immutable");
    assert_eq!(asked("image.tag == 'v1'", &images).rule.as_deref(), Some("rules[0]"), "a rule is told before it");
    // one that does not count says nothing
    let dry = written("dry.toml", &["a"], true, &[("r", "image.immutable && image.tag == 'v2'")]);
    let policy = built(&config(&[("a", &["image.tag == 'b1'"])]), &[dry]);
    assert!(retain(&policy, "a", &images).unwrap().images.iter().all(|retained| retained.keep));
}

#[test]
fn a_decision_is_known_by_the_policies_that_made_it() {
    let one = |rules: &'static [&'static str], text| {
        let policy = built(&config(&[("a", rules)]), &[written("f.toml", &["a"], false, &[("r", text)])]);
        let policies = retain(&policy, "a", &[]).unwrap().policies;
        policies.iter().map(|origin| (origin.policy.clone(), origin.sha256.clone())).collect::<Vec<_>>()
    };
    let (first, again, other, table) = (one(&[A], A), one(&[A], A), one(&[A], B), one(&[B], A));
    assert_eq!(first, again);
    assert_eq!(first[0].0, "[repository.\"a\".retention_policy]");
    assert_eq!(first[1].0, "f.toml");
    assert!(first.iter().all(|(_, sha256)| sha256.len() == 64));
    assert!(first[0].1 == other[0].1 && first[1].1 != other[1].1);
    assert!(first[0].1 != table[0].1 && first[1].1 == table[1].1);
}

#[test]
fn every_rule_is_explained_for_every_image() {
    let dry = written("dry.toml", &["a"], true, &[("old", "image.pushed_at < now() - days(1)")]);
    let policy = built(&config(&[("a", &[A, "top(image.tag, last_pulled, 1)"])]), &[dry]);
    let unknown = Image { tag: "c".into(), ..Image::default() };
    let images = [image("a", 3, 1), image("b", 2, 2), unknown];
    let explained = policy.explain_retention(&"a".parse().unwrap(), &images, now()).unwrap();
    let rules: Vec<_> = explained.rules.iter().map(|rule| (rule.rule.as_str(), rule.enforced, rule.counts)).collect();
    assert_eq!(rules, [("rules[0]", true, true), ("rules[1]", true, true), ("old", false, false)]);
    let outcomes: Vec<Vec<Option<bool>>> =
        explained.images.iter().map(|image| image.outcomes.iter().map(|outcome| outcome.holds).collect()).collect();
    assert_eq!(outcomes[0], [Some(true), Some(true), Some(true)]);
    assert_eq!(outcomes[1], [Some(false), Some(false), Some(true)]);
    assert_eq!(outcomes[2], [Some(false), None, None]);
    let places: Vec<_> = explained.images.iter().map(|image| (image.place_pushed, image.place_pulled)).collect();
    assert_eq!(places, [(Some(2), Some(1)), (Some(1), Some(2)), (None, None)]);
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["images"][0]["pushed_at"], "2026-05-29T00:00:00Z");
    assert_eq!(json["images"][2]["last_pulled_at"], serde_json::Value::Null);
    let text = explained.to_string();
    for line in [
        "dry.toml, rule old, not enforced: does not count",
        "  when image.tag == 'a'",
        "a  stays: [repository.\"a\".retention_policy], rule rules[0]",
        "b  goes: no rule keeps it",
        "c  stays: the rule rules[1] failed",
    ] {
        assert!(text.lines().any(|this| this.starts_with(line)), "{line}:\n{text}");
    }
}

#[test]
fn a_rule_that_keeps_everything_is_told() {
    let policy = built(&config(&[("a", &["true"])]), &[written("all.toml", &[], false, &[("r", "true")])]);
    let warnings = policy.warnings().join("\n");
    for part in
        ["[repository.\"a\".retention_policy]: the rule rules[0] keeps every image", "policies/all.toml: the rule r"]
    {
        assert!(warnings.contains(part), "{warnings}");
    }
    assert!(asked("true", &[Image::default()]).keep);
}
