//! Which images of a repository stay.
//!
//! The rules of everything that covers a repository are one pool. A rule that is true keeps; one that fails keeps, since
//! what is not known must not remove anything; an image that no rule keeps goes. Policies that are not enforced count
//! only where no other covers the repository, and then decide nothing but what is reported.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    decision::Origin,
    expression::{Asked, ImageValues, Tagged},
    image::Image,
    pool::{About, Rule, Unit},
};
use crate::oci::Name;

/// The variable that a rule names to decide about images whose tags are immutable.
const IMMUTABLE: &str = "image.immutable";
/// The variable that a rule names to decide by annotations.
const ANNOTATIONS: &str = "image.annotations";

/// What became of the images of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionDecision {
    /// Of each image, in the order in which they were given.
    pub images: Vec<Retained>,
    /// Whether what does not stay is to go. False: no policy that covers the repository is enforced, and this is what
    /// would be.
    pub enforced: bool,
    /// The policies whose rules decided.
    pub policies: Vec<Arc<Origin>>,
}

/// What became of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Whether it stays.
    pub keep: bool,
    /// The policy whose rule keeps it.
    pub by: Option<Arc<Origin>>,
    /// The rule that keeps it.
    pub rule: Option<Arc<str>>,
    /// Why it stays where no rule is true: the rule failed, and how; or its tag is immutable.
    pub why: Option<String>,
}

impl Retained {
    /// Kept by a rule.
    fn by(rule: &Rule, why: Option<String>) -> Self {
        Self { keep: true, by: Some(Arc::clone(&rule.origin)), rule: Some(Arc::clone(&rule.name)), why }
    }
}

/// The retention policies in force.
#[derive(Debug, Default)]
pub(super) struct Retention {
    units: Vec<Arc<Unit>>,
}

impl Retention {
    pub(super) const fn new(units: Vec<Arc<Unit>>) -> Self {
        Self { units }
    }

    /// Returns the enforced policies that cover a repository which `own` covers too.
    pub(super) fn beside(&self, own: &Unit) -> Vec<&Arc<Unit>> {
        let everywhere = ["*".to_owned()];
        let prefixes: BTreeSet<&String> =
            self.units.iter().flat_map(|unit| unit.prefixes()).chain(&everywhere).collect();
        let mut beside: Vec<&Arc<Unit>> = Vec::new();
        for prefix in prefixes {
            let covering = self.covering(prefix);
            if covering.iter().any(|unit| unit.origin == own.origin) {
                let others = covering.into_iter().filter(|unit| unit.enforced && unit.origin != own.origin);
                for other in others {
                    if !beside.iter().any(|known| Arc::ptr_eq(known, other)) {
                        beside.push(other);
                    }
                }
            }
        }
        beside
    }

    /// The policies with rules that cover a repository.
    pub(super) fn covering(&self, repository: &str) -> Vec<&Arc<Unit>> {
        let is_table = |unit: &&Arc<Unit>| matches!(unit.about, About::Table(_));
        let length = |unit: &&Arc<Unit>| unit.length(repository);
        let table = self.units.iter().filter(is_table).filter(|unit| length(unit).is_some()).max_by_key(length);
        let others = self.units.iter().filter(|unit| !is_table(unit));
        let others = others.filter(|unit| unit.about == About::Everything || length(unit).is_some());
        table.into_iter().chain(others).filter(|unit| !unit.rules.is_empty()).collect()
    }
}

/// The rules that count for a repository.
pub(super) struct Pool<'r> {
    pub(super) enforced: bool,
    pub(super) policies: Vec<Arc<Origin>>,
    rules: Vec<(&'r Rule, Asked<'r>)>,
    /// Whether a rule names what keeps images whose tags are immutable.
    names_immutable: bool,
}

impl<'r> Pool<'r> {
    /// Of the policies that cover a repository; none: none does.
    pub(super) fn new(covering: &[&'r Arc<Unit>], tagged: &'r Tagged) -> Option<Self> {
        let enforced = covering.iter().any(|unit| unit.enforced);
        let counts = || covering.iter().filter(|unit| unit.enforced == enforced);
        let rules: Vec<(&Rule, Asked<'_>)> =
            counts().flat_map(|unit| &unit.rules).map(|rule| (&**rule, Asked::new(&rule.condition, tagged))).collect();
        (!rules.is_empty()).then(|| Self {
            enforced,
            policies: counts().map(|unit| Arc::clone(&unit.origin)).collect(),
            names_immutable: rules.iter().any(|(rule, _)| rule.condition.uses().contains(&IMMUTABLE)),
            rules,
        })
    }

    /// What becomes of an image. What a rule says is better known than that another one failed.
    pub(super) fn decide(&self, image: &Image) -> Retained {
        let values = ImageValues::new(image);
        let mut failed = None;
        for (rule, asked) in &self.rules {
            match asked.holds(&values) {
                Ok(true) => return Retained::by(rule, None),
                Ok(false) => {}
                Err(why) => failed = failed.or(Some((rule, why))),
            }
        }
        if let Some((rule, why)) = failed {
            let says = format!("the rule {} failed, and what fails keeps: {why}", rule.name);
            return Retained::by(rule, Some(says));
        }
        let keep = image.immutable && !self.names_immutable;
        let why = keep.then(|| format!("its tag is immutable, and no rule names {IMMUTABLE}"));
        Retained { keep, by: None, rule: None, why }
    }
}

/// Decides by one policy alone, as if it were enforced, for its tests.
pub(super) fn alone(unit: &Arc<Unit>, images: &[Image], now: Timestamp) -> Vec<Retained> {
    let tagged = Tagged::new(images, now);
    let stays = || Retained { keep: true, by: None, rule: None, why: None };
    let pool = Pool::new(&[unit], &tagged);
    images.iter().map(|image| pool.as_ref().map_or_else(stays, |pool| pool.decide(image))).collect()
}

impl super::Policy {
    /// Returns whether a retention rule that covers the repository names annotations. Scrub does not hold annotations for
    /// other rules, since annotations may be large.
    #[must_use]
    pub fn retention_reads_annotations(&self, repository: &Name) -> bool {
        let mut rules = self.retention.covering(repository.as_str()).into_iter().flat_map(|unit| &unit.rules);
        rules.any(|rule| rule.condition.uses().contains(&ANNOTATIONS))
    }

    /// Which images of a repository stay at the time `now`; `images` are all of its tags. None: no retention rule covers
    /// the repository, and everything stays. The time it takes grows with the images times the rules.
    #[must_use]
    pub fn retain(&self, repository: &Name, images: &[Image], now: Timestamp) -> Option<RetentionDecision> {
        self.retain_some(repository, images, 0..images.len(), now)
    }

    /// Decides as `retain` does, but only about the images at the places `asked`, in that order. Rules do not read the
    /// annotations of the other images.
    #[must_use]
    pub fn retain_some(
        &self,
        repository: &Name,
        images: &[Image],
        asked: impl IntoIterator<Item = usize>,
        now: Timestamp,
    ) -> Option<RetentionDecision> {
        let covering = self.retention.covering(repository.as_str());
        if covering.is_empty() {
            return None;
        }
        let tagged = Tagged::new(images, now);
        let pool = Pool::new(&covering, &tagged)?;
        let retained = asked.into_iter().map(|at| pool.decide(&images[at])).collect();
        Some(RetentionDecision { images: retained, enforced: pool.enforced, policies: pool.policies })
    }
}
