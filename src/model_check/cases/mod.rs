//! The cases: a store, and the processes that work on it at the same time.

mod content;
mod history;
mod late;
mod late_deletes;
mod leases;
mod linked;
mod links;
mod once;
mod promised;
mod restore;
mod retention;
pub(super) mod ways;

use std::{
    rc::Rc,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;

use self::promised::{scrub_under, settled, stays, tagger};
use super::{
    actor::{Client, Task},
    bucket::{GiveUps, LEASE},
    play::{Case, Script, prepare},
};
use crate::{
    action::Upload,
    oci::{Algorithm, Digest, Name, Tag},
    records::key::{DataKey, Key, Prefix, Suffix},
    scrub::Pass,
};

pub(super) static BLOB: LazyLock<Bytes> = LazyLock::new(|| Bytes::from_static(b"{\"bytes\": 1}"));
/// A manifest that needs the blob.
static IMAGE: LazyLock<Bytes> = LazyLock::new(|| image(&BLOB, None, None));
/// Another manifest that needs the same blob.
static OTHER: LazyLock<Bytes> = LazyLock::new(|| image(&BLOB, None, Some("other")));
/// A third manifest that needs the same blob.
static THIRD: LazyLock<Bytes> = LazyLock::new(|| image(&BLOB, None, Some("third")));
/// A manifest that refers to the first.
static SIGNATURE: LazyLock<Bytes> = LazyLock::new(|| image(&BLOB, Some(&IMAGE), None));
static INDEX: LazyLock<Bytes> = LazyLock::new(|| {
    let child = descriptor("application/vnd.oci.image.manifest.v1+json", &IMAGE);
    text(&json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [child] }))
});

fn text(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

fn descriptor(media_type: &str, bytes: &Bytes) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(bytes).to_string(), "size": bytes.len() })
}

fn image(config: &Bytes, subject: Option<&Bytes>, note: Option<&str>) -> Bytes {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut image = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [],
    });
    if let Some(subject) = subject {
        image["subject"] = descriptor(media_type, subject);
    }
    if let Some(note) = note {
        image["annotations"] = json!({ "note": note });
    }
    text(&image)
}

pub(super) fn digest(bytes: &Bytes) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn r() -> Name {
    "r".parse().expect("a name")
}

fn q() -> Name {
    "q".parse().expect("a name")
}

fn t() -> Tag {
    "t".parse().expect("a tag")
}

fn u() -> Tag {
    "u".parse().expect("a tag")
}

fn script<F: Future<Output = ()> + 'static>(run: impl Fn(Client) -> F + 'static) -> Script {
    Rc::new(move |actor| -> Task { Box::pin(run(actor)) })
}

const GARBAGE: &[Pass] = &[Pass::Garbage, Pass::Uploads];

fn scrub() -> Script {
    script(|actor| async move { actor.scrub(GARBAGE).await })
}

/// Pushes a blob and a manifest that needs it. The push may not fail whatever others do, unless time passes.
fn pusher(name: Name, manifest: &'static Bytes, tag: Option<Tag>) -> Script {
    script(move |actor| {
        let (name, tag) = (name.clone(), tag.clone());
        async move {
            if actor.put_blob(&name, &BLOB).await {
                let began = actor.now();
                let pushed = actor.put_manifest(&name, manifest, tag.as_ref()).await;
                actor.must(pushed || actor.since(began) > Duration::ZERO, "push a manifest");
            }
        }
    })
}

/// Pushes the same, but may fail.
fn hindered(name: Name, manifest: &'static Bytes, tag: Option<Tag>) -> Script {
    script(move |actor| {
        let (name, tag) = (name.clone(), tag.clone());
        async move {
            if actor.put_blob(&name, &BLOB).await {
                actor.put_manifest(&name, manifest, tag.as_ref()).await;
            }
        }
    })
}

/// Pushes the same in an upload of two requests.
fn uploader(name: Name, manifest: &'static Bytes, tag: Option<Tag>) -> Script {
    script(move |actor| {
        let (name, tag) = (name.clone(), tag.clone());
        async move {
            if actor.upload(&name, &BLOB).await {
                actor.put_manifest(&name, manifest, tag.as_ref()).await;
            }
        }
    })
}

fn manifest(name: Name, manifest: &'static Bytes, tag: Option<Tag>) -> Script {
    script(move |actor| {
        let (name, tag) = (name.clone(), tag.clone());
        async move {
            actor.put_manifest(&name, manifest, tag.as_ref()).await;
        }
    })
}

fn delete_manifest(manifest: &'static Bytes) -> Script {
    script(move |actor| async move {
        actor.delete_manifest(&r(), &digest(manifest)).await;
    })
}

