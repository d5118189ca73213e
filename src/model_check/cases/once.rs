//! Immutable tags: of two pushes at the same time, one gives the tag its meaning, and the other is refused with it.

use super::{
    super::{
        actor::{Client, DAYS, IMMUTABLE, PLAIN},
        answers::Promise,
        play::{Case, Script},
    },
    BLOB, GARBAGE, IMAGE, OTHER, case, delete_manifest, granted, old, r, script, scrub_under, settled, t,
};
use crate::scrub::Pass;

const BOTH: &[Pass] = &[Pass::Retention, Pass::Garbage];

/// Gives the tag a meaning, and deletes it.
async fn freed(actor: Client) {
    granted(actor.clone()).await;
    actor.put_once(&r(), &IMAGE, &t(), actor.now(), |_| Vec::new()).await;
    actor.delete_once(&r(), &t()).await;
    old(&actor);
    actor.put_blob(&r(), &BLOB).await;
}

/// Gives the tag a meaning.
async fn given(actor: Client) {
    granted(actor.clone()).await;
    actor.put_once(&r(), &IMAGE, &t(), actor.now(), |_| Vec::new()).await;
    old(&actor);
    actor.put_blob(&r(), &BLOB).await;
}

/// Gives the tag a meaning, days ago.
async fn long_ago(actor: Client) {
    given(actor.clone()).await;
    actor.bucket().clock.advance(DAYS);
}

/// Gives the tag its meaning, which it keeps.
fn once(manifest: &'static bytes::Bytes) -> Script {
    giver(manifest, true)
}

/// Gives the tag its meaning, which others may remove.
fn for_now(manifest: &'static bytes::Bytes) -> Script {
    giver(manifest, false)
}

fn giver(manifest: &'static bytes::Bytes, keeps: bool) -> Script {
    script(move |actor| async move {
        let began = actor.now();
        actor.promise(Promise::Once(r(), t()));
        if actor.put_blob(&r(), &BLOB).await {
            let promises = |digest| if keeps { vec![Promise::Stays(r(), t(), digest)] } else { Vec::new() };
            actor.put_once(&r(), manifest, &t(), began, promises).await;
        }
    })
}

pub(super) fn cases() -> Vec<Case> {
    let scrub = || scrub_under(&PLAIN, GARBAGE);
    let delete = script(|actor| async move {
        actor.delete_once(&r(), &t()).await;
    });
    let cases = [
        settled(
            &PLAIN,
            case("two first pushes of an immutable tag", granted, vec![once(&IMAGE), once(&OTHER), scrub()], 1),
        ),
        settled(
            &PLAIN,
            case(
                "two pushes of an immutable tag that was deleted",
                freed,
                vec![once(&IMAGE), once(&OTHER), scrub()],
                1,
            ),
        ),
        settled(&PLAIN, case("an immutable tag pushed twice", granted, vec![once(&IMAGE), once(&IMAGE), scrub()], 1)),
        settled(&PLAIN, case("another push of an immutable tag", given, vec![once(&OTHER), once(&IMAGE), scrub()], 1)),
        settled(
            &PLAIN,
            case("an immutable tag deleted beside a push", given, vec![for_now(&OTHER), delete, scrub()], 1),
        ),
        settled(&PLAIN, {
            let others = vec![for_now(&OTHER), for_now(&IMAGE), delete_manifest(&IMAGE)];
            case("the image of an immutable tag deleted beside pushes", given, others, 1)
        }),
        settled(&IMMUTABLE, {
            let scrub = scrub_under(&IMMUTABLE, BOTH);
            case("retention of an immutable tag beside pushes", long_ago, vec![once(&OTHER), once(&OTHER), scrub], 1)
        }),
        settled(&IMMUTABLE, {
            let scrub = || scrub_under(&IMMUTABLE, BOTH);
            case(
                "two retentions of an immutable tag",
                long_ago,
                vec![for_now(&OTHER), for_now(&IMAGE), scrub(), scrub()],
                1,
            )
        }),
    ];
    cases.into()
}
