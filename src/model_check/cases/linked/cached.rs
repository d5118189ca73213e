//! Cases about manifests that an upstream gave, and the blobs and children that come after them.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::json;

use super::{
    super::{
        super::{
            actor::{Client, DELETING, PLAIN},
            answers::Promise,
            play::{Case, Script},
        },
        BLOB, IMAGE, INDEX, case as bare, delete_manifest, descriptor, digest, image, keeping, old, q, r, script,
        scrub, scrub_under, settled, t, text, u,
    },
    BOTH, LAYER, LINKS,
};
use crate::{
    oci::{Reference, Tag},
    records::key::{Ordinal, Prefix, RepositoryKey, Version},
    scrub::Pass,
};

const GARBAGE: &[Pass] = &[Pass::Garbage, Pass::Uploads];

/// A manifest that needs the blob and the layer.
static TWO: LazyLock<Bytes> = LazyLock::new(|| {
    let mut manifest: serde_json::Value = serde_json::from_slice(&image(&BLOB, None, None)).expect("it is JSON");
    manifest["layers"] = json!([descriptor("application/vnd.oci.image.layer.v1.tar", &LAYER)]);
    text(&manifest)
});

async fn cached(actor: Client) {
    actor.put_cached(&r(), &TWO, Some(&t())).await;
    old(&actor);
}

/// Stores the same, and the blob in another repository.
async fn cached_beside_a_private_blob(actor: Client) {
    actor.put_blob(&q(), &BLOB).await;
    actor.put_manifest(&q(), &IMAGE, Some(&t())).await;
    cached(actor).await;
}

async fn cached_index(actor: Client) {
    actor.put_cached(&r(), &INDEX, Some(&u())).await;
    old(&actor);
}

async fn cached_child(actor: Client) {
    actor.put_cached(&r(), &IMAGE, None).await;
    old(&actor);
}

/// Lets the blob of a cached manifest come, and deletes the manifest.
async fn deleted(actor: Client) {
    cached(actor.clone()).await;
    actor.fetch(&r(), &BLOB).await;
    actor.delete_manifest(&r(), &digest(&TWO)).await;
    old(&actor);
}

fn kept(blob: &Bytes, since: Ordinal) -> Promise {
    Promise::Kept(r(), digest(&TWO), since, digest(blob))
}

/// Lets a blob come to the manifest, and promises that the blob stays with it.
fn fetcher(blob: &'static Bytes) -> Script {
    script(move |actor| async move {
        if actor.fetch(&r(), blob).await {
            actor.promise(kept(blob, Ordinal(0)));
        }
    })
}

/// Lets a blob come, and promises the same if the manifest is there by then and no time has passed. This looks into the
/// store, so it is for random orders alone.
fn early_fetcher(blob: &'static Bytes) -> Script {
    script(move |actor| async move {
        let began = actor.bucket().clock.now_ms();
        let done = actor.fetch(&r(), blob).await && actor.bucket().clock.now_ms() == began;
        let versions = actor.keys(Prefix::Manifest(&r(), &digest(&TWO)));
        let newest = versions.first().and_then(|key| Version::at_end_of(key));
        if let Some(newest) = newest.filter(|newest| newest.there && done) {
            actor.promise(kept(blob, newest.ordinal));
        }
    })
}

fn cacher(manifest: &'static Bytes, tag: fn() -> Option<Tag>) -> Script {
    script(move |actor| async move {
        actor.put_cached(&r(), manifest, tag().as_ref()).await;
    })
}

/// Lets the layer come, and claims that the blob has come.
fn claimer() -> Script {
    script(|actor| async move {
        actor.fetch(&r(), &LAYER).await;
        actor.link(&r(), &digest(&BLOB)).await;
    })
}

/// Promises that the repository never has the blob.
fn without_the_blob(scrub: Script) -> Script {
    script(move |actor| {
        actor.promise(Promise::Lacks(r(), digest(&BLOB)));
        scrub(actor)
    })
}

/// Deletes a manifest that no other process caches or restores.
fn deleter() -> Script {
    script(|actor| async move {
        let promises = [Promise::Gone(r(), digest(&TWO)), Promise::NotThis(r(), t(), digest(&TWO))];
        actor.delete(&r(), &Reference::Digest(digest(&TWO)), promises).await;
    })
}

/// Caches a child of an index that stays. If the index has its tag by then, promises that the child stays.
fn child() -> Script {
    script(|actor| async move {
        let done = actor.put_cached(&r(), &IMAGE, None).await;
        let tag = actor.keys(Prefix::Tag(&r(), &u()));
        let means = tag.first().and_then(|key| RepositoryKey::tag_version(&r(), key)?.1.target);
        if done && means.is_some() {
            actor.promise(Promise::Stands(r(), digest(&IMAGE)));
        }
    })
}

pub(super) fn cases() -> Vec<Case> {
    let links = || scrub_under(&PLAIN, LINKS);
    let both = || scrub_under(&PLAIN, BOTH);
    let garbage = || scrub_under(&PLAIN, GARBAGE);
    let deleting = || scrub_under(&DELETING, GARBAGE);
    let index = || cacher(&INDEX, || Some(u()));
    let again = || cacher(&TWO, || Some(u()));
    let case = |name, case: Case| settled(&PLAIN, Case { name, ..case });
    let untagged = |name, case: Case| settled(&DELETING, Case { name, ..case });
    let cases = [
        bare("two blobs come to a cached manifest at once", cached, vec![fetcher(&BLOB), fetcher(&LAYER)], 1),
        bare("a blob comes beside a delete of its cached manifest", cached, vec![fetcher(&BLOB), deleter()], 1),
        bare("a blob comes while its manifest is cached", |_| async {}, vec![fetcher(&BLOB), again()], 1),
        keeping(bare("a blob comes to a cached manifest, scrub", cached, vec![fetcher(&BLOB), scrub()], 1)),
        case("a blob comes to a cached manifest beside scrubs", {
            bare("", cached, vec![fetcher(&BLOB), links(), garbage()], 2)
        }),
        case("two blobs come to a cached manifest beside a scrub", {
            bare("", cached, vec![fetcher(&BLOB), fetcher(&LAYER), both()], 2)
        }),
        case("a blob comes while its manifest is cached, beside a scrub", {
            bare("", |_| async {}, vec![early_fetcher(&BLOB), again(), both()], 2)
        }),
        case("a blob comes while its manifest is cached again, beside a scrub", {
            bare("", cached, vec![fetcher(&BLOB), again(), both()], 2)
        }),
        case("a blob comes beside the end of its cached manifest", {
            bare("", cached, vec![fetcher(&BLOB), deleter(), both()], 3)
        }),
        case("a deleted manifest is cached again beside a scrub", {
            bare("", deleted, vec![again(), early_fetcher(&LAYER), both()], 2)
        }),
        case("a cached manifest names another repository's blob", {
            let scrub = without_the_blob(both());
            bare("", cached_beside_a_private_blob, vec![claimer(), again(), scrub], 2)
        }),
        untagged("a child comes to a cached index beside a scrub", {
            bare("", cached_index, vec![child(), deleting(), deleting()], 3)
        }),
        untagged("a child comes while its index is cached, beside a scrub", {
            bare("", |_| async {}, vec![index(), child(), deleting()], 3)
        }),
        untagged("a cached index takes in an untagged child", bare("", cached_child, vec![index(), deleting()], 1)),
        case("a cached child beside the delete of its index", {
            bare("", cached_index, vec![cacher(&IMAGE, || None), delete_manifest(&INDEX), both()], 2)
        }),
    ];
    cases.into()
}
