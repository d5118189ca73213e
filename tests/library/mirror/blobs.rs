//! Blobs of caches.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use simple_registry::{
    action::Upload,
    oci::{Algorithm, MediaType},
    registry::{self, CachedManifest},
};
use tokio::sync::Notify;

use super::{Error, Hostile, Reply, Server, answer, blob, by, content, gets, name, start};
use crate::support::{chunk, sha256};

#[tokio::test]
async fn a_miss_is_fetched_once_for_all_who_ask_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(20_000_000, 1);
    let (sent, digest) = (bytes.clone(), sha256(&bytes));
    let hub = start(move |seen| blob(seen, &sent)).await;
    let server = Server::start(directory.path(), &[hub.port]);
    let all = (0..30).map(|_| server.read(&digest));
    for (read, error) in futures::future::join_all(all).await {
        assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    }
    assert_eq!(gets(&hub), 1);
    assert!(server.has(&digest).await);
}

#[tokio::test]
async fn bytes_come_as_they_arrive_and_the_last_one_waits_for_the_digest() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(100_000, 2);
    let go_on = Arc::new(Notify::new());
    let (sent, signal) = (bytes.clone(), Arc::clone(&go_on));
    let hub = start(move |seen| {
        let Reply::Bytes(answer) = blob(seen, &sent) else { unreachable!() };
        let half = answer.len() / 2;
        Reply::Pause(answer[..half].to_vec(), Arc::clone(&signal), answer[half..].to_vec())
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let pull = server.pull(&sha256(&bytes)).unwrap();
    assert_eq!(pull.size().await.unwrap(), 100_000);
    // a range that is here already comes, but for its last byte
    let mut first = std::pin::pin!(server.read_of(server.pull(&sha256(&bytes)).unwrap(), 0..1000));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut first).await;
    assert!(early.is_err(), "a range ended before the digest was known");
    go_on.notify_one();
    assert_eq!(first.await.0, bytes[..1000]);
    let (rest, error) = server.read_of(pull, 50_000..100_000).await;
    assert!(rest == bytes[50_000..] && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn wrong_bytes_are_not_kept_and_no_client_gets_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = (content(9_000_000, 3), content(9_000_000, 4));
    let sent = wrong.clone();
    let hub = start(move |seen| blob(seen, &sent)).await;
    let server = Server::start(directory.path(), &[hub.port]);
    let (read, error) = server.read(&sha256(&right)).await;
    assert!(matches!(error, Some(Error::WrongDigest { .. })), "{error:?}");
    assert!(read.len() < wrong.len());
    assert!(!server.has(&sha256(&right)).await && !server.has(&sha256(&wrong)).await);
    // the next one begins anew
    let (_, error) = server.read(&sha256(&right)).await;
    assert!(matches!(error, Some(Error::WrongDigest { .. })), "{error:?}");
    assert_eq!(gets(&hub), 2);
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_where_it_broke() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(10_000_000, 5);
    let sent = bytes.clone();
    let hub = start(move |seen| {
        let Reply::Bytes(answer) = blob(seen, &sent) else { unreachable!() };
        // no answer has more than 3 MB
        let length = answer.len().min(3_000_000);
        Reply::Bytes(answer[..length].to_vec())
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    assert_eq!(gets(&hub), 4);
    let seen: Vec<_> = hub.seen().into_iter().filter(|seen| seen.line.starts_with("GET")).collect();
    let from = |at: usize| seen[at].header("range").map(str::to_owned);
    assert_eq!(from(0), None);
    assert!(from(1).unwrap().starts_with("bytes=29"), "{:?}", from(1));
}

#[tokio::test]
async fn an_upstream_without_ranges_is_read_anew_up_to_where_it_broke() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(4_000_000, 6);
    let sent = bytes.clone();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let hub = start(move |_| {
        let Reply::Bytes(answer) = answer(200, &[], &sent) else { unreachable!() };
        let is_first = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        let length = if is_first { 3_000_000 } else { answer.len() };
        Reply::Bytes(answer[..length].to_vec())
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
}

#[tokio::test]
async fn several_servers_over_one_store_download_once() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(30_000_000, 7);
    let (sent, digest) = (bytes.clone(), sha256(&bytes));
    let hub = start(move |seen| blob(seen, &sent)).await;
    let servers: Vec<Server> = (0..3).map(|_| Server::start(directory.path(), &[hub.port])).collect();
    let all = (0..12).map(|at| servers[at % 3].read(&digest));
    for (read, error) in futures::future::join_all(all).await {
        assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    }
    assert_eq!(gets(&hub), 1);
}

#[tokio::test]
async fn a_download_without_readers_stops_and_goes_on_later() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(20_000_000, 8);
    let go_on = Arc::new(Notify::new());
    let (sent, signal) = (bytes.clone(), Arc::clone(&go_on));
    let hub = start(move |seen| match blob(seen, &sent) {
        Reply::Bytes(answer) if seen.header("range").is_none() => {
            Reply::Pause(answer[..17_000_000].to_vec(), Arc::clone(&signal), Vec::new())
        }
        whole => whole,
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let pull = server.pull(&sha256(&bytes)).unwrap();
    let (read, error) = server.read_of(pull, 0..16_000_000).await;
    assert!(read.len() == 16_000_000 && error.is_none());
    // another server goes on where it stopped
    let other = Server::start(directory.path(), &[hub.port]);
    let (read, error) = other.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    let ranges: Vec<_> = hub.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    // neither the stopped download nor the completed one is an open upload
    for server in [&server, &other] {
        let metrics = server.metrics.render();
        assert!(metrics.contains("\nsimple_registry_uploads_open 0\n"), "{metrics}");
    }
}

#[tokio::test]
async fn an_unknown_blob_is_unknown_and_that_is_remembered_for_a_moment() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hostile::start(|_| answer(404, &[], b"{}")).await;
    let server = Server::start(directory.path(), &[hub.port]);
    for _ in 0..2 {
        let (_, error) = server.read(&sha256("nothing")).await;
        let error = error.unwrap();
        assert!(error.to_string().contains("127.0.0.1: 404"), "{error}");
    }
    assert_eq!(hub.lines(), [format!("HEAD /v2/hub/app/blobs/{}", sha256("nothing"))]);
}

#[tokio::test]
async fn a_server_that_dies_is_followed_by_one_other_where_it_stopped() {
    let (directory, patient) = (tempfile::tempdir().unwrap(), Duration::from_mins(10));
    let bytes = content(30_000_000, 9);
    let (sent, digest) = (bytes.clone(), sha256(&bytes));
    let (never, rest) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let go_on = Arc::clone(&rest);
    let hub = start(move |seen| match blob(seen, &sent) {
        Reply::Bytes(answer) if seen.header("range").is_none() => {
            Reply::Pause(answer[..20_000_000].to_vec(), Arc::clone(&never), Vec::new())
        }
        Reply::Bytes(answer) => Reply::Pause(answer[..1000].to_vec(), Arc::clone(&rest), answer[1000..].to_vec()),
        other => other,
    })
    .await;
    let (path, port) = (directory.path().to_owned(), hub.port);
    let (told, began) = std::sync::mpsc::channel();
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    dying.spawn(async move {
        let first = Server::start_with(&path, &[port], 1 << 30, patient);
        let mut stream = first.pull(&digest).unwrap().read(Arc::clone(&first.registry), 0..30_000_000);
        let mut length = 0;
        while length < 19_000_000 {
            length += stream.try_next().await.unwrap().unwrap().len();
        }
        told.send(()).unwrap();
        // somebody waits for the rest
        stream.try_next().await
    });
    tokio::task::spawn_blocking(move || began.recv().unwrap()).await.unwrap();
    dying.shutdown_background();
    let [second, third] = [(); 2].map(|()| Server::start_with(directory.path(), &[hub.port], 1 << 30, patient));
    let ranges =
        || hub.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect::<Vec<String>>();
    let goes_on = async {
        while ranges().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // the other one waited as long, and could go on as well
        tokio::time::sleep(Duration::from_secs(1)).await;
        go_on.notify_one();
    };
    let (both, ()) = tokio::join!(async { tokio::join!(second.read(&digest), third.read(&digest)) }, goes_on);
    for (read, error) in [both.0, both.1] {
        assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
    }
    let ranges = ranges();
    let from: usize = ranges[0].trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    // at most 16 MiB are received and not stored
    assert!(ranges.len() == 1 && from >= 2_000_000, "{ranges:?}");
}

#[tokio::test]
async fn a_blob_of_a_size_that_nobody_says_comes_when_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(3_000_000, 10);
    let sent = bytes.clone();
    let hub = start(move |_| Reply::Bytes([&b"HTTP/1.1 200 x\r\n\r\n"[..], &sent].concat())).await;
    let server = Server::start(directory.path(), &[hub.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
}

#[tokio::test]
async fn the_next_upstream_is_asked_where_the_first_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(3_000_000, 11);
    let sent = bytes.clone();
    let down = start(|_| answer(503, &[], b"")).await;
    let hub = start(move |seen| blob(seen, &sent)).await;
    let server = Server::start(directory.path(), &[down.port, hub.port]);
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
}

#[tokio::test]
async fn a_stream_that_drips_is_cut_and_so_is_one_without_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let drip = start(|_| Reply::Drip(b"HTTP/1.1 200 x\r\ncontent-length: 100000\r\n\r\n".to_vec())).await;
    let server = Server::start(directory.path(), &[drip.port]);
    let (_, error) = server.read(&sha256("dripped")).await;
    let error = error.unwrap().to_string();
    assert!(error.contains("too slowly"), "{error}");
    assert_eq!(gets(&drip), 4);
    // more bytes than a blob may have, and nobody says how many
    let endless = start(|_| Reply::Bytes([&b"HTTP/1.1 200 x\r\n\r\n"[..], &vec![0; 3 << 20]].concat())).await;
    let server = Server::start_with_limit(directory.path(), &[endless.port], 1 << 20);
    let (_, error) = server.read(&sha256("endless")).await;
    let error = error.unwrap().to_string();
    assert!(error.contains("larger than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_without_bytes_is_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let hub = start(|_| answer(200, &[], b"")).await;
    let server = Server::start(directory.path(), &[hub.port]);
    let (read, error) = server.read(&sha256("something")).await;
    assert!(read.is_empty() && matches!(error, Some(Error::WrongDigest { .. })), "{error:?}");
    // nothing at all is a blob as well
    let (read, error) = server.read(&sha256("")).await;
    assert!(read.is_empty() && error.is_none(), "{error:?}");
}

/// Caches an image whose config is said to have so many bytes.
pub(super) async fn cache_image(server: &Server, config: &[u8], size: usize) {
    let config = serde_json::json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": size});
    let image =
        serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": []});
    let bytes = Bytes::from(image.to_string());
    let media_type = MediaType::OCI_MANIFEST.parse().unwrap();
    let manifest = CachedManifest { digest: sha256(&bytes), media_type, bytes, tag: None };
    server.registry.manifests.put_cached(&name(), &manifest, &by()).await.unwrap();
}

#[tokio::test]
async fn a_blob_of_another_size_than_was_said_is_broken_off() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(50_000, 12);
    let sent = bytes.clone();
    // the upstream does not say the size
    let hub = start(move |_| Reply::Bytes([&b"HTTP/1.1 200 x\r\n\r\n"[..], &sent].concat())).await;
    let server = Server::start(directory.path(), &[hub.port]);
    cache_image(&server, &bytes, 60_000).await;
    let (read, error) = server.read(&sha256(&bytes)).await;
    assert!(read.len() < 60_000 && matches!(error, Some(Error::Unfinished(_))), "{} bytes, {error:?}", read.len());
    // the bytes are right, so the next pull has them
    assert!(server.has(&sha256(&bytes)).await);
}

#[tokio::test]
async fn bytes_that_were_shown_do_not_end_an_upload_that_others_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (server, other) = (Server::start(directory.path(), &[]), Server::start(directory.path(), &[]));
    let (right, wrong) = (b"0123456789".as_slice(), b"01234xxxxx".as_slice());
    let digest = sha256(right);
    let uploads = &server.registry.uploads;
    let begun = uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let upload = |state| Upload { id: begun.id.clone(), state: Some(state) };
    let half = uploads.append_readable(&name(), &upload(begun.state), chunk(&right[..5])).await.unwrap();
    let completed = |server: &Server, rest: &[u8]| {
        let (uploads, upload, rest) = (Arc::clone(&server.registry), upload(half.state), chunk(rest));
        async move { uploads.uploads.complete_shown(&name(), &upload, &digest, rest, &by()).await }
    };
    completed(&other, &right[5..]).await.unwrap();
    for server in [&server, &other] {
        let late = completed(server, &wrong[5..]).await;
        assert!(matches!(late, Err(registry::Error::OutOfOrder { .. })), "{late:?}");
    }
    // without bytes of its own it is the repeated end of the same upload
    completed(&server, b"").await.unwrap();
}

#[tokio::test]
async fn a_download_with_more_bytes_than_the_blob_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(1_000_000, 13);
    let (sent, never) = (bytes.clone(), Arc::new(Notify::new()));
    let first = std::sync::atomic::AtomicBool::new(true);
    let hub = start(move |seen| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let garbage =
                [&b"HTTP/1.1 200 x\r\ncontent-length: 50000000\r\n\r\n"[..], &content(17_000_000, 14)].concat();
            return Reply::Pause(garbage, Arc::clone(&never), Vec::new());
        }
        blob(seen, &sent)
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let pull = server.pull(&sha256(&bytes)).unwrap();
    let (read, error) = server.read_of(pull, 0..16_000_000).await;
    assert!(read.len() < 16_000_000 && error.is_some(), "{} bytes, {error:?}", read.len());
    let other = Server::start(directory.path(), &[hub.port]);
    let (read, error) = other.read(&sha256(&bytes)).await;
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
}
