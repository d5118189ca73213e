//! Restores beside scrub, pushes and deletes: each restored thing is whole.

use std::sync::LazyLock;

use super::{
    super::{
        actor::{Client, PLAIN, Rules, TRASHING},
        answers::Promise,
        play::{Case, Script},
    },
    GARBAGE, IMAGE, INDEX, OTHER, SIGNATURE, case, delete_manifest, digest, granted, old, r, script, scrub_under,
    settled, t, tagged, tagger, u,
};
use crate::{
    oci::{Digest, Reference, Tag},
    registry::Restored,
};

async fn tag_deleted(actor: Client) {
    tagged(actor.clone()).await;
    actor.delete_tag(&r(), &t()).await;
    old(&actor);
}

async fn manifest_deleted(actor: Client) {
    tagged(actor.clone()).await;
    actor.delete_manifest(&r(), &digest(&IMAGE)).await;
    old(&actor);
}

/// Deletes an index, and lets a scrub remove its child with it.
async fn index_deleted(actor: Client) {
    granted(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, None).await;
    actor.put_manifest(&r(), &INDEX, Some(&t())).await;
    old(&actor);
    actor.delete_manifest(&r(), &digest(&INDEX)).await;
    actor.scrub_under(&TRASHING, GARBAGE).await;
    old(&actor);
}

/// Pushes an image with a signature, and deletes only the image.
async fn signed_deleted(actor: Client) {
    tagged(actor.clone()).await;
    actor.put_manifest(&r(), &SIGNATURE, None).await;
    old(&actor);
    actor.delete_manifest(&r(), &digest(&IMAGE)).await;
    old(&actor);
}

fn signature_tag() -> Tag {
    format!("{}.sig", digest(&IMAGE)).replace(':', "-").parse().expect("a tag")
}

/// Pushes an image with a signature that is named by a tag, and deletes only the image.
async fn signed_by_tag_deleted(actor: Client) {
    tagged(actor.clone()).await;
    actor.put_manifest(&r(), &OTHER, Some(&signature_tag())).await;
    old(&actor);
    actor.delete_manifest(&r(), &digest(&IMAGE)).await;
    old(&actor);
}

/// Restores an image. Its signature is restored with it, or still exists.
fn signed_restorer(signature: impl Fn() -> Promise + 'static) -> Script {
    script(move |actor| {
        let signature = signature();
        async move {
            let restored = actor.restore(&r(), &by_tag()).await.unwrap_or_default();
            if !restored.is_empty() {
                actor.promise(Promise::Stands(r(), digest(&IMAGE)));
                // a restore reports a signature whose write was given up as lost
                if !actor.gave_up() {
                    actor.promise(signature);
                }
            }
        }
    })
}

/// Restores a tag or manifest. `promises` returns what holds for each restored thing from then on.
fn restorer(
    what: impl Fn() -> Reference + 'static,
    promises: impl Fn(&Restored) -> Option<Promise> + 'static,
) -> Script {
    let promises = std::rc::Rc::new(promises);
    script(move |actor| {
        let (what, promises) = (what(), std::rc::Rc::clone(&promises));
        async move {
            for restored in actor.restore(&r(), &what).await.unwrap_or_default() {
                if let Some(promise) = promises(&restored) {
                    actor.promise(promise);
                }
            }
        }
    })
}

fn by_tag() -> Reference {
    Reference::Tag(t())
}

fn by_digest() -> Reference {
    Reference::Digest(digest(&IMAGE))
}

/// Promises that a restored thing stays, for cases in which no other process works on it.
fn whole(restored: &Restored) -> Option<Promise> {
    match restored {
        Restored::Tag(tag, digest) => Some(Promise::Stays(r(), tag.clone(), *digest)),
        Restored::Manifest(digest) => Some(Promise::Stands(r(), *digest)),
        Restored::Blob(_) => None,
    }
}

fn either(tag: &Tag, _: Digest) -> Vec<Promise> {
    vec![Promise::OneOf(r(), tag.clone(), vec![digest(&IMAGE), digest(&OTHER)])]
}

fn one_of(restored: &Restored) -> Option<Promise> {
    match restored {
        Restored::Tag(tag, digest) => either(tag, *digest).pop(),
        _ => None,
    }
}

pub(super) fn cases() -> Vec<Case> {
    let scrub = |rules: &'static LazyLock<Rules>| scrub_under(rules, GARBAGE);
    let delete_tag = || {
        script(|actor| async move {
            actor.delete_tag(&r(), &t()).await;
        })
    };
    let cases = [
        settled(
            &TRASHING,
            case("a tag restored beside scrub", tag_deleted, vec![restorer(by_tag, whole), scrub(&TRASHING)], 5),
        ),
        settled(
            &TRASHING,
            case(
                "a deleted image restored by its tag",
                manifest_deleted,
                vec![restorer(by_tag, whole), scrub(&TRASHING)],
                5,
            ),
        ),
        settled(&PLAIN, {
            let restore = restorer(by_tag, whole);
            case("a tag restored while it is freed", manifest_deleted, vec![restore, scrub(&PLAIN), scrub(&PLAIN)], 1)
        }),
        settled(&PLAIN, {
            let restore = restorer(by_digest, whole);
            case("a manifest restored while it is freed", manifest_deleted, vec![restore, scrub(&PLAIN)], 2)
        }),
        settled(&TRASHING, {
            let others = vec![restorer(by_digest, whole), scrub(&TRASHING), scrub(&PLAIN)];
            case("a manifest restored at the end of the trash", manifest_deleted, others, 4)
        }),
        settled(&PLAIN, {
            let push = tagger(&OTHER, &[t], either);
            case(
                "a tag restored beside a push of it",
                manifest_deleted,
                vec![restorer(by_tag, one_of), push, scrub(&PLAIN)],
                1,
            )
        }),
        settled(&PLAIN, {
            let others = vec![restorer(by_tag, |_| None), delete_tag(), scrub(&PLAIN)];
            case("a tag restored and deleted", tag_deleted, others, 1)
        }),
        settled(&PLAIN, {
            let others = vec![restorer(by_digest, |_| None), delete_manifest(&IMAGE), scrub(&PLAIN)];
            case("a manifest restored and deleted", manifest_deleted, others, 1)
        }),
        settled(&TRASHING, {
            case("an index restored beside scrub", index_deleted, vec![restorer(by_tag, whole), scrub(&TRASHING)], 4)
        }),
        settled(&PLAIN, {
            case("an index restored while it is freed", index_deleted, vec![restorer(by_tag, whole), scrub(&PLAIN)], 1)
        }),
        settled(&PLAIN, {
            let push = tagger(&IMAGE, &[u], super::stays);
            case(
                "a manifest restored beside a push of it",
                manifest_deleted,
                vec![restorer(by_tag, whole), push, scrub(&PLAIN)],
                1,
            )
        }),
        settled(&TRASHING, {
            let restore = signed_restorer(|| Promise::Stands(r(), digest(&SIGNATURE)));
            case("an image restored with its signature", signed_deleted, vec![restore, scrub(&TRASHING)], 1)
        }),
        settled(&TRASHING, {
            let restore = signed_restorer(|| Promise::Stays(r(), signature_tag(), digest(&OTHER)));
            let others = vec![restore, scrub(&TRASHING)];
            case("an image restored with a signature by its tag", signed_by_tag_deleted, others, 1)
        }),
    ];
    cases.into()
}