/// Removes all links and pins of the blob, as a delete and a lease would.
fn without_rights(actor: &Client) {
    for key in actor.keys(Prefix::AllLinks(&digest(&BLOB))) {
        actor.bucket().delete(None, &key);
    }
}

/// Lets a lease pass.
fn old(actor: &Client) {
    actor.bucket().clock.advance(LEASE);
}

/// Writes bytes that nothing needs.
async fn left(actor: Client) {
    actor.put_blob(&r(), &BLOB).await;
    without_rights(&actor);
    old(&actor);
}

/// Writes bytes with an old blob link.
async fn granted(actor: Client) {
    actor.put_blob(&r(), &BLOB).await;
    old(&actor);
}

/// Writes the same, with the mark of a scrub that died before it freed them.
async fn marked(actor: Client) {
    granted(actor.clone()).await;
    let places = actor.keys(Prefix::Copies(&digest(&BLOB)));
    for id in places.iter().filter_map(|key| Key::copy(key).map(|(_, id)| id)) {
        actor.bucket().put(None, &DataKey::Mark(Suffix(0xdead_beef)).of(&id), Bytes::new(), false);
    }
    old(&actor);
}

/// Writes a manifest without a tag.
async fn untagged(actor: Client) {
    actor.put_blob(&r(), &BLOB).await;
    actor.put_manifest(&r(), &IMAGE, None).await;
    old(&actor);
}

async fn tagged(actor: Client) {
    actor.put_blob(&r(), &BLOB).await;
    actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
    old(&actor);
}

/// Writes a manifest and deletes it.
async fn gone(actor: Client) {
    untagged(actor.clone()).await;
    actor.delete_manifest(&r(), &digest(&IMAGE)).await;
    old(&actor);
}

async fn pushed_twice(actor: Client) {
    tagged(actor.clone()).await;
    tagged(actor).await;
}

/// Writes two copies of the bytes.
async fn two_copies(actor: Client) {
    granted(actor.clone()).await;
    granted(actor).await;
}

/// Writes two copies of the bytes, and a blob link that will soon be old.
async fn two_copies_needed(actor: Client) {
    two_copies(actor.clone()).await;
    for key in actor.keys(Prefix::Links(&digest(&BLOB), &r())) {
        let content = actor.bucket().objects().get(&*key).map(|object| object.content.clone()).unwrap_or_default();
        actor.bucket().put(None, &key, content, false);
    }
    actor.bucket().clock.advance(LEASE / 2);
}

/// Writes an old blob link whose bytes are lost.
async fn nothing_left(actor: Client) {
    actor.put_blob(&q(), &BLOB).await;
    for key in actor.keys(Prefix::AllData).into_iter().chain(actor.keys(Prefix::Copies(&digest(&BLOB)))) {
        actor.bucket().delete(None, &key);
    }
    old(&actor);
}

fn case<F: Future<Output = ()>>(
    name: &'static str,
    setup: impl FnOnce(Client) -> F,
    scripts: Vec<Script>,
    ticks: usize,
) -> Case {
    let (objects, passed) = prepare(setup);
    Case {
        name,
        objects,
        passed,
        scripts,
        ticks,
        freezes: false,
        wishes: false,
        jumps: false,
        mortal: 0,
        giveups: GiveUps::NONE,
        keeps: false,
        ordered: true,
        page: 1000,
        any_of_many: false,
        seed: 7,
        after: None,
    }
}

fn keeping(case: Case) -> Case {
    Case { keeps: true, ..case }
}

/// Builds a case of an upload that went silent after `first` bytes. A script completes it, beside `others`.
fn silent(name: &'static str, first: usize, others: Vec<Script>, ticks: usize) -> Case {
    let upload: Arc<Mutex<Option<Upload>>> = Arc::default();
    let begun = Arc::clone(&upload);
    let setup = move |actor: Client| async move {
        let started = actor.start(&r(), &BLOB, first).await;
        *begun.lock().expect("nobody panics") = started;
        actor.put_blob(&q(), &BLOB).await;
        let own = actor.keys(Prefix::Blobs).into_iter().filter(|key| Key::copy(key).is_some());
        for key in own.collect::<Vec<_>>() {
            let (_, id) = Key::copy(&key).expect("a blob copy");
            actor.bucket().delete(None, &key);
            for key in actor.keys(Prefix::Data(&id)) {
                actor.bucket().delete(None, &key);
            }
        }
        old(&actor);
    };
    let finish = script(move |actor| {
        let upload = upload.lock().expect("nobody panics").clone();
        async move {
            let Some(upload) = upload else { return };
            if actor.finish(&r(), &upload, &BLOB, first).await {
                actor.put_manifest(&r(), &IMAGE, None).await;
            }
        }
    });
    keeping(case(name, setup, [vec![finish], others].concat(), ticks))
}

