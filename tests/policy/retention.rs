//! Which images stay.

use jiff::{SignedDuration, Timestamp};
use simple_registry::{
    config::{Config, Expression, Repository},
    oci::Name,
    policy::{File, Image, Policy, Retained, RetentionDecision},
};

use super::file;

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn ago(days: i64) -> Option<Timestamp> {
    Some(now() - SignedDuration::from_hours(24 * days))
}

/// An image that was pushed and pulled so many days ago.
fn image(tag: &str, pushed: i64, pulled: i64) -> Image {
    Image { tag: tag.to_owned(), pushed_at: ago(pushed), last_pulled_at: ago(pulled), ..Image::default() }
}

/// A configuration with the retention rules of repositories.
fn config(repositories: &[(&str, &[&str])]) -> Config {
    let rule =
        |text: &&str| Expression { text: (*text).to_owned(), file: "config.toml".to_owned(), line: 1, column: 1 };
    let repository = |(name, rules): &(&str, &[&str])| {
        let retention_rules = rules.iter().map(rule).collect();
        ((*name).to_owned(), Repository { retention_rules, ..Repository::default() })
    };
    Config { repository: repositories.iter().map(repository).collect(), ..Config::default() }
}

fn built(config: &Config, files: &[File]) -> Policy {
    Policy::build(config, files).unwrap_or_else(|errors| panic!("{errors}"))
}

fn retain(policy: &Policy, repository: &str, images: &[Image]) -> Option<RetentionDecision> {
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

/// What one rule makes of the first of some images.
fn asked(rule: &str, images: &[Image]) -> Retained {
    retain(&built(&config(&[("a", &[rule])]), &[]), "a", images).unwrap().images.swap_remove(0)
}

/// The tags that stay.
fn kept(rules: &[&str], images: &[Image]) -> Vec<String> {
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
