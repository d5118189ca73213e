//! Writes that were given up, and that land after another write was acknowledged: the acknowledged write stays.

use super::{
    super::{
        actor::{Client, PLAIN},
        answers::Promise,
        bucket::GiveUps,
        play::{Case, Script},
    },
    BLOB, GARBAGE, IMAGE, INDEX, OTHER, THIRD, case, delete_manifest, digest, granted, keeping, old, r, script,
    scrub_under, settled, stays, t, tagged,
};
use crate::oci::Reference;

/// Writes an image with a tag, and a blob link for pushes of others that need the same blob.
async fn ready(actor: Client) {
    tagged(actor.clone()).await;
    actor.put_blob(&r(), &BLOB).await;
}

/// Writes an image without a tag.
async fn standing(actor: Client) {
    granted(actor.clone()).await;
    actor.put_blob(&r(), &BLOB).await;
    actor.put_manifest(&r(), &IMAGE, None).await;
    old(&actor);
}

/// Writes the same in an index with a tag.
async fn indexed(actor: Client) {
    standing(actor.clone()).await;
    actor.put_manifest(&r(), &INDEX, Some(&t())).await;
}

/// Promises that the tag means none of these images.
fn nothing() -> Vec<Promise> {
    [&IMAGE, &OTHER, &THIRD].map(|image| Promise::NotThis(r(), t(), digest(image))).into()
}

fn gone(image: &bytes::Bytes) -> Vec<Promise> {
    vec![Promise::Gone(r(), digest(image))]
}

/// Pushes the tag, and another image if that failed.
fn pushes_again() -> Script {
    script(|actor| async move {
        if !actor.put_tags(&r(), &OTHER, &[t()], stays).await {
            actor.put_tags(&r(), &THIRD, &[t()], stays).await;
        }
    })
}

/// Pushes the tag, and deletes it if that failed.
fn pushes_and_deletes() -> Script {
    script(|actor| async move {
        if !actor.put_tags(&r(), &OTHER, &[t()], stays).await {
            actor.delete(&r(), &Reference::Tag(t()), nothing()).await;
        }
    })
}

/// Deletes the tag, and pushes it if that failed.
fn deletes_and_pushes() -> Script {
    script(|actor| async move {
        if !actor.delete(&r(), &Reference::Tag(t()), nothing()).await {
            actor.put_tags(&r(), &OTHER, &[t()], stays).await;
        }
    })
}

/// Pushes a manifest by its digest, and deletes it if that failed.
fn pushes_and_deletes_by_digest() -> Script {
    script(|actor| async move {
        if !actor.put_manifest(&r(), &IMAGE, None).await {
            actor.delete(&r(), &Reference::Digest(digest(&IMAGE)), gone(&IMAGE)).await;
        }
    })
}

/// Deletes a manifest, and pushes it with a tag if that failed.
fn deletes_by_digest_and_pushes() -> Script {
    script(|actor| async move {
        if !actor.delete(&r(), &Reference::Digest(digest(&IMAGE)), gone(&IMAGE)).await {
            actor.put_tags(&r(), &IMAGE, &[t()], stays).await;
        }
    })
}

/// Pushes an index again, which renews its child, and deletes both if that failed.
fn indexes_and_deletes() -> Script {
    script(|actor| async move {
        if !actor.put_manifest(&r(), &INDEX, None).await
            && actor.delete(&r(), &Reference::Digest(digest(&INDEX)), gone(&INDEX)).await
        {
            actor.delete(&r(), &Reference::Digest(digest(&IMAGE)), gone(&IMAGE)).await;
        }
    })
}

/// Pushes an immutable tag, and another image if that failed.
fn once_and_again() -> Script {
    script(|actor| async move {
        let began = actor.now();
        actor.promise(Promise::Once(r(), t()));
        let keeps = |digest| vec![Promise::Stays(r(), t(), digest)];
        if !actor.put_once(&r(), &OTHER, &t(), began, keeps).await {
            actor.put_once(&r(), &THIRD, &t(), began, keeps).await;
        }
    })
}

/// Pushes an index, whose child exists from then on.
fn index_with_child() -> Script {
    script(|actor| async move {
        if actor.put_manifest(&r(), &INDEX, Some(&t())).await {
            actor.promise(Promise::Stands(r(), digest(&IMAGE)));
        }
    })
}

/// Deletes an immutable tag, and lets scrub free all but the tombstone.
async fn only_a_tombstone(actor: Client) {
    granted(actor.clone()).await;
    actor.put_once(&r(), &IMAGE, &t(), actor.now(), |_| Vec::new()).await;
    actor.delete_once(&r(), &t()).await;
    old(&actor);
    actor.scrub_under(&PLAIN, GARBAGE).await;
    actor.put_blob(&r(), &BLOB).await;
}

/// Pushes an immutable tag once.
fn once(image: &'static bytes::Bytes) -> Script {
    script(move |actor| async move {
        let began = actor.now();
        actor.promise(Promise::Once(r(), t()));
        actor.put_once(&r(), image, &t(), began, |digest| vec![Promise::Stays(r(), t(), digest)]).await;
    })
}

fn writes(writes: usize) -> GiveUps {
    GiveUps { writes, deletes: 0 }
}

pub(super) fn cases() -> Vec<Case> {
    let alone = |case: Case| keeping(Case { giveups: writes(2), ..case });
    let late = |case: Case| settled(&PLAIN, Case { giveups: writes(1), ..case });
    let scrub = || scrub_under(&PLAIN, GARBAGE);
    let cases = [
        alone(case("a tag pushed after a push that was given up", ready, vec![pushes_again()], 0)),
        alone(case("a tag deleted after a push that was given up", ready, vec![pushes_and_deletes()], 0)),
        alone(case("a tag pushed after a delete that was given up", ready, vec![deletes_and_pushes()], 0)),
        alone(case(
            "a manifest deleted after a push that was given up",
            standing,
            vec![pushes_and_deletes_by_digest()],
            0,
        )),
        alone(case(
            "a manifest pushed after a delete that was given up",
            ready,
            vec![deletes_by_digest_and_pushes()],
            0,
        )),
        alone(case("a child deleted after an index that was given up", indexed, vec![indexes_and_deletes()], 0)),
        alone(case("an immutable tag pushed after a push that was given up", standing, vec![once_and_again()], 0)),
        late(case("given up and pushed again beside scrub", ready, vec![pushes_again(), scrub()], 2)),
        late(case("given up and deleted beside scrub", ready, vec![pushes_and_deletes(), scrub()], 2)),
        late(case(
            "given up and deleted by digest beside scrub",
            standing,
            vec![pushes_and_deletes_by_digest(), scrub()],
            2,
        )),
        keeping(case(
            "a delete that passes over the push of an index",
            standing,
            vec![index_with_child(), delete_manifest(&IMAGE)],
            0,
        )),
        settled(
            &PLAIN,
            case(
                "an immutable tag pushed while its tombstone is freed",
                only_a_tombstone,
                vec![once(&IMAGE), once(&OTHER), scrub()],
                2,
            ),
        ),
    ];
    cases.into()
}
