//! Retention beside pushes, deletes and itself: a push during a run stays if the rules keep it.

use super::{
    super::{
        actor::{Client, DAYS, RETAINING, UNTAGGING},
        answers::Promise,
        play::{Case, Script},
    },
    GARBAGE, IMAGE, INDEX, OTHER, SIGNATURE, case, delete_manifest, granted, r, script, scrub_under, settled, stays, t,
    tagged, tagger, u,
};
use crate::{
    oci::{Digest, Tag},
    scrub::Pass,
};

const RETENTION: &[Pass] = &[Pass::Retention];
const BOTH: &[Pass] = &[Pass::Retention, Pass::Garbage, Pass::Uploads];

/// Pushes a tagged image, days ago.
async fn long_ago(actor: Client) {
    tagged(actor.clone()).await;
    actor.bucket().clock.advance(DAYS);
}

/// Pushes a tagged index of an untagged image, days ago.
async fn index_long_ago(actor: Client) {
    granted(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, None).await;
    actor.put_manifest(&r(), &INDEX, Some(&t())).await;
    actor.bucket().clock.advance(DAYS);
}

/// Pushes a tagged image with a signature, days ago.
async fn signed_long_ago(actor: Client) {
    tagged(actor.clone()).await;
    actor.put_manifest(&r(), &SIGNATURE, None).await;
    actor.bucket().clock.advance(DAYS);
}

fn retain() -> Script {
    scrub_under(&RETAINING, RETENTION)
}

fn both() -> Script {
    scrub_under(&RETAINING, BOTH)
}

/// Promises that `u` stays. Scrub may remove `t` at any time.
fn only_u(tag: &Tag, digest: Digest) -> Vec<Promise> {
    if *tag == u() { stays(tag, digest) } else { Vec::new() }
}

pub(super) fn cases() -> Vec<Case> {
    let again = || tagger(&IMAGE, &[t], stays);
    let delete_tag = script(|actor| async move {
        actor.delete_tag(&r(), &t()).await;
    });
    let first_t = script(|actor| async move {
        actor.put_tags(&r(), &IMAGE, &[u(), t()], only_u).await;
    });
    let cases = [
        settled(&RETAINING, case("retention beside a push of the same", long_ago, vec![again(), retain()], 1)),
        settled(
            &RETAINING,
            case("retention beside a push of another", long_ago, vec![tagger(&OTHER, &[t], stays), both()], 1),
        ),
        settled(&UNTAGGING, {
            let scrub = scrub_under(&UNTAGGING, RETENTION);
            case("retention beside a push of several tags", granted, vec![first_t, scrub], 0)
        }),
        settled(
            &RETAINING,
            case("retention of one of several tags", long_ago, vec![tagger(&IMAGE, &[t, u], stays), both()], 1),
        ),
        settled(
            &RETAINING,
            case("retention beside another tag", long_ago, vec![tagger(&IMAGE, &[u], stays), retain()], 1),
        ),
        settled(
            &RETAINING,
            case("retention beside deletes", long_ago, vec![delete_tag, delete_manifest(&IMAGE), both()], 1),
        ),
        settled(&RETAINING, {
            let push = tagger(&OTHER, &[u], stays);
            case("retention, a delete and a push", long_ago, vec![push, delete_manifest(&IMAGE), retain()], 1)
        }),
        settled(&RETAINING, case("two retentions beside a push", long_ago, vec![again(), both(), both()], 1)),
        settled(&RETAINING, {
            let garbage = scrub_under(&RETAINING, GARBAGE);
            case("retention and another's garbage beside a push", long_ago, vec![again(), retain(), garbage], 1)
        }),
        settled(
            &RETAINING,
            case("retention of an index beside its push", index_long_ago, vec![tagger(&INDEX, &[t], stays), both()], 1),
        ),
        settled(
            &RETAINING,
            case(
                "retention of an index, its child pushed",
                index_long_ago,
                vec![tagger(&IMAGE, &[u], stays), both()],
                1,
            ),
        ),
        settled(&RETAINING, {
            let sign = tagger(&SIGNATURE, &[u], stays);
            case("retention of a signed image, its signature pushed", signed_long_ago, vec![sign, both()], 1)
        }),
    ];
    cases.into()
}
