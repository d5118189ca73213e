//! Processes with different leases in their configurations.

use std::time::Duration;

use super::{Case, IMAGE, LEASE, Script, case, granted, keeping, manifest, old, r, script, scrub};
use crate::model_check::{actor::Client, cases::BLOB};

const LONG: Duration = LEASE.saturating_mul(4);

/// Runs the same process with another lease.
fn with_lease(lease: Duration, what: &Script) -> Script {
    let what = what.clone();
    script(move |actor: Client| what(actor.with_lease(lease)))
}

/// Pushes a blob, changes the lease, and pushes a manifest that needs the blob.
fn changes(from: Duration, to: Duration) -> Script {
    script(move |actor: Client| async move {
        let actor = actor.with_lease(from);
        if actor.put_blob(&r(), &BLOB).await {
            actor.set_lease(to).await;
            actor.put_manifest(&r(), &IMAGE, None).await;
        }
    })
}

/// Writes bytes with a very old blob link.
async fn granted_long_ago(actor: Client) {
    granted(actor.clone()).await;
    old(&actor);
    old(&actor);
}

pub(super) fn cases() -> Vec<Case> {
    let put = manifest(r(), &IMAGE, None);
    let cases = [
        case("a push with a longer lease than scrub's", granted, vec![with_lease(LONG, &put), scrub()], 2),
        case(
            "a push with a shorter lease than scrub's",
            granted_long_ago,
            vec![put, with_lease(LEASE * 2, &scrub())],
            2,
        ),
        case("a lease that becomes longer beside a scrub", granted, vec![changes(LEASE, LONG), scrub()], 2),
        case("a lease that becomes shorter beside a scrub", granted, vec![changes(LONG, LEASE), scrub()], 2),
    ];
    cases.into_iter().map(|case| keeping(Case { wishes: true, ..case })).collect()
}
