//! The shares of upstreams and clients in the downloads of a cache.

use std::{
    collections::BTreeSet,
    future::ready,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use simple_registry::{
    action::UploadId,
    mirror::{Pull, Served, TakeMemory},
    oci::Digest,
    upstream::{Base, Kind, Upstreams},
};
use tokio::sync::Notify;

use super::{
    Error, Hostile, Reply, Server, answer, blob,
    blobs::cache_image,
    content, gets,
    manifests::{LIMIT, index, whole},
    name, start, upstream_with,
};
use crate::support::sha256;

const PATIENT: Duration = Duration::from_mins(5);

fn server(directory: &Path, ports: &[u16]) -> Server {
    Server::start_with(directory, ports, 1 << 30, PATIENT)
}

/// Starts an upstream whose blobs have a head, and no byte that ever comes.
async fn start_slow() -> Hostile {
    let never = Arc::new(Notify::new());
    start(move |_| {
        let head = b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n".to_vec();
        Reply::Pause(head, Arc::clone(&never), Vec::new())
    })
    .await
}

fn unknown(number: usize) -> Digest {
    sha256(number.to_string())
}

/// Waits for something that happens soon in any case.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(1), waiting).await.is_ok(), "{what}");
}

/// Reads a blob that comes soon, unless others keep it from coming.
async fn read_soon(server: &Server, bytes: &[u8]) {
    let read = tokio::time::timeout(Duration::from_mins(1), server.read(&sha256(bytes))).await;
    let (read, error) = read.expect("others hold the places");
    assert!(read == bytes && error.is_none(), "{} bytes, {error:?}", read.len());
}

/// Returns the files below a directory.
fn files(directory: &Path) -> BTreeSet<std::path::PathBuf> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_slow_upstream_leaves_places_for_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let (slow, bytes) = (start_slow().await, content(100_000, 1));
    let sent = bytes.clone();
    let quick = start(move |seen| blob(seen, &sent)).await;
    let mut server = server(directory.path(), &[slow.port]);
    // one of each client
    let pulls: Vec<Pull> = (0..100).map(|last| server.pull_by(last, &unknown(last.into())).unwrap()).collect();
    until("the slow upstream has three of four places", || gets(&slow) == 24).await;
    let base = Base::parse(&format!("http://localhost:{}/v2/hub", quick.port)).unwrap();
    let quick = upstream_with(quick.port, |settings| settings.base = base);
    let mut namespace = (*server.cached.namespace).clone();
    namespace.upstreams = Upstreams::new(vec![quick]);
    server.cached.namespace = Arc::new(namespace);
    read_soon(&server, &bytes).await;
    assert_eq!(gets(&slow), 24);
    drop(pulls);
}

#[tokio::test]
async fn a_client_leaves_places_for_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let (never, bytes) = (Arc::new(Notify::new()), content(100_000, 1));
    let (sent, wanted) = (bytes.clone(), sha256(&bytes).to_string());
    let hub = start(move |seen| {
        let head = b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n".to_vec();
        let never = Arc::clone(&never);
        if seen.line.ends_with(&wanted) { blob(seen, &sent) } else { Reply::Pause(head, never, Vec::new()) }
    })
    .await;
    let server = server(directory.path(), &[hub.port]);
    let mut pulls: Vec<Pull> = (0..100).map(|number| server.pull_by(9, &unknown(number)).unwrap()).collect();
    until("one client has half of what its upstream may have", || gets(&hub) == 12).await;
    // another client joins a download that waits
    pulls.push(server.pull_by(9, &sha256(&bytes)).unwrap());
    read_soon(&server, &bytes).await;
    assert_eq!(gets(&hub), 13);
    drop(pulls);
}

#[tokio::test]
async fn a_server_that_follows_another_ones_download_takes_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let (never, bytes) = (Arc::new(Notify::new()), content(100_000, 1));
    let (sent, wanted) = (bytes.clone(), sha256(&bytes).to_string());
    let hub = Hostile::start(move |seen| {
        if seen.line.ends_with(&wanted) {
            return blob(seen, if seen.line.starts_with("HEAD") { &[] } else { &sent });
        }
        let head = b"HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\n".to_vec();
        if seen.line.starts_with("HEAD") {
            Reply::Bytes(head)
        } else {
            Reply::Pause(head, Arc::clone(&never), Vec::new())
        }
    })
    .await;
    let (first, second) = (server(directory.path(), &[hub.port]), server(directory.path(), &[hub.port]));
    let fetched: Vec<Pull> = (0..12).map(|number| first.pull(&unknown(number)).unwrap()).collect();
    until("the first server fetches", || gets(&hub) == 12).await;
    let followed: Vec<Pull> = (0..12).map(|number| second.pull(&unknown(number)).unwrap()).collect();
    for pull in &followed {
        assert_eq!(pull.size().await.unwrap(), 1000);
    }
    read_soon(&second, &bytes).await;
    drop((fetched, followed));
}