/// Returns the cases of the model, and those that the code has beyond it.
pub(super) fn cases() -> Vec<Case> {
    let tag = || Some(t());
    let push = || pusher(r(), &IMAGE, tag());
    let put = |tag| manifest(r(), &IMAGE, tag);
    let delete_tag = script(|actor| async move {
        actor.delete_tag(&r(), &t()).await;
    });
    let put_blob = script(|actor| async move {
        actor.put_blob(&r(), &BLOB).await;
    });
    let delete_blob = script(|actor| async move {
        actor.delete_blob(&r(), &digest(&BLOB)).await;
    });
    let mounter = script(|actor| async move {
        if actor.mount(&q(), &digest(&BLOB), &r()).await {
            actor.put_manifest(&q(), &IMAGE, Some(&t())).await;
        }
    });
    let asker = script(|actor| async move {
        if actor.head(&r(), &digest(&BLOB)).await {
            actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
        }
    });
    let index = manifest(r(), &INDEX, tag());
    let more = [
        retention::cases(),
        restore::cases(),
        once::cases(),
        links::cases(),
        content::cases(),
        history::cases(),
        linked::cases(),
        [late::cases(), late_deletes::cases(), leases::cases()].concat(),
    ];
    let first = vec![
        case("push, bytes left over, scrub", left, vec![push(), scrub()], 2),
        case("push beside scrub's look at uploads", |_| async {}, vec![uploader(r(), &IMAGE, tag()), scrub()], 2),
        case("a mark left by a dead scrub", marked, vec![put(tag()), scrub()], 2),
        case("manifest put on an old grant, one scrub", granted, vec![put(tag()), scrub()], 0),
        case("manifest put on an old grant, two scrubs", granted, vec![put(tag()), scrub(), scrub()], 0),
        keeping(case("manifest put on an old grant, scrub, time", granted, vec![put(None), scrub()], 2)),
        case("a tag for an untagged manifest", untagged, vec![put(tag()), scrub()], 2),
        case("the same manifest again while scrub frees it", gone, vec![push(), scrub()], 2),
        case("an index takes in an untagged child", untagged, vec![index.clone(), scrub()], 1),
        case("a manifest deleted by digest and pushed", tagged, vec![put(tag()), delete_manifest(&IMAGE), scrub()], 0),
        case("one manifest pushed twice, old versions and pins freed", pushed_twice, vec![put(tag()), scrub()], 2),
        keeping(case("second copies, two scrubs", two_copies, vec![put(None), scrub(), scrub()], 0)),
        keeping(case(
            "second copies, a grant that ends, two scrubs",
            two_copies_needed,
            vec![put(None), scrub(), scrub()],
            1,
        )),
        keeping(case(
            "a blob that comes very late, and one that relies on it",
            nothing_left,
            vec![put_blob, manifest(q(), &IMAGE, None), scrub()],
            2,
        )),
        case("a deleter and a pusher on one tag", tagged, vec![put(tag()), delete_tag, scrub()], 1),
        silent("a commit when its upload has gone silent", BLOB.len() / 2, vec![scrub()], 3),
        keeping(case("two pushers of one digest", granted, vec![push(), manifest(q(), &IMAGE, None), scrub()], 1)),
        silent(
            "a late commit beside one that relies on it",
            BLOB.len() / 2,
            vec![manifest(q(), &IMAGE, None), scrub()],
            2,
        ),
        case("a child deleted beside an index", untagged, vec![index, delete_manifest(&IMAGE), scrub()], 1),
        case(
            "a blob deleted beside a server that holds it",
            left,
            vec![hindered(r(), &IMAGE, tag()), delete_blob, scrub()],
            1,
        ),
        case("a mount", granted, vec![mounter, scrub()], 2),
        case("asked for, then pushed", granted, vec![asker, scrub()], 2),
        case(
            "a tag that moves, its old manifest deleted",
            tagged,
            vec![manifest(r(), &OTHER, tag()), delete_manifest(&IMAGE), scrub()],
            1,
        ),
        case(
            "a signature beside the end of its subject",
            untagged,
            vec![manifest(r(), &SIGNATURE, None), delete_manifest(&IMAGE), scrub()],
            1,
        ),
        // a state keeps a chunk that is this small
        silent("a commit when an upload whose bytes are in its states has gone silent", 3, vec![scrub()], 3),
    ];
    first.into_iter().chain(more.into_iter().flatten()).collect()
}
