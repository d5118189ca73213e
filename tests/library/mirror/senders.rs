//! Blobs whose first upstream breaks, drips, or sends wrong bytes.

use std::{sync::Arc, time::Duration};

use simple_registry::upstream::Upstreams;

use super::{
    Error, Hostile, Reply, Server, answer, blob, blobs::cache_image, content, gets, manifests::whole, start, upstream,
    upstream_with,
};
use crate::support::sha256;

/// Starts an upstream that sends so many bytes of each answer, and no more.
async fn cuts(bytes: &[u8], at: usize) -> Hostile {
    let bytes = bytes.to_vec();
    start(move |seen| {
        let Reply::Bytes(answer) = blob(seen, &bytes) else { unreachable!() };
        let length = answer.len().min(at);
        Reply::Bytes(answer[..length].to_vec())
    })
    .await
}

async fn sends(bytes: &[u8]) -> Hostile {
    let bytes = bytes.to_vec();
    start(move |seen| blob(seen, &bytes)).await
}

fn ranges(hub: &Hostile) -> Vec<String> {
    hub.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_next_upstream_goes_on_where_a_stream_broke() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(10_000_000, 1);
    let (first, second) = (cuts(&bytes, 3_000_000).await, sends(&bytes).await);
    let server = Server::start(directory.path(), &[first.port, second.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&first), gets(&second)), (1, 1));
    let [range] = &*ranges(&second) else { panic!("{:?}", ranges(&second)) };
    assert!(range.starts_with("bytes=29"), "{range}");
    let metrics = server.metrics.render();
    assert!(metrics.contains("upstream_questions_total{upstream=\"127.0.0.1\",outcome=\"connection\"} 1"), "{metrics}");
}

#[tokio::test]
async fn the_next_upstream_goes_on_where_a_stream_dripped() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(100_000, 2);
    let first = bytes[..30_000].to_vec();
    let drips = start(move |_| {
        let head = b"HTTP/1.1 200 x\r\ncontent-length: 100000\r\n\r\n";
        Reply::Pause([&head[..], &first].concat(), Arc::default(), Vec::new())
    })
    .await;
    let second = sends(&bytes).await;
    let server = Server::start(directory.path(), &[drips.port, second.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&drips), ranges(&second)), (1, vec!["bytes=30000-".to_owned()]));
}

#[tokio::test]
async fn upstreams_that_all_break_bring_a_blob_by_turns() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(10_000_000, 3);
    let (first, second) = (cuts(&bytes, 3_000_000).await, cuts(&bytes, 3_000_000).await);
    let server = Server::start(directory.path(), &[first.port, second.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&first), gets(&second)), (2, 2));
}

#[tokio::test]
async fn wrong_bytes_are_asked_for_at_the_next_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, wrong) = (content(100_000, 4), content(100_000, 5));
    let (first, second) = (sends(&wrong).await, sends(&bytes).await);
    let server = Server::start(directory.path(), &[first.port, second.port]);
    let (_, error) = server.read(&sha256(&bytes)).await;
    assert!(matches!(error, Some(Error::WrongDigest { .. })), "{error:?}");
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&first), gets(&second), ranges(&second).len()), (1, 1, 0));
}

#[tokio::test]
async fn wrong_bytes_of_two_upstreams_are_asked_for_at_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, wrong) = (content(4_000_000, 6), content(4_000_000, 7));
    let (first, second) = (cuts(&wrong, 1_000_000).await, sends(&bytes).await);
    let server = Server::start(directory.path(), &[first.port, second.port]);
    let (_, error) = server.read(&sha256(&bytes)).await;
    assert!(matches!(error, Some(Error::WrongDigest { .. })), "{error:?}");
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&first), gets(&second), ranges(&second).len()), (1, 2, 1));
}