#[tokio::test]
async fn a_server_that_waits_for_a_place_gets_what_another_one_has_downloaded() {
    let directory = tempfile::tempdir().unwrap();
    let (slow, bytes) = (start_slow().await, content(100_000, 1));
    let sent = bytes.clone();
    let quick = start(move |seen| blob(seen, &sent)).await;
    let (first, second) = (server(directory.path(), &[quick.port]), server(directory.path(), &[slow.port]));
    let pulls: Vec<Pull> = (0..12).map(|number| second.pull(&unknown(number)).unwrap()).collect();
    until("the client has all of its places", || gets(&slow) == 12).await;
    let waits = second.pull(&sha256(&bytes)).unwrap();
    until("the second server has asked", || {
        slow.lines().iter().any(|line| line.ends_with(&sha256(&bytes).to_string()))
    })
    .await;
    read_soon(&first, &bytes).await;
    let size = tokio::time::timeout(Duration::from_mins(1), waits.size()).await;
    assert_eq!(size.expect("it does not look").unwrap(), 100_000);
    assert_eq!(gets(&slow), 12);
    drop(pulls);
}

#[tokio::test]
async fn a_digest_that_no_upstream_has_leaves_nothing_in_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hostile::start(|_| answer(404, &[], b"{}")).await;
    let server = server(directory.path(), &[hub.port]);
    let before = files(directory.path());
    for number in 0..20 {
        let (_, error) = server.read(&unknown(number)).await;
        assert!(matches!(error, Some(Error::Unanswered { .. })), "{error:?}");
    }
    assert_eq!(files(directory.path()), before);
    assert_eq!(gets(&hub), 0);
    // a manifest lists it, so nobody asks whether it is there; then the upload that was begun is cancelled
    cache_image(&server, b"config", 6).await;
    let (_, error) = server.read(&sha256("config")).await;
    assert!(matches!(error, Some(Error::Unanswered { .. })), "{error:?}");
    assert_eq!(hub.lines().last().unwrap(), &format!("GET /v2/hub/app/blobs/{}", sha256("config")));
    let uploads = directory.path().join("uploads").read_dir().unwrap();
    let ids: Vec<UploadId> =
        uploads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let view = server.registry.uploads.view(&name(), &ids[0]).await.unwrap();
    assert!(view.as_ref().is_none_or(|view| view.end.is_some()), "{view:?}");
    let metrics = server.metrics.render();
    assert!(metrics.contains("\nsimple_registry_uploads_open 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_client_with_too_many_downloads_is_turned_away_and_still_gets_stale_tags() {
    let directory = tempfile::tempdir().unwrap();
    let image = index(1, &[]);
    let (said, silent) = (image.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let is_silent = Arc::clone(&silent);
    let hub = Hostile::start(move |seen| {
        if is_silent.load(std::sync::atomic::Ordering::Relaxed) { Reply::Silence } else { whole(seen, &said) }
    })
    .await;
    let server = server(directory.path(), &[hub.port]);
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&image), Served::Miss));
    silent.store(true, std::sync::atomic::Ordering::Relaxed);
    let pulls: Vec<Pull> = (0..256).map(|number| server.pull(&unknown(number)).unwrap()).collect();
    assert!(matches!(server.pull(&unknown(256)), Err(Error::Busy)));
    assert!(server.pull(&unknown(0)).is_ok(), "it joins a download that is under way");
    assert!(server.pull_by(2, &unknown(256)).is_ok());
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&image), Served::Stale));
    assert!(matches!(server.manifest("other").await, Err(Error::Busy)));
    drop(pulls);
}

#[tokio::test]
async fn a_manifest_takes_memory_once_its_size_is_known_until_it_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let image = index(1, &[]);
    let (said, without_length) = (image.clone(), sha256("a manifest without a length").to_string());
    let hub = Hostile::start(move |seen| match whole(seen, &said) {
        Reply::Bytes(_) if seen.line.ends_with(&without_length) => {
            Reply::Bytes(b"HTTP/1.1 200 x\r\n\r\nno manifest".to_vec())
        }
        whole => whole,
    })
    .await;
    let server = server(directory.path(), &[hub.port]);
    // a clone that is left is memory that was not given back
    let (taken, held) = (Arc::new(Mutex::new(Vec::new())), Arc::new(()));
    let (wanted, lent) = (Arc::clone(&taken), Arc::downgrade(&held));
    let memory: TakeMemory = Arc::new(move |bytes| {
        wanted.lock().unwrap().push(bytes);
        Box::pin(ready(lent.upgrade().map(|lent| Box::new(lent) as _)))
    });
    let taken = || std::mem::take(&mut *taken.lock().unwrap());
    assert_eq!(server.manifest_with("latest", Arc::clone(&memory)).await.unwrap(), (sha256(&image), Served::Miss));
    assert_eq!(taken(), [image.len() as u64]);
    assert!(server.manifest_with("latest", Arc::clone(&memory)).await.is_ok());
    assert_eq!(taken(), [] as [u64; 0], "it was here");
    let unsaid = sha256("a manifest without a length").to_string();
    assert!(server.manifest_with(&unsaid, Arc::clone(&memory)).await.is_err());
    assert_eq!(taken(), [LIMIT]);
    assert_eq!(Arc::strong_count(&held), 1, "all memory was given back");
    // there is none any more
    drop(held);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Server::start(elsewhere.path(), &[hub.port]);
    match other.manifest_with("latest", memory).await {
        Err(Error::Unanswered { unanswered, .. }) => assert_eq!(unanswered.kind(), Kind::Busy),
        other => panic!("{other:?}"),
    }
    assert_eq!(other.stored("latest").await, None, "nothing is kept");
}
