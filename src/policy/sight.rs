//! Decides which repositories a client may list, once for each prefix where the rules allow that.

use std::collections::HashMap;

use super::{
    expression::Values,
    in_force::Policy,
    input::{Input, NAMESPACE, Request, UPSTREAM},
    times::{Arrival, Now},
};
use crate::{
    action::{Action, Page},
    identity::Identity,
    oci::Name,
};

/// Returns the host of the first upstream of a repository, or an empty text.
pub type UpstreamOf<'a> = Box<dyn Fn(&Name) -> &'a str + Send + Sync + 'a>;

/// The repositories that one client may list.
pub struct Sight<'a> {
    policy: &'a Policy,
    identity: &'a Identity,
    listener: &'static str,
    now: &'a Now,
    upstream_of: UpstreamOf<'a>,
    /// The decision by prefix. `None`: rules look at the name, or at the upstream.
    by_prefix: HashMap<&'a str, Option<bool>>,
}

impl<'a> Sight<'a> {
    /// Decides about each prefix that a policy states.
    #[must_use]
    pub fn new(
        policy: &'a Policy,
        identity: &'a Identity,
        listener: &'static str,
        now: &'a Now,
        upstream_of: UpstreamOf<'a>,
    ) -> Self {
        let client_ip = identity.client_ip.to_string();
        let mut request = Request { listener: listener.to_owned(), ..Request::default() };
        let by_prefix = policy.index().iter().map(|(prefix, pools)| {
            let decision = pools.constant(false).or_else(|| {
                if pools.ask_for(NAMESPACE) || pools.ask_for(UPSTREAM) {
                    return None;
                }
                "list-tags".clone_into(&mut request.action);
                "list".clone_into(&mut request.access);
                let times = request.times(now, None);
                Some(pools.decide(&Values::new(&Input::of(identity, &client_ip, &request, times)), false))
            });
            (prefix, decision.map(|decision| decision.allows()))
        });
        Self { policy, identity, listener, now, upstream_of, by_prefix: by_prefix.collect() }
    }

    /// Returns whether the client may list a repository.
    #[must_use]
    pub fn sees(&self, name: &Name) -> bool {
        let Some((prefix, _)) = self.policy.index().entry(name.as_str()) else { return false };
        self.by_prefix.get(prefix).copied().flatten().unwrap_or_else(|| {
            let list = Action::ListTags { name: name.clone(), page: Page::default() };
            let arrival = Arrival { listener: self.listener, upstream: (self.upstream_of)(name), now: self.now };
            self.policy.authorize(self.identity, list, arrival).outcome.is_ok()
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
