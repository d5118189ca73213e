//! Limits and properties of all retention rules.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use simple_registry::{
    config::Config,
    policy::{Image, Policy},
};

use super::{
    file,
    retention::{ago, built, config, image, now, retain},
    retention_language::{rule, tested},
    told,
};

#[test]
fn tests_of_a_policy_are_bounded() {
    let many = |count: usize| {
        let images: Vec<String> = (0..count).map(|index| format!("{{ tag = \"v{index}\" }}")).collect();
        let keep: Vec<String> = (0..count).map(|index| format!("\"v{index}\"")).collect();
        tested(&format!("images = [{}]\nexpect = {{ keep = [{}] }}", images.join(", "), keep.join(", ")))
    };
    built(&Config::default(), &[file("p.toml", &many(1000))]);
    assert!(told(&many(1001)).contains("more than 1000 images in the tests of one policy"));
}

/// Images of a repository with so many tags.
fn large(count: i64) -> Vec<Image> {
    (0..count).map(|index| image(&format!("main-{index}"), index % 400, index % 300)).collect()
}

/// Rules that take long if they go over all tags for each tag. Each is asked about most images.
const LARGE: [&str; 6] = [
    "top(image.tag, last_pushed, 10)",
    "top(image.tag, last_pulled.filter(x, x.endsWith('77')), 9999999)",
    "top(image.tag + '!', last_pushed.filter(x, x != 'absent'), 9999999)",
    "last_pushed.exists(x, x == 'absent' || x.matches('^absent$'))",
    "image.tag + '!' in last_pulled && image.size > 5",
    "image.last_pulled_at > now() - days(15)",
];

#[test]
fn a_hundred_thousand_tags_are_decided_in_time() {
    let policy = built(&config(&[("a", &LARGE)]), &[]);
    let images = large(100_000);
    let started = Instant::now();
    let decision = policy.retain(&"a".parse().unwrap(), &images, now()).unwrap();
    // what grows with the square of the tags takes minutes, or hours
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    let kept = decision.images.iter().filter(|retained| retained.keep).count();
    assert!((1000..10_000).contains(&kept), "{kept}");
}

/// Words that expressions of retention are made of, and some that they are not.
const WORDS: [&str; 44] = [
    "image.tag",
    "image.size",
    "image.pushed_at",
    "image.last_pulled_at",
    "image.annotations",
    "image.immutable",
    "image",
    "last_pushed",
    "last_pulled",
    "now()",
    "days(",
    "hours(1)",
    "top(",
    "image.tag, last_pushed, 1)",
    "x",
    "true",
    "false",
    "1",
    "0",
    "999999999999999999",
    "'v1'",
    "\"\"",
    "(",
    ")",
    "[",
    "]",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">",
    "+",
    "-",
    "/",
    "?",
    ":",
    ",",
    " in ",
    ".contains(",
    ".exists(x, ",
    ".filter(x, ",
    ".map(x, ",
];

/// Returns a condition about an image `v1` that asks nothing of other images.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..60_i64).prop_map(|days| format!("image.pushed_at > now() - days({days})")),
        (0..60_i64).prop_map(|days| format!("now() - image.last_pulled_at < hours({days} * 24)")),
        Just("image.last_pulled_at > image.pushed_at".to_owned()),
        (-1..4_i64).prop_map(|count| format!("top(image.tag, last_pushed, {count})")),
        (0..4_i64).prop_map(|count| format!("top(image.tag, last_pulled.filter(x, x != 'v2'), {count})")),
        Just("image.tag in last_pulled".to_owned()),
        Just("image.tag == 'v1'".to_owned()),
        Just("image.size > 5".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} && {two})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} || {two})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
            inner.prop_map(|one| format!("!({one})")),
        ]
    })
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of((0..60_i64).prop_map(ago))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_panics_or_takes_long(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..30), spaces in any::<bool>()) {
        let when = words.join(if spaces { " " } else { "" });
        let started = Instant::now();
        if let Ok(policy) = Policy::build(&Config::default(), &[file("p.toml", &rule(&when))]) {
            let unknown = Image { tag: "v0".into(), ..Image::default() };
            retain(&policy, "a", &[image("v1", 1, 1), unknown, image("v2", 3, 3)]);
        }
        prop_assert!(started.elapsed() < Duration::from_secs(5), "{when}");
    }

    #[test]
    fn nothing_goes_that_would_stay_if_more_were_known(when in condition(), pushed in time(), pulled in time(), then_pushed in 0..60_i64, then_pulled in 0..60_i64) {
        let others = [image("v0", 5, 5), image("v2", 10, 1), image("v3", 30, 30)];
        // `true` from a whole is refused where it is constant: that is no matter of what is known
        let built = Policy::build(&config(&[("a", &[&when])]), &[]);
        prop_assume!(built.is_ok());
        let policy = built.unwrap();
        let one = |pushed_at, pulled_at| {
            let this = Image { tag: "v1".into(), pushed_at, last_pulled_at: pulled_at, ..Image::default() };
            let images: Vec<Image> = others.iter().cloned().chain([this]).collect();
            retain(&policy, "a", &images).unwrap().images.pop().unwrap()
        };
        let partly = one(pushed, pulled);
        let fully = one(pushed.or_else(|| Some(ago(then_pushed))), pulled.or_else(|| Some(ago(then_pulled))));
        prop_assert!(fully.why.is_none());
        prop_assert!(partly.keep || !fully.keep, "{when}");
    }
}
