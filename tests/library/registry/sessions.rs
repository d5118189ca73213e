//! Uploads in many chunks: what is stored of them, and what comes of them at other servers and after a restart.

use std::{fs, time::Duration};

use super::{World, chunk, name, sha256};
use proptest::prelude::*;
use simple_registry::{
    action::Upload,
    oci::{Algorithm, range::ContentRange},
    records::{Actor, key::UploadKey},
    registry::{Chunk, Error, Registry, UploadStatus},
};

/// Chunks from this length on are segments.
const SMALL: usize = 64 * 1024;

fn at(status: &UploadStatus) -> Upload {
    Upload { id: status.id.clone(), state: Some(status.state) }
}

async fn start(server: &Registry) -> UploadStatus {
    server.uploads.start(&name(), Algorithm::Sha256, "", &Actor::default()).await.unwrap()
}

/// Bytes that tell their place.
fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64).flat_map(u64::to_le_bytes).take(length).collect()
}

async fn read(server: &Registry, digest: &simple_registry::oci::Digest) -> Vec<u8> {
    use futures::TryStreamExt as _;
    let blob = server.blobs.get(&name(), digest).await.unwrap();
    let pieces: Vec<bytes::Bytes> = server.blobs.read(&name(), &blob, None).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

/// Counts the bytes of all objects under a prefix. Nothing is removed while an upload runs well, so these are the bytes
/// that were written.
async fn stored(world: &World, prefix: &str) -> u64 {
    let keys = world.keys(prefix).await;
    keys.iter().map(|key| fs::metadata(world.directory.path().join(key)).unwrap().len()).sum()
}

#[derive(Clone, Debug)]
struct Step {
    length: usize,
    /// The number of the server that takes the chunk.
    server: usize,
    /// True if that server restarts first.
    restarts: bool,
    /// True if the client names the state that it was told of.
    names_state: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![
        6 => 1_usize..200,
        3 => SMALL - 3..SMALL + 3,
        2 => 1000..SMALL,
        1 => SMALL..300_000,
    ];
    (length, 0_usize..2, prop::bool::weighted(0.1), prop::bool::weighted(0.8))
        .prop_map(|(length, server, restarts, names_state)| Step { length, server, restarts, names_state })
}

async fn play(steps: &[Step], last: usize, same_algorithm: bool) {
    let world = World::new();
    let mut servers = [world.server(Duration::ZERO), world.server(Duration::ZERO)];
    let total = steps.iter().map(|step| step.length).sum::<usize>() + last;
    let content = content(total);
    let mut status = start(&servers[0]).await;
    let mut offset = 0;
    for step in steps {
        if step.restarts {
            servers[step.server] = world.server(Duration::ZERO);
        }
        let mut upload = at(&status);
        if !step.names_state {
            upload.state = None;
        }
        let bytes = &content[offset..offset + step.length];
        status = servers[step.server].uploads.append(&name(), &upload, chunk(bytes)).await.unwrap();
        offset += step.length;
        assert_eq!(status.offset, offset as u64);
        assert_eq!(servers[1 - step.server].uploads.status(&name(), &upload).await.unwrap(), status);
    }
    let algorithm = if same_algorithm { Algorithm::Sha256 } else { Algorithm::Sha512 };
    let digest = simple_registry::oci::Digest::of(algorithm, &content);
    let end = async |server: &Registry| {
        server.uploads.complete(&name(), &at(&status), &digest, chunk(&content[offset..]), &Actor::default()).await
    };
    assert_eq!(end(&servers[0]).await.unwrap().size, total as u64);
    // the answer was lost, and another server is asked
    let repeated = servers[1].uploads.complete(&name(), &at(&status), &digest, chunk(b""), &Actor::default()).await;
    assert_eq!(repeated.unwrap().size, total as u64);
    assert_eq!(read(&world.server(Duration::ZERO), &digest).await, content);
    // each byte once as a segment, and once more at most where a state kept it
    let written = stored(&world, "").await;
    let bound = 2 * total as u64 + 8_000 * (steps.len() as u64 + 2);
    assert!(written <= bound, "{written} bytes were written for {total} in {} chunks", steps.len());
    let keys = world.keys("uploads/").await;
    let left = keys.iter().filter(|key| UploadKey::state(key).is_some());
    assert_eq!(left.count(), steps.len() + 2, "scrub alone frees states");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_in_any_chunks_at_any_server_becomes_the_bytes_that_were_sent(
        steps in prop::collection::vec(step(), 0..150),
        last in prop_oneof![Just(0_usize), 1_usize..100, Just(SMALL)],
        same_algorithm in prop::bool::weighted(0.8),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(play(&steps, last, same_algorithm));
    }
}

/// Sends the same chunk so many times; returns what the last state is.
async fn many(server: &Registry, number: usize, bytes: &[u8]) -> UploadStatus {
    let mut status = start(server).await;
    for _ in 0..number {
        status = server.uploads.append(&name(), &at(&status), chunk(bytes)).await.unwrap();
    }
    status
}

#[tokio::test]
async fn chunks_of_one_byte_take_bytes_in_proportion_to_their_number() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let status = many(&server, 2000, b"x").await;
    let written = stored(&world, "").await;
    assert!(written < 2000 * 1500, "{written} bytes were written for 2,000");
    assert_eq!(world.keys("data/").await.len(), 31, "one segment for each full state");
    let digest = sha256([b'x'; 2000]);
    server.uploads.complete(&name(), &at(&status), &digest, chunk(b""), &Actor::default()).await.unwrap();
    assert_eq!(read(&server, &digest).await, [b'x'; 2000]);
}

