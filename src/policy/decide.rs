//! Decides one request by all policies that cover it.

use super::{
    decision::Decision,
    each_tag,
    expression::Values,
    input::{Input, LISTENERS, Request},
    pool::PolicyIndex,
    times::Times,
};
use crate::identity::Facts;

/// Decides a request as it is written down.
pub(super) fn decide(index: &PolicyIndex, identity: &Facts, request: &Request, times: Times<'_>) -> Decision {
    let otherwise = allowed_otherwise(&request.action, &request.listener);
    match index.of(&request.namespace) {
        None => Decision::not_covered(),
        Some(pools) => pools.constant(otherwise).unwrap_or_else(|| {
            each_tag::decide(request, |request| {
                pools.decide(&Values::new(&Input::written(identity, request, times)), otherwise)
            })
        }),
    }
}

/// Returns true if an action is allowed where no rule decides, whatever defaults say.
pub(super) fn allowed_otherwise(action: &str, listener: &str) -> bool {
    match action {
        // The ping tells no more than that this is a registry, and no client goes on without it.
        "get-api-version" => true,
        // An address of their own keeps metrics from others.
        "get-metrics" => listener != LISTENERS[0],
        _ => false,
    }
}
