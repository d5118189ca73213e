//! The history of a tag, gathered beside pushes: it loses nothing, and has the order of the answers.

use super::{
    super::{
        actor::{Client, PLAIN},
        answers::Promise,
        play::{Case, Script},
    },
    BLOB, GARBAGE, IMAGE, OTHER, THIRD, case, digest, granted, old, r, script, scrub_under, settled, t,
};
use crate::oci::{Digest, Tag};

/// Pushes a tag that moved once.
async fn moved(actor: Client) {
    granted(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
    actor.put_manifest(&r(), &OTHER, Some(&t())).await;
    old(&actor);
    actor.put_blob(&r(), &BLOB).await;
}

/// Does the same, and runs a scrub that gathers the history.
async fn gathered(actor: Client) {
    moved(actor.clone()).await;
    actor.scrub_under(&PLAIN, GARBAGE).await;
    actor.put_manifest(&r(), &THIRD, Some(&t())).await;
    old(&actor);
    actor.put_blob(&r(), &BLOB).await;
}

fn meant(of: &Digest) -> Promise {
    Promise::Meant(r(), t(), *of)
}

fn meant_and_stays(tag: &Tag, of: Digest) -> Vec<Promise> {
    vec![meant(&of), Promise::Stays(r(), tag.clone(), of)]
}

/// Pushes a tag.
fn push(manifest: &'static bytes::Bytes, stays: bool) -> Script {
    script(move |actor| async move {
        for known in [&IMAGE, &OTHER] {
            actor.promise(meant(&digest(known)));
        }
        let promises = |tag: &Tag, of| if stays { meant_and_stays(tag, of) } else { vec![meant(&of)] };
        actor.put_tags(&r(), manifest, &[t()], promises).await;
    })
}

async fn in_order(actor: &Client) {
    let Some(history) = actor.history(&r(), &t()).await else { return };
    let at = |manifest: &bytes::Bytes| history.iter().rposition(|entry| *entry == Some(digest(manifest)));
    if at(&OTHER).is_none() || at(&IMAGE).is_none() || at(&OTHER) > at(&IMAGE) {
        actor.wrong(format!("what the tag meant is not what it meant: {history:?}"));
    }
}

fn reader() -> Script {
    script(|actor| async move { in_order(&actor).await })
}

/// Adds a check at the end that the history is in order.
fn in_order_at_the_end(case: Case) -> Case {
    let settle = case.after.clone().expect("there is something to do");
    let after = script(move |actor| {
        let settle = settle(actor.clone());
        async move {
            settle.await;
            in_order(&actor).await;
        }
    });
    Case { after: Some(after), ..case }
}

pub(super) fn cases() -> Vec<Case> {
    let scrub = || scrub_under(&PLAIN, GARBAGE);
    let delete = script(|actor| async move {
        actor.delete_tag(&r(), &t()).await;
    });
    let cases = [
        case("what a tag meant, gathered beside a push", moved, vec![push(&THIRD, true), scrub(), scrub()], 2),
        case("what a tag meant, gathered again beside a push", gathered, vec![push(&THIRD, true), scrub(), scrub()], 2),
        case("what a tag meant, asked for while it is gathered", gathered, vec![reader(), scrub(), scrub()], 1),
        case("what a tag meant, gathered beside a delete", moved, vec![push(&THIRD, false), delete, scrub()], 3),
    ];
    cases.into_iter().map(|case| in_order_at_the_end(settled(&PLAIN, case))).collect()
}