#[tokio::test]
async fn the_chunks_between_two_full_states_make_a_segment_below_4_mib() {
    let world = World::new();
    let (server, bytes) = (world.server(Duration::ZERO), content(SMALL - 1));
    let status = many(&server, 130, &bytes).await;
    let digest = sha256(bytes.repeat(130));
    // a server that remembers nothing reads what states keep
    let other = world.server(Duration::ZERO);
    other.uploads.complete(&name(), &at(&status), &digest, chunk(b""), &Actor::default()).await.unwrap();
    let mut sizes = Vec::new();
    for key in world.keys("data/").await {
        sizes.push(fs::metadata(world.directory.path().join(key)).unwrap().len());
    }
    let of = |chunks: u64| chunks * (SMALL as u64 - 1);
    assert_eq!(sizes, [of(64), of(64), of(2)]);
    assert!(sizes.iter().all(|size| *size < 4 << 20));
    assert!(read(&other, &digest).await == bytes.repeat(130));
}

#[tokio::test]
async fn of_two_small_chunks_at_one_offset_one_wins() {
    for _ in 0..20 {
        let world = World::new();
        let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
        let upload = at(&many(&one, 3, b"abc").await);
        let name = name();
        let at_nine = |bytes: &[u8]| {
            let range = ContentRange { first: 9, last: 8 + bytes.len() as u64 };
            Chunk { range: Some(range), ..chunk(bytes) }
        };
        let (first, second) = tokio::join!(
            one.uploads.append(&name, &upload, at_nine(b"one")),
            other.uploads.append(&name, &upload, at_nine(b"other"))
        );
        let (status, bytes): (_, &[u8]) = match (first, second) {
            (Ok(status), Err(Error::OutOfOrder { .. })) => (status, b"abcabcabcone"),
            (Err(Error::OutOfOrder { .. }), Ok(status)) => (status, b"abcabcabcother"),
            both => panic!("{both:?}"),
        };
        let digest = sha256(bytes);
        other.uploads.complete(&name, &at(&status), &digest, chunk(b""), &Actor::default()).await.unwrap();
        assert_eq!(read(&one, &digest).await, bytes);
    }
}

/// A power cut damages a state, which is not synced.
#[tokio::test]
async fn a_kept_chunk_that_was_torn_never_becomes_a_blob() {
    for (damage, says) in [("emptied", true), ("removed", true), ("torn", false)] {
        let world = World::new();
        let server = world.server(Duration::ZERO);
        let status = many(&server, 5, b"some bytes").await;
        let state = world.directory.path().join(UploadKey::State(3).of(&status.id));
        match damage {
            "emptied" => fs::write(&state, b"").unwrap(),
            "removed" => fs::remove_file(&state).unwrap(),
            _ => {
                let mut bytes = fs::read(&state).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&state, bytes).unwrap();
            }
        }
        let other = world.server(Duration::ZERO);
        let found = other.uploads.status(&name(), &at(&status)).await;
        assert_eq!(matches!(found, Err(Error::UploadUnknown(_))), says, "{damage}: {found:?}");
        let digest = sha256(b"some bytes".repeat(5));
        let done = other.uploads.complete(&name(), &at(&status), &digest, chunk(b""), &Actor::default()).await;
        assert!(matches!(done, Err(Error::UploadUnknown(_))), "{damage}: {done:?}");
    }
}

#[tokio::test]
async fn an_upload_that_was_cancelled_takes_no_more_chunks() {
    let world = World::new();
    let (server, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let status = many(&server, 3, b"abc").await;
    other.uploads.cancel(&name(), &at(&status)).await.unwrap();
    for server in [&server, &other] {
        let late = server.uploads.append(&name(), &at(&status), chunk(b"late")).await;
        assert!(matches!(late, Err(Error::UploadUnknown(_))), "{late:?}");
        let done =
            server.uploads.complete(&name(), &at(&status), &sha256(b"abcabcabc"), chunk(b""), &Actor::default()).await;
        assert!(matches!(done, Err(Error::UploadUnknown(_))), "{done:?}");
    }
}
