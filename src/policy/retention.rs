//! Decides which images of a repository stay.
//!
//! The rules of everything that covers a repository are one pool. A rule that is true keeps. A rule that fails keeps
//! too, since an unknown fact must not remove anything. An image that no rule keeps goes. Policies that are not enforced
//! count only if no other covers the repository, and then decide for the report alone.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    decision::Origin,
    expression::{ImageQuery, ImageValues, RepositoryTags},
    image::Image,
    pool::{CompiledPolicy, Coverage, Rule},
};
use crate::oci::Name;

/// The variable that a rule names to decide about images whose tags are immutable.
const IMMUTABLE: &str = "image.immutable";
/// The variable that a rule names to decide by annotations.
const ANNOTATIONS: &str = "image.annotations";

/// The decision about the images of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionDecision {
    /// The decision about each image, in the given order.
    pub images: Vec<Retained>,
    /// True if images that do not stay must go. False: no policy that covers the repository is enforced, and this is what
    /// would be decided.
    pub enforced: bool,
    /// The policies whose rules decided.
    pub policies: Vec<Arc<Origin>>,
}

/// The decision about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// True if it stays.
    pub keep: bool,
    /// The policy whose rule keeps it.
    pub by: Option<Arc<Origin>>,
    /// The rule that keeps it.
    pub rule: Option<Arc<str>>,
    /// The reason if it stays and no rule is true: the rule failed, and how; or its tag is immutable.
    pub why: Option<String>,
}

impl Retained {
    /// Returns that a rule keeps the image.
    fn by(rule: &Rule, why: Option<String>) -> Self {
        Self { keep: true, by: Some(Arc::clone(&rule.origin)), rule: Some(Arc::clone(&rule.name)), why }
    }
}

/// The retention policies in force.
#[derive(Debug, Default)]
pub(super) struct Retention {
    policies: Vec<Arc<CompiledPolicy>>,
}

impl Retention {
    pub(super) const fn new(policies: Vec<Arc<CompiledPolicy>>) -> Self {
        Self { policies }
    }

    /// Returns the enforced policies that cover a repository which `own` covers too.
    pub(super) fn beside(&self, own: &CompiledPolicy) -> Vec<&Arc<CompiledPolicy>> {
        let everywhere = ["*".to_owned()];
        let prefixes: BTreeSet<&String> =
            self.policies.iter().flat_map(|compiled| compiled.prefixes()).chain(&everywhere).collect();
        let mut beside: Vec<&Arc<CompiledPolicy>> = Vec::new();
        for prefix in prefixes {
            let covering = self.covering(prefix);
            if covering.iter().any(|compiled| compiled.origin == own.origin) {
                let others = covering.into_iter().filter(|compiled| compiled.enforced && compiled.origin != own.origin);
                for other in others {
                    if !beside.iter().any(|known| Arc::ptr_eq(known, other)) {
                        beside.push(other);
                    }
                }
            }
        }
        beside
    }

    /// Returns whether a rule that covers a repository names annotations.
    pub(super) fn reads_annotations(&self, repository: &Name) -> bool {
        let mut rules = self.covering(repository.as_str()).into_iter().flat_map(|compiled| &compiled.rules);
        rules.any(|rule| rule.condition.uses().contains(&ANNOTATIONS))
    }

    /// Decides about the images at the places `asked`; `images` are all tags of the repository. None: no rule covers it.
    pub(super) fn retain(
        &self,
        repository: &Name,
        images: &[Image],
        asked: impl IntoIterator<Item = usize>,
        now: Timestamp,
    ) -> Option<RetentionDecision> {
        let covering = self.covering(repository.as_str());
        if covering.is_empty() {
            return None;
        }
        let tagged = RepositoryTags::new(images, now);
        let pool = Pool::new(&covering, &tagged)?;
        let retained = asked.into_iter().map(|at| pool.decide(&images[at])).collect();
        Some(RetentionDecision { images: retained, enforced: pool.enforced, policies: pool.policies })
    }

    /// Returns the policies with rules that cover a repository.
    pub(super) fn covering(&self, repository: &str) -> Vec<&Arc<CompiledPolicy>> {
        let is_table = |compiled: &&Arc<CompiledPolicy>| matches!(compiled.coverage, Coverage::Table(_));
        let length = |compiled: &&Arc<CompiledPolicy>| compiled.length(repository);
        let table =
            self.policies.iter().filter(is_table).filter(|compiled| length(compiled).is_some()).max_by_key(length);
        let others = self.policies.iter().filter(|compiled| !is_table(compiled));
        let others = others.filter(|compiled| compiled.coverage == Coverage::Everything || length(compiled).is_some());
        table.into_iter().chain(others).filter(|compiled| !compiled.rules.is_empty()).collect()
    }
}

/// The rules that count for a repository.
pub(super) struct Pool<'r> {
    pub(super) enforced: bool,
    pub(super) policies: Vec<Arc<Origin>>,
    rules: Vec<(&'r Rule, ImageQuery<'r>)>,
    /// True if a rule names the variable that keeps images whose tags are immutable.
    names_immutable: bool,
}

impl<'r> Pool<'r> {
    /// Joins the policies that cover a repository. None: none does.
    pub(super) fn new(covering: &[&'r Arc<CompiledPolicy>], tagged: &'r RepositoryTags) -> Option<Self> {
        let enforced = covering.iter().any(|compiled| compiled.enforced);
        let counts = || covering.iter().filter(|compiled| compiled.enforced == enforced);
        let rules: Vec<(&Rule, ImageQuery<'_>)> = counts()
            .flat_map(|compiled| &compiled.rules)
            .map(|rule| (&**rule, ImageQuery::new(&rule.condition, tagged)))
            .collect();
        (!rules.is_empty()).then(|| Self {
            enforced,
            policies: counts().map(|compiled| Arc::clone(&compiled.origin)).collect(),
            names_immutable: rules.iter().any(|(rule, _)| rule.condition.uses().contains(&IMMUTABLE)),
            rules,
        })
    }

    /// Decides about an image. A rule that is true counts before one that failed.
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
pub(super) fn alone(compiled: &Arc<CompiledPolicy>, images: &[Image], now: Timestamp) -> Vec<Retained> {
    let tagged = RepositoryTags::new(images, now);
    let stays = || Retained { keep: true, by: None, rule: None, why: None };
    let pool = Pool::new(&[compiled], &tagged);
    images.iter().map(|image| pool.as_ref().map_or_else(stays, |pool| pool.decide(image))).collect()
}
