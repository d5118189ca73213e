//! Explains the decision about the images of a repository, rule by rule.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{
    expression::{ImageQuery, ImageValues, RepositoryTags},
    image::Image,
    retention::{Pool, Retention},
};
use crate::oci::Name;

/// The reasons why images of a repository stay or go.
#[derive(Clone, Debug, Serialize)]
pub struct RetentionExplanation {
    /// True if images that do not stay must go.
    pub enforced: bool,
    /// Every rule of every policy that covers the repository.
    pub rules: Vec<RetentionRule>,
    /// The reasons of each image, in the given order. Others may be added.
    pub images: Vec<ImageExplanation>,
}

/// A rule that covers the repository.
#[derive(Clone, Debug, Serialize)]
pub struct RetentionRule {
    /// Its policy.
    pub policy: String,
    /// The SHA-256 in hex of its policy, as in [`super::Origin`].
    pub sha256: String,
    /// Its name.
    pub rule: String,
    /// True if its policy is enforced.
    pub enforced: bool,
    /// True if it decides. A policy that is not enforced decides only if no other covers the repository.
    pub counts: bool,
    /// The condition, as it is written.
    pub when: String,
}

/// The reasons why one image stays or goes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImageExplanation {
    /// Its tag.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: String,
    /// True if it stays.
    pub keep: bool,
    /// True if rules judge it. Otherwise no rule was asked.
    pub judged: bool,
    /// The policy whose rule keeps it.
    pub policy: Option<String>,
    /// The rule that keeps it.
    pub rule: Option<String>,
    /// The reason if it stays and no rule is true, or if it is not judged.
    pub why: Option<String>,
    /// The reason if it goes, but not with the next run.
    pub later: Option<String>,
    /// The time of its last push, if that is known.
    #[serde(serialize_with = "as_text")]
    pub pushed_at: Option<Timestamp>,
    /// The time of its last pull, or of its push if it was never pulled, if that is known.
    #[serde(serialize_with = "as_text")]
    pub last_pulled_at: Option<Timestamp>,
    /// True if its tag is immutable.
    pub immutable: bool,
    /// Its place in `last_pushed`, from 1.
    pub place_pushed: Option<usize>,
    /// Its place in `last_pulled`, from 1.
    pub place_pulled: Option<usize>,
    /// The outcome of each rule, in the order of [`RetentionExplanation::rules`].
    pub outcomes: Vec<RuleOutcome>,
}

impl ImageExplanation {
    /// Explains a tag that rules do not judge.
    #[must_use]
    pub fn not_judged(tag: String, digest: String, keep: bool, why: String) -> Self {
        Self { tag, digest, keep, why: Some(why), ..Self::default() }
    }
}

/// The outcome of one rule for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuleOutcome {
    /// The value of the condition. None: the rule failed, which keeps.
    pub holds: Option<bool>,
    /// The reason of the failure.
    pub failure: Option<&'static str>,
}

#[allow(clippy::ref_option, reason = "serde gives it so")]
fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

impl RetentionExplanation {
    /// Explains the images of a repository; `images` are all of its tags. None: no retention rule covers the repository.
    pub(super) fn new(retention: &Retention, repository: &Name, images: &[Image], now: Timestamp) -> Option<Self> {
        let covering = retention.covering(repository.as_str());
        let tagged = RepositoryTags::new(images, now);
        let pool = Pool::new(&covering, &tagged)?;
        let rules: Vec<_> =
            covering.iter().flat_map(|compiled| compiled.rules.iter().map(move |rule| (compiled, rule))).collect();
        let asked: Vec<ImageQuery<'_>> =
            rules.iter().map(|(_, rule)| ImageQuery::new(&rule.condition, &tagged)).collect();
        let explained = images.iter().map(|image| {
            let retained = pool.decide(image);
            let values = ImageValues::new(image);
            let (pushed, pulled) = tagged.places(&image.tag);
            let outcomes = asked.iter().map(|asked| {
                let held = asked.holds(&values);
                RuleOutcome { holds: held.ok(), failure: held.err() }
            });
            ImageExplanation {
                tag: image.tag.clone(),
                digest: image.digest.clone(),
                keep: retained.keep,
                judged: true,
                policy: retained.by.map(|by| by.policy.clone()),
                rule: retained.rule.map(|rule| rule.to_string()),
                why: retained.why,
                later: None,
                pushed_at: image.pushed_at,
                last_pulled_at: image.last_pulled_at,
                immutable: image.immutable,
                place_pushed: pushed.map(|place| place + 1),
                place_pulled: pulled.map(|place| place + 1),
                outcomes: outcomes.collect(),
            }
        });
        let images = explained.collect();
        let rules = rules.iter().map(|(compiled, rule)| RetentionRule {
            policy: compiled.origin.policy.clone(),
            sha256: compiled.origin.sha256.clone(),
            rule: rule.name.to_string(),
            enforced: compiled.enforced,
            counts: compiled.enforced == pool.enforced,
            when: rule.text.clone(),
        });
        Some(Self { enforced: pool.enforced, rules: rules.collect(), images })
    }
}

impl fmt::Display for RetentionExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let counts = match (rule.counts, rule.enforced) {
                (true, true) => "",
                (true, false) => ", not enforced: nothing goes, and this is what would",
                (false, _) => ", not enforced: does not count",
            };
            writeln!(f, "{}, rule {}{counts}", rule.policy, rule.rule)?;
            for (index, line) in rule.when.trim().lines().enumerate() {
                writeln!(f, "  {} {}", if index == 0 { "when" } else { "    " }, line.trim())?;
            }
        }
        let widest = self.images.iter().map(|image| image.tag.chars().count()).max().unwrap_or_default();
        for image in &self.images {
            let effect = match (image.judged, image.keep, self.enforced) {
                (false, ..) => "not judged",
                (true, true, _) => "stays",
                (true, false, true) => "goes",
                (true, false, false) => "would go",
            };
            let why = match (&image.why, &image.policy, &image.rule) {
                (Some(why), ..) => why.clone(),
                (None, Some(policy), Some(rule)) => format!("{policy}, rule {rule}"),
                _ => "no rule keeps it".to_owned(),
            };
            let later = image.later.iter().map(|later| format!("; {later}"));
            writeln!(f, "{:widest$}  {effect}: {why}{}", image.tag, later.collect::<String>())?;
        }
        Ok(())
    }
}
