//! Cases about the blobs that a manifest links to its repository: pushes, deletes and repairs beside each other.

mod cached;

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::json;

use super::{
    super::{
        actor::{Client, PLAIN},
        answers::Promise,
        play::{Case, Script},
    },
    BLOB, case as bare, descriptor, digest, image, old, q, r, script, scrub_under, settled, t, text,
};
use crate::scrub::Pass;

const LINKS: &[Pass] = &[Pass::Links];
const BOTH: &[Pass] = &[Pass::Links, Pass::Garbage, Pass::Uploads];

static LAYER: LazyLock<Bytes> = LazyLock::new(|| Bytes::from_static(b"a layer"));
/// A manifest that needs the blob, and lists the layer as one that is stored elsewhere.
static WINDOWS: LazyLock<Bytes> = LazyLock::new(|| {
    let mut layer = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", &LAYER);
    layer["urls"] = json!(["https://example.com/layer"]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image(&BLOB, None, None)).expect("it is JSON");
    manifest["layers"] = json!([layer]);
    text(&manifest)
});

async fn without_layer(actor: Client) {
    actor.put_blob(&r(), &BLOB).await;
    actor.put_manifest(&r(), &WINDOWS, Some(&t())).await;
    old(&actor);
}

/// Pushes the layer after the manifest that lists it.
async fn layer_since(actor: Client) {
    without_layer(actor.clone()).await;
    actor.put_blob(&r(), &LAYER).await;
    old(&actor);
}

/// Deletes the manifest and the layer, and pushes the layer to another repository.
async fn layer_deleted(actor: Client) {
    layer_since(actor.clone()).await;
    actor.put_manifest(&r(), &WINDOWS, Some(&t())).await;
    actor.delete_manifest(&r(), &digest(&WINDOWS)).await;
    actor.delete_blob(&r(), &digest(&LAYER)).await;
    old(&actor);
    actor.put_blob(&q(), &LAYER).await;
    actor.put_blob(&r(), &BLOB).await;
}

/// Pushes the manifest `times` times, if the blob that it needs is there.
fn pusher(times: usize, promise: impl Fn() -> Option<Promise> + 'static) -> Script {
    script(move |actor| {
        let promise = promise();
        async move {
            for _ in 0..times {
                actor.put_manifest(&r(), &WINDOWS, Some(&t())).await;
            }
            if let Some(promise) = promise {
                actor.promise(promise);
            }
        }
    })
}

/// Pushes the layer, and the manifest that lists it.
fn with_layer() -> Script {
    script(|actor| async move {
        if actor.put_blob(&r(), &LAYER).await && actor.put_manifest(&r(), &WINDOWS, Some(&t())).await {
            actor.promise(Promise::Has(r(), digest(&LAYER)));
        }
    })
}

pub(super) fn cases() -> Vec<Case> {
    let links = || scrub_under(&PLAIN, LINKS);
    let both = || scrub_under(&PLAIN, BOTH);
    let delete = script(|actor| async move {
        actor.delete_blob_for_good(&r(), &digest(&LAYER)).await;
    });
    let case = |name, case: Case| settled(&PLAIN, Case { name, ..case });
    let lacks = || Some(Promise::Lacks(r(), digest(&LAYER)));
    let cases = [
        case("a layer linked by a scrub beside its delete", bare("", layer_since, vec![links(), delete], 1)),
        case("a deleted layer named again", bare("", layer_deleted, vec![pusher(2, lacks), both()], 1)),
        case("two pushes of one manifest, one with its layer", {
            bare("", without_layer, vec![pusher(1, || None), with_layer(), both()], 2)
        }),
        case("two pushes of one manifest, one with its layer, two scrubs", {
            bare("", without_layer, vec![pusher(1, || None), with_layer(), both(), both()], 2)
        }),
    ];
    [cases.into(), cached::cases()].concat()
}
