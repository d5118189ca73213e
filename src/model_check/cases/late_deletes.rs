//! Deletes that were given up, and that land at any later time: nothing that was acknowledged since is lost.

use super::{
    super::{
        actor::Client,
        bucket::GiveUps,
        play::{Case, Script},
    },
    BLOB, GARBAGE, IMAGE, case, digest, granted, keeping, left, manifest, old, pusher, r, script, t, tagged,
};

/// Scrubs twice. The first run ends where it gives up a delete.
fn scrubs() -> Script {
    script(|actor| async move {
        actor.scrub(GARBAGE).await;
        actor.scrub(GARBAGE).await;
    })
}

/// Asks for the blob twice, and pushes a manifest after the second answer.
fn asks_twice() -> Script {
    script(|actor| async move {
        actor.head(&r(), &digest(&BLOB)).await;
        if actor.head(&r(), &digest(&BLOB)).await {
            actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
        }
    })
}

/// Deletes the blob, and pushes it again.
fn deletes_and_pushes() -> Script {
    script(|actor| async move {
        actor.delete_blob(&r(), &digest(&BLOB)).await;
        if actor.put_blob(&r(), &BLOB).await {
            actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
        }
    })
}

/// Writes an image with a tag, and deletes the tag.
async fn untagged(actor: Client) {
    tagged(actor.clone()).await;
    actor.delete_tag(&r(), &t()).await;
    old(&actor);
}

pub(super) fn cases() -> Vec<Case> {
    let late = |case: Case| Case { giveups: GiveUps { writes: 0, deletes: 1 }, ..case };
    let put = || manifest(r(), &IMAGE, Some(t()));
    let cases = [
        keeping(case("a blob asked for after its delete was given up", granted, vec![asks_twice(), scrubs()], 2)),
        case("a blob pushed after its delete was given up", left, vec![pusher(r(), &IMAGE, Some(t())), scrubs()], 2),
        case("a tag pushed after its delete was given up", untagged, vec![put(), scrubs()], 2),
        case("a blob link whose delete was given up", granted, vec![deletes_and_pushes(), scrubs()], 2),
    ];
    cases.map(late).into()
}
