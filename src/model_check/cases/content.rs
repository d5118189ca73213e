//! The pass `content` beside pushes, readers and garbage: no sound copy gets a corruption note, and sound copies
//! replace rotten ones.

use bytes::Bytes;

use super::{
    super::{
        actor::{Client, PLAIN},
        answers::Promise,
        play::{Case, Script},
    },
    BLOB, GARBAGE, IMAGE, OTHER, case, digest, granted, old, r, script, scrub_under, settled, stays, t, tagged,
    two_copies, u,
};
use crate::{
    records::key::{DataKey, Key, Prefix, Suffix},
    scrub::Pass,
};

const CONTENT: &[Pass] = &[Pass::Content];
const BOTH: &[Pass] = &[Pass::Garbage, Pass::Uploads, Pass::Content];

/// Replaces the bytes of the first copy by wrong ones. With a corruption note, every process knows.
fn rot(actor: &Client, noted: bool) {
    let places = actor.keys(Prefix::Copies(&digest(&BLOB)));
    let id = places.iter().find_map(|key| Key::copy(key).map(|(_, id)| id)).expect("there is a copy");
    for key in actor.keys(Prefix::Data(&id)) {
        actor.bucket().put(None, &key, Bytes::from(vec![b'x'; BLOB.len()]), false);
    }
    if noted {
        actor.bucket().put(None, &DataKey::Corrupt(Suffix(0x0123_4567_89ab_cdef)).of(&id), Bytes::new(), false);
    }
    old(actor);
}

async fn rotten(actor: Client) {
    tagged(actor.clone()).await;
    rot(&actor, false);
}

async fn one_of_two_rotten(actor: Client) {
    two_copies(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
    old(&actor);
    rot(&actor, false);
}

async fn one_of_two_known_rotten(actor: Client) {
    two_copies(actor.clone()).await;
    actor.put_manifest(&r(), &IMAGE, Some(&t())).await;
    old(&actor);
    rot(&actor, true);
}

/// Writes sound bytes with a corruption note.
async fn slandered(actor: Client) {
    tagged(actor.clone()).await;
    let places = actor.keys(Prefix::Copies(&digest(&BLOB)));
    for id in places.iter().filter_map(|key| Key::copy(key).map(|(_, id)| id)) {
        actor.bucket().put(None, &DataKey::Corrupt(Suffix(0x0123_4567_89ab_cdef)).of(&id), Bytes::new(), false);
    }
    old(&actor);
}

/// Pushes the bytes anew, and a manifest that needs them.
fn pusher() -> Script {
    script(|actor| async move {
        if actor.put_sound_blob(&r(), &BLOB).await {
            actor.put_tags(&r(), &IMAGE, &[t()], stays).await;
        }
    })
}

/// Promises that a sound copy stays.
fn with_a_sound_copy(scrub: Script) -> Script {
    script(move |actor| {
        actor.promise(Promise::Sound(r(), digest(&BLOB)));
        scrub(actor)
    })
}

fn without_slander(scrub: Script) -> Script {
    script(move |actor| {
        actor.promise(Promise::NoSlander);
        scrub(actor)
    })
}

/// Reads a blob by its blob copies.
fn reader() -> Script {
    script(|actor| async move {
        let bytes = actor.pull_blob(&r(), &digest(&BLOB)).await;
        actor.must(bytes.is_some_and(|bytes| *bytes == **BLOB), "read a blob of which there is a sound copy");
    })
}

/// Adds a read of the right bytes at the end.
fn read_at_the_end(case: Case) -> Case {
    let settle = case.after.clone().expect("there is something to do");
    let after = script(move |actor| {
        let settle = settle(actor.clone());
        async move {
            settle.await;
            let bytes = actor.pull_blob(&r(), &digest(&BLOB)).await;
            actor.must(bytes.is_some_and(|bytes| *bytes == **BLOB), "read a blob after all");
        }
    });
    Case { after: Some(after), ..case }
}

pub(super) fn cases() -> Vec<Case> {
    let content = || without_slander(scrub_under(&PLAIN, CONTENT));
    let both = || without_slander(scrub_under(&PLAIN, BOTH));
    let garbage = || scrub_under(&PLAIN, GARBAGE);
    let needing = script(|actor| async move {
        let began = actor.now();
        let done = actor.put_tags(&r(), &OTHER, &[u()], stays).await;
        actor.must(done || !actor.since(began).is_zero(), "push a manifest on what another one needs");
    });
    let cases = [
        settled(&PLAIN, case("a push beside copies that come and go", tagged, vec![needing, pusher(), garbage()], 0)),
        settled(&PLAIN, case("content beside a push and garbage", granted, vec![pusher(), content(), garbage()], 1)),
        settled(&PLAIN, case("content of two copies beside garbage", two_copies, vec![pusher(), both(), garbage()], 1)),
        case("rotten bytes pushed again", rotten, vec![pusher(), scrub_under(&PLAIN, BOTH)], 1),
        read_at_the_end(settled(&PLAIN, {
            let scrub = with_a_sound_copy(both());
            case("a rotten copy beside a sound one", one_of_two_rotten, vec![pusher(), scrub, garbage()], 1)
        })),
        read_at_the_end(settled(&PLAIN, {
            let scrub = with_a_sound_copy(both());
            case("a rotten copy known, and a reader", one_of_two_known_rotten, vec![reader(), scrub, pusher()], 1)
        })),
        settled(&PLAIN, case("a note that is wrong", slandered, vec![pusher(), scrub_under(&PLAIN, BOTH)], 1)),
    ];
    cases.into()
}
