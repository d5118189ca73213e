//! Parts of cases that check more than the promises of every push.

use std::sync::LazyLock;

use bytes::Bytes;

use super::{
    super::{
        actor::Rules,
        answers::Promise,
        play::{Case, Script},
    },
    BLOB, keeping, old, r, script,
};
use crate::{
    oci::{Digest, Tag},
    scrub::Pass,
};

pub(super) fn scrub_under(rules: &'static LazyLock<Rules>, passes: &'static [Pass]) -> Script {
    script(move |actor| async move { actor.scrub_under(rules, passes).await })
}

/// Pushes a blob, and a manifest that needs it under several tags in one request. `promises` returns what holds for
/// each of them from then on.
pub(super) fn tagger(
    manifest: &'static Bytes,
    tags: &'static [fn() -> Tag],
    promises: impl Fn(&Tag, Digest) -> Vec<Promise> + Copy + 'static,
) -> Script {
    script(move |actor| async move {
        let tags: Vec<Tag> = tags.iter().map(|tag| tag()).collect();
        if actor.put_blob(&r(), &BLOB).await {
            actor.put_tags(&r(), manifest, &tags, promises).await;
        }
    })
}

pub(super) fn stays(tag: &Tag, digest: Digest) -> Vec<Promise> {
    vec![Promise::Stays(r(), tag.clone(), digest)]
}

/// Checks at the end, after leases have passed, that full scrubs leave nothing that is wrong.
pub(super) fn settled(rules: &'static LazyLock<Rules>, case: Case) -> Case {
    let after = script(move |actor| async move {
        actor.only_promises();
        for _ in 0..2 {
            old(&actor);
            actor.scrub_under(rules, &Pass::ALL).await;
        }
        actor.promise(Promise::NoSlander);
        actor.promise(Promise::NothingNoted);
    });
    Case { after: Some(after), ..keeping(case) }
}
