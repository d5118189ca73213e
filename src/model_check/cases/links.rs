//! The pass `links` beside pushes and deletes, and the catalog: scrub revives nothing that was deleted, and does not
//! judge operations under way.

use super::{
    super::{
        actor::{Client, PLAIN},
        answers::Promise,
        play::{Case, Script},
    },
    GARBAGE, IMAGE, INDEX, OTHER, SIGNATURE, case as bare, digest, granted, old, r, script, scrub_under, settled,
    stays, t, tagged, tagger, untagged,
};
use crate::{
    oci::{Digest, Reference, Tag},
    records::key::{Prefix, RepositoryKey},
    scrub::Pass,
};

const LINKS: &[Pass] = &[Pass::Links];
const BOTH: &[Pass] = &[Pass::Links, Pass::Garbage, Pass::Uploads];

async fn signed(actor: Client) {
    tagged(actor.clone()).await;
    actor.put_manifest(&r(), &SIGNATURE, None).await;
    old(&actor);
}

/// Removes all referrers of the signature.
async fn not_listed(actor: Client) {
    signed(actor.clone()).await;
    for key in actor.keys(Prefix::AllReferrers(&r())) {
        actor.bucket().delete(None, &key);
    }
}

async fn indexed(actor: Client) {
    untagged(actor.clone()).await;
    actor.put_manifest(&r(), &INDEX, Some(&t())).await;
    old(&actor);
}

/// Removes the index references of the child.
async fn not_needed(actor: Client) {
    indexed(actor.clone()).await;
    for key in actor.keys(Prefix::IndexReferences(&r(), &digest(&IMAGE))) {
        actor.bucket().delete(None, &key);
    }
}

/// Leaves nothing of a repository but its entry in the catalog.
async fn emptied(actor: Client) {
    granted(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
    for key in actor.keys(Prefix::Repository(&r())) {
        actor.bucket().delete(None, &key);
    }
    old(&actor);
}

/// Does the same, and runs a scrub that marks the repository as empty.
async fn marked_empty(actor: Client) {
    emptied(actor.clone()).await;
    actor.scrub_under(&PLAIN, GARBAGE).await;
    old(&actor);
}

/// Leaves nothing of a repository but the history of its tag, and runs a scrub that marks it as empty.
async fn remembered(actor: Client) {
    granted(actor.clone()).await;
    for manifest in [&OTHER, &IMAGE] {
        actor.put_manifest(&r(), manifest, Some(&t())).await;
    }
    old(&actor);
    actor.scrub_under(&PLAIN, GARBAGE).await;
    for key in actor.keys(Prefix::Repository(&r())) {
        if !matches!(RepositoryKey::under(&r(), &key), Some(RepositoryKey::History(..))) {
            actor.bucket().delete(None, &key);
        }
    }
    assert_eq!(actor.keys(Prefix::Repository(&r())).len(), 1, "its history");
    old(&actor);
    actor.scrub_under(&PLAIN, GARBAGE).await;
    old(&actor);
}

fn deleter(what: impl Fn() -> Reference + 'static, promises: impl Fn() -> Vec<Promise> + 'static) -> Script {
    script(move |actor| {
        let (what, promises) = (what(), promises());
        async move {
            actor.delete(&r(), &what, promises).await;
        }
    })
}

/// Deletes a manifest that no other process pushes or restores.
fn delete(manifest: &'static bytes::Bytes) -> Script {
    let promises = || vec![Promise::Gone(r(), digest(manifest)), Promise::NotThis(r(), t(), digest(manifest))];
    deleter(|| Reference::Digest(digest(manifest)), promises)
}

fn listed(tag: &Tag, digest: Digest) -> Vec<Promise> {
    vec![Promise::Listed(r()), Promise::Stays(r(), tag.clone(), digest)]
}

pub(super) fn cases() -> Vec<Case> {
    let links = || scrub_under(&PLAIN, LINKS);
    let both = || scrub_under(&PLAIN, BOTH);
    let garbage = || scrub_under(&PLAIN, GARBAGE);
    let push = || tagger(&IMAGE, &[t], stays);
    let index = || tagger(&INDEX, &[t], stays);
    let delete_tag = || deleter(|| Reference::Tag(t()), || vec![Promise::NotThis(r(), t(), digest(&IMAGE))]);
    let twice = script(|actor| async move {
        actor.scrub_under(&PLAIN, GARBAGE).await;
        actor.scrub_under(&PLAIN, GARBAGE).await;
    });
    let first = || tagger(&IMAGE, &[t], listed);
    let case = |name, case: Case| settled(&PLAIN, Case { name, ..case });
    let cases = [
        case("links beside a push", bare("", granted, vec![push(), links(), both()], 1)),
        case("links beside an index", bare("", untagged, vec![index(), both()], 1)),
        case("links beside the delete of an image", bare("", tagged, vec![delete(&IMAGE), links(), both()], 1)),
        case("links beside the delete of a tag", bare("", tagged, vec![delete_tag(), links(), both()], 1)),
        case("links beside the delete of a signature", bare("", signed, vec![delete(&SIGNATURE), links(), both()], 1)),
        case("links beside the delete of an index", bare("", indexed, vec![delete(&INDEX), links(), both()], 1)),
        case("links beside a tag that moves from a deleted image", {
            bare("", tagged, vec![tagger(&OTHER, &[t], stays), delete(&IMAGE), links()], 1)
        }),
        case("a signature listed again beside its delete", {
            bare("", not_listed, vec![delete(&SIGNATURE), links(), links()], 1)
        }),
        case("a signature listed again beside its push", {
            bare("", not_listed, vec![tagger(&SIGNATURE, &[t], stays), links(), both()], 1)
        }),
        case("a child protected again beside the delete of its index", {
            bare("", not_needed, vec![delete(&INDEX), both(), links()], 1)
        }),
        case("a child protected again beside its index", bare("", not_needed, vec![index(), links(), both()], 1)),
        case("a first push into a repository that is found empty", bare("", emptied, vec![first(), twice], 4)),
        case("a first push into a repository that was found empty", {
            bare("", marked_empty, vec![first(), garbage(), garbage()], 2)
        }),
        case("a push into a repository of which only history is left", {
            bare("", remembered, vec![first(), garbage(), both()], 2)
        }),
    ];
    cases.into()
}
