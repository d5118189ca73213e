use super::*;
use crate::{
    config::{AccessPolicy, Repository},
    policy::Effect,
};

fn config(general: Option<bool>, repositories: &[(&str, Option<bool>)]) -> Config {
    let table = |default_allow| AccessPolicy { default_allow, rules: Vec::new() };
    let repository = |(name, default): &(&str, Option<bool>)| {
        ((*name).to_owned(), Repository { access_policy: Some(table(*default)), ..Repository::default() })
    };
    Config {
        access_policy: table(general),
        repository: repositories.iter().map(repository).collect(),
        ..Config::default()
    }
}

fn arrival(now: &Now) -> Arrival<'_> {
    Arrival { listener: "main", upstream: "", now }
}

fn authorize(policy: &Policy, path: &str) -> Effect {
    let identity = Identity::anonymous([127, 0, 0, 1].into());
    let verdict = policy.authorize(&identity, Action::parse("GET", path, None).unwrap(), arrival(&Now::default()));
    assert_eq!(verdict.decision.allows(), verdict.outcome.is_ok());
    verdict.decision.effect
}

#[test]
fn the_longest_prefix_of_whole_components_decides() {
    let config = config(None, &[("prod", Some(false)), ("prod/open", Some(true)), ("team", Some(true))]);
    let policy = Policy::build(&config, &[]).unwrap();
    assert_eq!(authorize(&policy, "/v2/prod/open/app/tags/list"), Effect::Allow);
    assert_eq!(authorize(&policy, "/v2/prod/app/tags/list"), Effect::Deny);
    assert_eq!(authorize(&policy, "/v2/teams/app/tags/list"), Effect::NotCovered);
    assert_eq!(policy.open_to_everyone().collect::<Vec<_>>(), ["prod/open", "team"]);
}

#[test]
fn nothing_is_allowed_that_is_not_said() {
    let policy = Policy::build(&config(None, &[("*", None)]), &[]).unwrap();
    assert_eq!(authorize(&policy, "/v2/a/tags/list"), Effect::Deny);
    assert_eq!(authorize(&policy, "/v2/_catalog"), Effect::Deny);
    assert_eq!(authorize(&policy, "/v2/"), Effect::Allow);
    assert_eq!(policy.open_to_everyone().count(), 0);
}

#[test]
fn a_permit_is_for_the_action_that_was_asked() {
    let policy = Policy::build(&config(Some(true), &[("*", Some(true))]), &[]).unwrap();
    let action = Action::parse("GET", "/v2/a/tags/list", None).unwrap();
    let identity = Identity::anonymous([127, 0, 0, 1].into());
    let permit = policy.authorize(&identity, action.clone(), arrival(&Now::default())).outcome.unwrap();
    assert_eq!(*permit.action(), action);
    assert_eq!(permit.into_action(), action);
}
