//! The language of retention rules.

use simple_registry::config::Config;
use simple_registry::diagnostics::Source;
use simple_registry::policy::{Image, Policy, run_tests};

use super::{
    file,
    retention::{ago, asked, image, kept},
    told,
};

/// Returns the image that rules are asked about, and others of its repository.
fn images() -> Vec<Image> {
    let first = Image {
        digest: format!("sha256:{}", "ab".repeat(32)),
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        size: 5_000_000_000,
        annotations: std::sync::Arc::new(
            [("team".to_owned(), "storage".to_owned()), ("empty".to_owned(), String::new())].into(),
        ),
        ..image("main-3", 20, 10)
    };
    vec![first, image("main-1", 40, 1), image("main-2", 30, 30), image("v1.0.0", 1, 1), image("latest", 20, 20)]
}

#[test]
fn every_variable_and_function_is_what_the_reference_says() {
    // last_pushed: v1.0.0 (1), latest (20), main-3 (20), main-2 (30), main-1 (40)
    // last_pulled: main-1 (1), v1.0.0 (1), main-3 (10), latest (20), main-2 (30)
    let digest = format!("image.digest == 'sha256:{}'", "ab".repeat(32));
    let yes = [
        digest.as_str(),
        "image.tag == 'main-3'",
        "image.tag in ['main-3', 'x']",
        "image.tag.startsWith('main-') && image.tag.endsWith('3') && image.tag.contains('n-')",
        "image.tag.matches(r'^[a-z]+-[0-9]+$')",
        "size(image.tag) == 6",
        "image.digest.startsWith('sha256:abab')",
        "image.media_type.contains('image.index')",
        "image.size > 4294967296 && image.size / 1000000000 == 5",
        "image.annotations['team'] == 'storage'",
        "image.annotations['absent'] == ''",
        "image.annotations['empty'] == '' && 'empty' in image.annotations && !('absent' in image.annotations)",
        "image.annotations.contains('team') && size(image.annotations) == 2",
        "image.annotations[image.annotations['empty'] + 'team'].startsWith('stor')",
        "!image.immutable && image.immutable == false",
        "image.pushed_at == now() - days(20)",
        "image.last_pulled_at == now() - hours(240) && image.last_pulled_at == now() - minutes(14400)",
        "image.last_pulled_at - image.pushed_at == days(10)",
        "image.last_pulled_at > image.pushed_at && image.pushed_at <= now() && now() == now()",
        "now() - image.pushed_at >= days(19) + hours(24) && -days(1) < minutes(0)",
        "days(1) == hours(24) && hours(1) == minutes(60) && days(-1) < days(0) && days(1 + 1) == hours(48)",
        "image.pushed_at > now() - (image.size > 100 ? days(30) : days(10))",
        "hours(2) + image.pushed_at > image.pushed_at",
        "size(last_pushed) == 5 && last_pulled.size() == 5",
        "last_pushed[0] == 'v1.0.0' && last_pushed[1] == 'latest' && last_pushed[2] == 'main-3' && last_pushed[4] == 'main-1'",
        "last_pulled[0] == 'main-1' && last_pulled[1] == 'v1.0.0' && last_pulled[2] == 'main-3' && last_pulled[4] == 'main-2'",
        "'latest' in last_pushed && last_pulled.contains('v1.0.0') && !('absent' in last_pushed)",
        "image.tag in last_pushed && last_pulled.contains(image.tag)",
        "top(image.tag, last_pushed, 3) && !top(image.tag, last_pushed, 2)",
        "top(image.tag, last_pulled, 3) && !top(image.tag, last_pulled, 2)",
        "top('main-1', last_pulled, 1) && !top('absent', last_pulled, 99)",
        "!top(image.tag, last_pushed, 0) && !top(image.tag, last_pushed, -1) && top(image.tag, last_pushed, 999999999999999999)",
        "top(image.tag, ['x', 'main-3', 'y'], 2) && !top(image.tag, ['x', 'main-3'], 1) && !top(image.tag, [], 9)",
        "top(image.tag, image.tag == 'x' ? ['x'] : ['main-3'], 1)",
        "top(image.tag, last_pushed.filter(x, x.startsWith('main-')), 1)",
        "!top(image.tag, last_pulled.filter(x, x.startsWith('main-')), 1)",
        "top(image.tag, last_pulled.filter(x, x.startsWith('main-')).filter(y, y != 'main-1'), 1)",
        "!top(image.tag, last_pushed.filter(x, x.startsWith('v')), 9)",
        "last_pulled.filter(x, x.startsWith('main-')).filter(x, x != 'main-1')[1] == 'main-2'",
        "last_pushed.filter(x, x != 'latest').all(x, x != 'latest') && !('latest' in last_pushed.filter(x, x != 'latest'))",
        "size(last_pushed.filter(x, x == 'absent')) == 0 && !top('latest', last_pushed.filter(x, x == 'absent'), 9)",
        "last_pushed.exists(x, x == 'latest') && !last_pushed.all(x, x == 'latest')",
        "last_pushed.exists_one(x, x.endsWith('-3')) && size(last_pushed.filter(x, x.startsWith('main-'))) == 3",
        "last_pushed.filter(x, x.startsWith('main-'))[0] == 'main-3'",
        "last_pushed.exists(x, top(x, last_pulled, 1)) && last_pushed.all(x, x in last_pulled)",
        "top(image.tag, size(last_pushed) > 4 ? last_pushed : last_pushed.filter(x, x == 'v'), 3)",
        "['main-', 'v'].exists(x, image.tag.startsWith(x))",
        "['main-3', 'x'].filter(x, x == image.tag) == ['main-3']",
    ];
    for rule in yes {
        let retained = asked(rule, &images());
        assert_eq!((retained.keep, retained.why), (true, None), "{rule}");
        let retained = asked(&format!("!({rule})"), &images());
        assert!(!retained.keep, "!({rule}): {retained:?}");
    }
}

