//! Decides which repositories a client may list, once for each prefix where the rules allow that.

use std::collections::HashMap;

use super::{
    expression::Values,
    in_force::Policy,
    input::{Input, NAMESPACE, Request},
};
use crate::{
    action::{Action, Page},
    identity::Identity,
    oci::Name,
};

/// The repositories that one client may list.
pub struct Sight<'a> {
    policy: &'a Policy,
    identity: &'a Identity,
    listener: &'static str,
    /// The decision by prefix. `None`: rules look at the name.
    by_prefix: HashMap<&'a str, Option<bool>>,
}

impl<'a> Sight<'a> {
    /// Decides about each prefix that a policy states.
    #[must_use]
    pub fn new(policy: &'a Policy, identity: &'a Identity, listener: &'static str) -> Self {
        let client_ip = identity.client_ip.to_string();
        let mut request = Request { listener: listener.to_owned(), ..Request::default() };
        let by_prefix = policy.index().iter().map(|(prefix, pools)| {
            let decision = pools.constant(false).or_else(|| {
                if pools.ask_for(NAMESPACE) {
                    return None;
                }
                "list-tags".clone_into(&mut request.action);
                "list".clone_into(&mut request.access);
                Some(pools.decide(&Values::new(&Input::of(identity, &client_ip, &request)), false))
            });
            (prefix, decision.map(|decision| decision.allows()))
        });
        Self { policy, identity, listener, by_prefix: by_prefix.collect() }
    }

    /// Returns whether the client may list a repository.
    #[must_use]
    pub fn sees(&self, name: &Name) -> bool {
        let Some((prefix, _)) = self.policy.index().entry(name.as_str()) else { return false };
        self.by_prefix.get(prefix).copied().flatten().unwrap_or_else(|| {
            let list = Action::ListTags { name: name.clone(), page: Page::default() };
            self.policy.authorize(self.identity, list, self.listener).outcome.is_ok()
        })
    }

    /// Returns beginnings of names, in their order. The client sees no repository with another beginning.
    #[must_use]
    pub fn beginnings(&self) -> Vec<&'a str> {
        let seen = self.by_prefix.iter().filter(|(_, decision)| **decision != Some(false));
        let mut beginnings: Vec<&str> = seen.map(|(prefix, _)| if *prefix == "*" { "" } else { *prefix }).collect();
        beginnings.sort_unstable();
        // the first of two has all that the second has
        beginnings.dedup_by(|later, earlier| later.starts_with(*earlier));
        beginnings
    }
}
