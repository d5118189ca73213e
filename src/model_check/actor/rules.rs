//! Configurations and policies of scrubs and servers beyond the common ones.

use std::{sync::LazyLock, time::Duration};

use super::{CONFIG, KEEPING, LEASE};
use crate::{
    config::{Config, ImmutableTags, Repository},
    diagnostics::Text,
    policy::Policy,
};

/// A configuration with its policy.
pub(in crate::model_check) struct Rules {
    pub(super) config: Config,
    pub(super) policy: Policy,
}

impl Rules {
    fn new(config: Config) -> Self {
        let policy = Policy::build(&config, &[]).expect("these rules are right");
        Self { config, policy }
    }

    fn of(mut config: Config, rules: &[&str], immutable_tags: ImmutableTags) -> Self {
        let rule = |text: &&str| Text::unwritten("rules", text);
        let retention_rules = rules.iter().map(rule).collect();
        let repository = Repository {
            retention_rules: Some(retention_rules),
            immutable_tags: Some(immutable_tags),
            ..Repository::default()
        };
        config.repository = [("r".to_owned(), repository)].into();
        Self::new(config)
    }
}

/// Keeps tags that were pushed within a day, and `u`. Keeps untagged manifests.
pub(in crate::model_check) static RETAINING: LazyLock<Rules> = LazyLock::new(|| {
    let rules = ["image.pushed_at > now() - days(1)", "image.tag == \"u\""];
    Rules::of(KEEPING.clone(), &rules, ImmutableTags::None)
});

/// Keeps only `u`. Keeps untagged manifests.
pub(in crate::model_check) static UNTAGGING: LazyLock<Rules> =
    LazyLock::new(|| Rules::of(KEEPING.clone(), &["image.tag == \"u\""], ImmutableTags::None));

/// Makes tags immutable, and removes those that are older than a day.
pub(in crate::model_check) static IMMUTABLE: LazyLock<Rules> = LazyLock::new(|| {
    let rules = ["image.immutable && image.pushed_at > now() - days(1)"];
    Rules::of(KEEPING.clone(), &rules, ImmutableTags::All)
});

/// Keeps untagged manifests, and has no trash time beyond the lease.
pub(in crate::model_check) static PLAIN: LazyLock<Rules> = LazyLock::new(|| Rules::new(KEEPING.clone()));

/// Removes untagged manifests that nothing needs.
pub(in crate::model_check) static DELETING: LazyLock<Rules> = LazyLock::new(|| Rules::new(CONFIG.clone()));

/// Has a trash time of three leases.
pub(in crate::model_check) static TRASHING: LazyLock<Rules> = LazyLock::new(|| {
    let mut config = KEEPING.clone();
    config.scrub.trash = LEASE * 3;
    Rules::new(config)
});

/// A time longer than a day.
pub(in crate::model_check) const DAYS: Duration = Duration::from_hours(72);