#[test]
fn a_rule_that_fails_at_evaluation_keeps_and_says_how() {
    for (rule, why) in [
        ("last_pushed[5] == 'x'", "a list has no such entry"),
        ("last_pushed[-1] == 'x'", "a list has no such entry"),
        ("last_pushed.filter(x, x == 'absent')[0] == 'x'", "a list has no such entry"),
        ("image.size / 0 == 1", "a division by zero"),
        ("image.pushed_at > now() - days(999999999999999999)", "a number is out of range"),
        ("image.pushed_at > now() - days(image.size)", "a number is out of range"),
        ("image.pushed_at > now() + (days(100000000) + days(100000000))", "a number is out of range"),
        ("last_pushed.all(x, 1 / (size(x) - size(x)) == 1)", "a division by zero"),
        ("size(last_pushed.filter(x, ['a'][size(x)] == 'a')) == 1", "a list has no such entry"),
    ] {
        let retained = asked(rule, &images());
        let says = format!("the rule rules[0] failed, and what fails keeps: {why}");
        assert_eq!((retained.keep, retained.why), (true, Some(says)), "{rule}");
    }
}

#[test]
fn tags_of_one_time_are_in_the_order_of_their_names() {
    let mut images: Vec<Image> = ["d", "b", "a", "c"].map(|tag| image(tag, 5, 5)).to_vec();
    assert_eq!(kept(&["top(image.tag, last_pushed, 2)"], &images), ["b", "a"]);
    assert_eq!(kept(&["top(image.tag, last_pulled, 3)"], &images), ["b", "a", "c"]);
    images[0].pushed_at = Some(ago(4));
    assert_eq!(kept(&["top(image.tag, last_pushed, 2)"], &images), ["d", "a"]);
    // what has no tag is in no list, and never among the first
    images.push(Image { tag: String::new(), ..image("", 1, 1) });
    assert_eq!(kept(&["top(image.tag, last_pushed, 9)"], &images), ["d", "b", "a", "c"]);
}

pub(super) fn rule(when: &str) -> String {
    format!("kind = \"retention\"\n[[rule]]\nname = \"r\"\nwhen = '''{when}'''\n")
}