#[tokio::test]
async fn the_error_says_what_each_upstream_did() {
    let directory = tempfile::tempdir().unwrap();
    let (bytes, wrong) = (content(1000, 8), content(1000, 9));
    let first = sends(&wrong).await;
    let second = cuts(&bytes, 100).await;
    let third = start(|_| answer(503, &[], b"")).await;
    let server = Server::start(directory.path(), &[first.port, second.port, third.port]);
    assert!(server.read(&sha256(&bytes)).await.1.is_some());
    let error = server.read(&sha256(&bytes)).await.1.unwrap().to_string();
    for words in ["bytes with another digest; ", "no connection: ", "127.0.0.1: 503"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert_eq!(gets(&first), 1);
}

#[tokio::test]
async fn an_upstream_whose_streams_break_again_and_again_is_asked_for_no_more_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let broken = start(|_| Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n".to_vec())).await;
    let blobs: Vec<_> = (0..6).map(|seed| content(1000, 100 + seed)).collect();
    let all = blobs.clone();
    let right = start(move |seen| {
        let wanted = all.iter().find(|bytes| seen.line.ends_with(&sha256(bytes).to_string())).unwrap();
        blob(seen, wanted)
    })
    .await;
    let server = Server::start(directory.path(), &[broken.port, right.port]);
    for bytes in &blobs {
        let (read, error) = server.read(&sha256(bytes)).await;
        assert!(read == *bytes && error.is_none(), "{error:?}");
    }
    assert_eq!((gets(&broken), gets(&right)), (5, 6));
}

#[tokio::test]
async fn a_damaged_blob_keeps_nobody_from_the_others_of_its_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let (damaged, bytes) = (sha256("damaged"), content(1000, 10));
    let sent = bytes.clone();
    let hub = start(move |seen| {
        if seen.line.ends_with(&damaged.to_string()) {
            return Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n".to_vec());
        }
        blob(seen, &sent)
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    for _ in 0..2 {
        assert!(server.read(&damaged).await.1.is_some());
    }
    assert!(gets(&hub) > 5);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn a_mirror_that_refuses_a_range_costs_no_byte_that_came() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(10_000_000, 11);
    let (cuts, refuses) = (cuts(&bytes, 6_000_000).await, start(|_| answer(416, &[], b"")).await);
    let server = Server::start(directory.path(), &[cuts.port, refuses.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!((gets(&cuts), ranges(&refuses).len()), (2, 1));
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_last_byte_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(100_000, 12);
    let head = format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", bytes.len());
    let sent = [head.as_bytes(), &bytes, b"\r\n"].concat();
    let hub = start(move |_| Reply::Bytes(sent.clone())).await;
    let server = Server::start(directory.path(), &[hub.port]);
    cache_image(&server, &bytes, bytes.len()).await;
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!(gets(&hub), 1);
}

#[tokio::test]
async fn a_stream_of_an_unsaid_size_that_ends_early_goes_on_at_the_next_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(100_000, 13);
    let sent = [b"HTTP/1.1 200 x\r\n\r\n", &bytes[..40_000]].concat();
    let (early, next) = (start(move |_| Reply::Bytes(sent.clone())).await, sends(&bytes).await);
    let server = Server::start(directory.path(), &[early.port, next.port]);
    cache_image(&server, &bytes, bytes.len()).await;
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!(ranges(&next), ["bytes=40000-"]);
}

#[tokio::test]
async fn a_pull_by_tag_waits_once_for_a_silent_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let silent = Hostile::start(|_| Reply::Silence).await;
    let hub = Hostile::start(|seen| whole(seen, manifest)).await;
    let mut server = Server::start(directory.path(), &[]);
    let first = upstream_with(silent.port, |settings| settings.timeout = Duration::from_millis(300));
    Arc::get_mut(&mut server.cached.namespace).unwrap().upstreams = Upstreams::new(vec![first, upstream(hub.port)]);
    assert_eq!(server.manifest("latest").await.unwrap().0, sha256(manifest));
    assert_eq!((silent.lines().len(), hub.lines().len()), (1, 2));
}