#[test]
fn rules_that_mean_nothing_are_refused_with_the_next_step() {
    for (when, says) in [
        ("image.tags == 'a'", "did you mean `tag`?"),
        ("request.action == 'get-blob'", "there is no `request`"),
        ("image.pushed_at > 5", "this compares a time with a number"),
        ("image.pushed_at > days(5)", "this compares a time with a duration"),
        ("image.pushed_at > now() - 5", "does not work on a time and a number"),
        ("image.tag", "a rule is true or false, and this is a text"),
        ("last_pushed", "a rule is true or false, and this is a list of tags"),
        ("image.tag == 'a b'", "no tag is called \"a b\""),
        ("image.tag in ['ok', '-no']", "no tag is called \"-no\""),
        ("image.digest == 'sha256:1'", "no image has the digest \"sha256:1\""),
        ("image.annotations.team == 'a'", "has no fields"),
        ("image.annotations[0] == 'a'", "a map of texts has no entries"),
        ("image.annotations == image.annotations", "this compares a map of texts with a map of texts"),
        ("last_pushed == last_pulled", "this compares a list of tags with a list of tags"),
        ("['a'] == last_pushed", "this compares a list of texts with a list of tags"),
        ("[last_pushed] == [last_pushed]", "a list of tags is no entry of another list"),
        ("5 in last_pushed", "a number is never in a list of tags"),
        ("last_pushed['a'] == 'a'", "a list is asked by number"),
        ("top(image.tag, last_pushed)", "write top(image.tag, last_pushed, 10)"),
        ("top(image.size, last_pushed, 1)", "`top` wants a text, a list of texts and a number"),
        ("top(image.tag, last_pushed, days(1))", "`top` wants a text, a list of texts and a number"),
        ("top(image.tag, [1], 1)", "`top` wants a text, a list of texts and a number"),
        ("top(image.tag, image.size > 1 ? last_pushed : last_pulled, 1)", "`?` and `:` lead to"),
        ("now(1) > now()", "`now` is not used like this"),
        ("now() - days('1') > now()", "`days` wants a number, and gets a text"),
        ("last_pushed.exists(x, x == image.tag)", "cannot ask about the image"),
        ("top(image.tag, last_pushed.filter(x, image.immutable), 1)", "cannot ask about the image"),
        ("size(last_pushed.map(x, size(x))) == 1", "a `map` of all tags of the repository"),
        ("top(image.tag, last_pushed.filter(x, x != 'a').map(x, x + 'b'), 1)", "a `map` of all tags of the repository"),
        ("last_pushed.map(x, x == 'a', x + 'b').exists(x, x == 'ab')", "a `map` of all tags of the repository"),
        ("last_pushed.all(x, last_pulled.all(y, x == y))", "a loop inside of a loop"),
        ("false", "the rule r is never true, whatever the image"),
    ] {
        let told = told(&rule(when));
        assert!(
            told.contains(says) && told.contains("policies/p.toml:4:") && told.contains("help: "),
            "{when}:\n{told}"
        );
    }
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_place() {
    let text = "[repository.a]\nretention_policy.rules = [\n  \"image.tag == 'a'\", \"image.pushd_at > now()\",\n]";
    let config = Config::from_sources(&[Source::new("config.toml", text)]).unwrap();
    let told = Policy::build(&config, &[]).unwrap_err().to_string();
    assert!(told.contains("config.toml:3:30") && told.contains("did you mean `pushed_at`?"), "{told}");
    let line = "3 |   \"image.tag == 'a'\", \"image.pushd_at > now()\",\n  |                              ^^^^^^^^";
    assert!(told.contains(line), "{told}");
}

#[test]
fn rules_without_effect_are_refused() {
    const A: &str = "image.tag == \"a\"";
    let policy = |rules: &[&str]| {
        let rules =
            rules.iter().enumerate().map(|(index, when)| format!("[[rule]]\nname = \"r{index}\"\nwhen = '{when}'\n"));
        format!("kind = \"retention\"\n{}", rules.collect::<String>())
    };
    for (rules, says) in [
        (&["true", A][..], "r1 never decides: the rule r0 keeps every image"),
        (&[A, "true"], "r0 never decides: the rule r1 keeps every image"),
        (&["true", "true // all"], "r1 never decides: the rule r0 keeps every image"),
        (&[A, "image.tag==\"a\""], "r1 says the same as the rule r0"),
        (&[A, "false"], "r1 is never true, whatever the image"),
    ] {
        let told = told(&policy(rules));
        assert!(told.contains(says), "{rules:?}:\n{told}");
        assert_eq!(told.matches("error:").count(), 1, "{told}");
    }
}

/// Returns a policy that keeps `v*`, and the newest build, with one test.
pub(super) fn tested(test: &str) -> String {
    format!(
        "kind = \"retention\"\nenforce = false\n[[rule]]\nname = \"versions\"\nwhen = 'image.tag.startsWith(\"v\")'\n\
         [[rule]]\nname = \"newest\"\nwhen = 'top(image.tag, last_pushed, 1)'\n\
         [[rule]]\nname = \"pulled\"\nwhen = 'image.last_pulled_at > now() - days(30)'\n[[test]]\nname = \"t\"\n{test}\n"
    )
}

#[test]
fn tests_of_a_policy_are_run_and_say_what_differs() {
    const IMAGES: &str = "images = [{ tag = \"v1\", pushed_at = 2025-01-01T00:00:00Z }, { tag = \"b1\", pushed_at = 2025-02-01T00:00:00Z }, \
                          { tag = \"b0\", pushed_at = 2025-01-31T00:00:00+01:00 }]\n";
    for (test, says) in [
        (format!("{IMAGES}expect = {{ keep = [\"v1\"] }}"), "the test \"t\" failed: \"b1\" is kept by the rule \"newest\"\n"),
        (
            format!("{IMAGES}expect = {{ keep = [\"b0\", \"b1\"] }}"),
            "the test \"t\" failed: \"v1\" is kept by the rule \"versions\"; \"b0\" is kept by no rule\n",
        ),
        (
            "images = [{ tag = \"b1\" }]\nexpect = { keep = [] }".into(),
            "\"b1\" is kept: the rule newest failed, and what fails keeps: when the image was pushed is not known",
        ),
        (
            "images = [{ tag = \"x\", immutable = true, pushed_at = 2020-01-01T00:00:00Z }, { tag = \"b\", pushed_at = 2020-01-02T00:00:00Z }]\nexpect = { keep = [\"b\"] }".into(),
            "\"x\" is kept: its tag is immutable, and no rule names image.immutable",
        ),
        (format!("{IMAGES}expect = {{ keep = [\"v1\", \"b2\"] }}"), "no image of the test has the tag \"b2\""),
        ("images = [{ tag = \"a\" }, { tag = \"a\" }]\nexpect = { keep = [\"a\"] }".into(), "two images have the tag \"a\""),
        ("images = [{ pushed_at = 2025-01-01T00:00:00Z }]\nexpect = { keep = [] }".into(), "needs `tag`"),
        ("images = [{ tag = \"a\", pushedat = 1 }]\nexpect = { keep = [] }".into(), "did you mean `pushed_at`?"),
        ("images = [{ tag = \"a\", pushed_at = 2025-01-01 }]\nexpect = { keep = [] }".into(), "pushed_at` must be a date and time with its offset"),
        ("images = [{ tag = \"a\", pushed_at = \"2025-01-01T00:00:00Z\" }]\nexpect = { keep = [] }".into(), "without quotes"),
        ("images = [{ tag = \"a\", size = -1 }]\nexpect = { keep = [] }".into(), "size` must be a number of bytes"),
        ("images = [{ tag = \"a\", annotations = { a = 1 } }]\nexpect = { keep = [] }".into(), "annotations` must be a table of texts"),
        ("images = [{ tag = \"a\", immutable = 1 }]\nexpect = { keep = [] }".into(), "immutable` must be true or false"),
        ("now = 5\nimages = []\nexpect = { keep = [] }".into(), "now` must be a date and time"),
        ("expect = { keep = [] }".into(), "needs `images`"),
        ("images = [{ tag = \"a\" }]".into(), "needs `expect`"),
        ("images = [{ tag = \"a\" }]\nexpect = { decision = \"allow\" }".into(), "needs `keep`"),
    ] {
        let told = told(&tested(&test));
        assert!(told.contains(says), "{test}:\n{told}");
    }
    let passes = |test: &str| {
        let outcomes = run_tests(&Config::default(), &[file("p.toml", &tested(test))])
            .unwrap_or_else(|errors| panic!("{errors}"))
            .outcomes;
        assert_eq!(outcomes.len(), 1);
        outcomes[0].failure.is_none()
    };
    assert!(passes(&format!("{IMAGES}expect = {{ keep = [\"v1\", \"b1\"] }}")));
    assert!(passes("images = []\nexpect = { keep = [] }"));
    // where no time is stated, it is the beginning of 2026; who was never pulled was when it was pushed
    let at = |now: &str, pushed: &str, kept: &str| {
        passes(&format!(
            "{now}\nimages = [{{ tag = \"n\", pushed_at = 2026-03-01T00:00:00Z, last_pulled_at = 1999-01-01T00:00:00Z }}, {{ tag = \"b\", pushed_at = {pushed} }}]\nexpect = {{ keep = [{kept}] }}"
        ))
    };
    assert!(at("", "2025-12-02T00:00:00.000001Z", "\"n\", \"b\""));
    assert!(at("", "2025-12-02T00:00:00Z", "\"n\""));
    assert!(at("now = 2026-01-01T00:00:01Z", "2025-12-02T00:00:00.000001Z", "\"n\""));
    assert!(!passes("images = [{ tag = \"b\", pushed_at = 2020-01-01T00:00:00Z }]\nexpect = { keep = [] }"));
}
