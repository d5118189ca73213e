//! Manifests and tags of caches, from upstreams that answer wrongly.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use simple_registry::{
    action::Page,
    mirror::{ManifestPull, Served, TakeMemory, memory_enough},
    oci::{Digest, Reference},
    upstream::{Credentials, Kind, Upstreams},
};

use super::{Error, Hostile, Reply, Seen, Server, answer, by, client, name, upstream_with};
use crate::support::sha256;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const LIMIT: u64 = 1 << 20;

/// Returns an index that names children, and differs from others by its number.
pub(super) fn index(number: u32, children: &[&[u8]]) -> Vec<u8> {
    let children: Vec<String> = children
        .iter()
        .map(|child| format!(r#"{{"mediaType":"{INDEX}","digest":"{}","size":{}}}"#, sha256(child), child.len()))
        .collect();
    let (children, note) = (children.join(","), format!(r#""annotations":{{"number":"{number}"}}"#));
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}],{note}}}"#).into_bytes()
}

/// An upstream whose manifests and answers change while it runs.
#[derive(Clone, Default)]
pub(super) struct Hub(Arc<Mutex<HashMap<String, Answer>>>);

pub(super) type Answer = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

impl Hub {
    pub(super) async fn start(&self) -> Hostile {
        let hub = self.clone();
        Hostile::start(move |seen| hub.answer(seen)).await
    }

    /// Answers so to requests for a tag or digest.
    pub(super) fn on(&self, reference: &str, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.0.lock().unwrap().insert(reference.to_owned(), Arc::new(reply));
    }

    /// Answers so to every request.
    pub(super) fn on_all(&self, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.0.lock().unwrap().clear();
        self.on("", reply);
    }

    /// Has a manifest under its digest, and under this tag.
    pub(super) fn has(&self, tag: &str, manifest: &[u8]) {
        for reference in [tag, &sha256(manifest).to_string()] {
            let manifest = manifest.to_vec();
            self.on(reference, move |seen| whole(seen, &manifest));
        }
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let answers = self.0.lock().unwrap();
        let reference = seen.line.rsplit('/').next().unwrap();
        let found = answers.get(reference).or_else(|| answers.get(""));
        found.map_or_else(|| answer(404, &[], b"{}"), |reply| reply(seen))
    }
}

/// Answers with a manifest, or with its head.
pub(super) fn whole(seen: &Seen, manifest: &[u8]) -> Reply {
    let digest = sha256(manifest).to_string();
    let reply = answer(200, &[("content-type", INDEX), ("docker-content-digest", &digest)], manifest);
    match reply {
        Reply::Bytes(bytes) if seen.line.starts_with("HEAD") => {
            Reply::Bytes(bytes[..bytes.len() - manifest.len()].to_vec())
        }
        whole => whole,
    }
}

impl Server {
    pub(super) async fn manifest(&self, reference: &str) -> Result<(Digest, Served), Error> {
        self.manifest_with(reference, memory_enough()).await
    }

    /// Pulls a manifest whose memory is taken so.
    pub(super) async fn manifest_with(&self, reference: &str, memory: TakeMemory) -> Result<(Digest, Served), Error> {
        let pull = ManifestPull {
            cached: self.cached.clone(),
            name: name(),
            largest: LIMIT,
            memory,
            immutable: Arc::new(|_| false),
            by: by(),
            client: client(1),
        };
        let answered = self.mirror.manifest(&pull, &reference.parse().unwrap(), &|_, _| false).await?;
        assert_eq!(sha256(&answered.value.bytes), answered.value.digest);
        Ok((answered.value.digest, answered.served))
    }

    /// Returns the kind of the error of a pull that gives nothing.
    pub(super) async fn refusal(&self, reference: &str) -> Kind {
        match self.manifest(reference).await {
            Err(Error::Unanswered { unanswered, .. }) => unanswered.kind(),
            other => panic!("{reference}: {other:?}"),
        }
    }

    /// Returns the meaning that a tag or digest has in the store.
    pub(super) async fn stored(&self, reference: &str) -> Option<Digest> {
        let reference: Reference = reference.parse().unwrap();
        self.registry.manifests.get(&name(), &reference).await.ok().map(|manifest| manifest.digest)
    }

    pub(super) async fn is_empty(&self) -> bool {
        self.registry.tags.list(&name(), &Page::default()).await.is_err()
    }
}

/// Starts a cache with changed settings of its upstream.
fn server_with(
    directory: &std::path::Path,
    hub: &Hostile,
    change: impl FnOnce(&mut simple_registry::upstream::Settings),
) -> Server {
    let upstreams = Upstreams::new(vec![upstream_with(hub.port, change)]);
    let mut server = Server::start(directory, &[]);
    Arc::get_mut(&mut server.cached.namespace).unwrap().upstreams = upstreams;
    server
}

#[tokio::test]
async fn a_wrong_manifest_is_neither_given_nor_kept_and_takes_nothing_away() {
    let wrong: [(&str, Answer); 6] = [
        ("other bytes", Arc::new(|_| answer(200, &[("content-type", INDEX)], &index(9, &[])))),
        ("a web page", Arc::new(|_| answer(200, &[("content-type", "text/html")], b"<html>log in</html>"))),
        ("a web page as a manifest", Arc::new(|_| answer(200, &[("content-type", INDEX)], b"<html>log in</html>"))),
        ("a gigabyte", Arc::new(|_| Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 1073741824\r\n\r\n".to_vec()))),
        (
            "more than the limit",
            Arc::new(|_| Reply::Bytes([&b"HTTP/1.1 200 x\r\n\r\n"[..], &vec![b' '; 3 << 20]].concat())),
        ),
        ("half of it", Arc::new(|_| Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{".to_vec()))),
    ];
    let (first, second) = (index(1, &[]), index(2, &[]));
    for (what, reply) in wrong {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::default();
        let upstream = hub.start().await;
        let server = Server::start(directory.path(), &[upstream.port]);
        // the HEAD is right, and the bytes are not
        hub.has("latest", &first);
        let by_digest = sha256(&first).to_string();
        let bytes = Arc::clone(&reply);
        let said = first.clone();
        let wrong = move |seen: &Seen| if seen.line.starts_with("HEAD") { whole(seen, &said) } else { bytes(seen) };
        hub.on(&by_digest, wrong);
        for reference in ["latest", &by_digest] {
            assert_eq!(server.refusal(reference).await, Kind::Unavailable, "{what}");
        }
        assert!(server.is_empty().await && server.stored(&by_digest).await.is_none(), "{what}");
        // the same after a good day
        hub.has("latest", &first);
        assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Miss), "{what}");
        hub.has("latest", &second);
        hub.on(&sha256(&second).to_string(), move |seen| reply(seen));
        assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Stale), "{what}");
        assert_eq!(server.manifest(&by_digest).await.unwrap(), (sha256(&first), Served::Hit), "{what}");
        assert_eq!(server.stored("latest").await, Some(sha256(&first)), "{what}");
        assert_eq!(server.stored(&sha256(&second).to_string()).await, None, "{what}");
    }
}

#[tokio::test]
async fn a_tag_that_moves_between_head_and_get_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (index(1, &[]), index(2, &[]));
    let hub = Hub::default();
    let upstream = hub.start().await;
    // the HEAD still sees the first manifest, which is gone when it is fetched
    hub.has("latest", &second);
    let said = first.clone();
    let now = second.clone();
    hub.on("latest", move |seen| whole(seen, if seen.line.starts_with("HEAD") { &said } else { &now }));
    let server = Server::start(directory.path(), &[upstream.port]);
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&second), Served::Miss));
    assert_eq!(server.stored("latest").await, Some(sha256(&second)));
    let latest = "/v2/hub/app/manifests/latest";
    let gone = format!("GET /v2/hub/app/manifests/{}", sha256(&first));
    assert_eq!(upstream.lines(), [format!("HEAD {latest}"), gone, format!("GET {latest}")]);
}

#[tokio::test]
async fn a_tag_that_vanishes_stays_here_and_was_never_there_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (index(1, &[]), index(2, &[]));
    let hub = Hub::default();
    let upstream = hub.start().await;
    let server = Server::start(directory.path(), &[upstream.port]);
    hub.has("latest", &first);
    server.manifest("latest").await.unwrap();
    // it vanishes between HEAD and GET, and then altogether
    for tag in ["latest", "new"] {
        let said = second.clone();
        hub.on(
            tag,
            move |seen| {
                if seen.line.starts_with("HEAD") { whole(seen, &said) } else { answer(404, &[], b"{}") }
            },
        );
    }
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Stale));
    assert_eq!(server.refusal("new").await, Kind::NotFound);
    hub.on("latest", |_| answer(404, &[], b""));
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Stale));
    assert_eq!(server.stored("latest").await, Some(sha256(&first)));
    assert_eq!(server.stored("new").await, None);
}

#[tokio::test]
async fn an_index_is_served_while_a_child_of_it_is_missing_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let child = index(1, &[]);
    let parent = index(2, &[&child]);
    let hub = Hub::default();
    let upstream = hub.start().await;
    let server = Server::start(directory.path(), &[upstream.port]);
    hub.has("latest", &parent);
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&parent), Served::Miss));
    let digest = sha256(&child).to_string();
    assert_eq!(server.refusal(&digest).await, Kind::NotFound);
    hub.has("child", &child);
    // a server that has not asked for it a moment ago
    let other = Server::start(directory.path(), &[upstream.port]);
    assert_eq!(other.manifest(&digest).await.unwrap(), (sha256(&child), Served::Miss));
    assert_eq!(other.stored("latest").await, Some(sha256(&parent)));
}

#[tokio::test]
async fn a_limit_of_requests_is_told_only_where_nothing_is_here() {
    for retry_after in ["7200", "Fri, 27 Nov 2099 12:50:33 GMT"] {
        let directory = tempfile::tempdir().unwrap();
        let first = index(1, &[]);
        let hub = Hub::default();
        let upstream = hub.start().await;
        let server = Server::start(directory.path(), &[upstream.port]);
        hub.has("latest", &first);
        server.manifest("latest").await.unwrap();
        hub.on_all(move |_| answer(429, &[("retry-after", retry_after)], b""));
        let before = upstream.lines().len();
        for _ in 0..3 {
            assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Stale));
        }
        for reference in ["other", &sha256("nothing").to_string()] {
            let Err(Error::Unanswered { unanswered, .. }) = server.manifest(reference).await else { panic!() };
            assert_eq!(unanswered.kind(), Kind::Limited);
            assert!(unanswered.retry_after().unwrap() > Duration::from_secs(7000), "{unanswered:?}");
        }
        assert_eq!(upstream.lines().len(), before + 1, "it was left alone");
        // with `stale_if_error = false`
        let upstreams = server.cached.namespace.upstreams.clone();
        let mut strict = Server::start(directory.path(), &[]);
        let namespace = Arc::get_mut(&mut strict.cached.namespace).unwrap();
        (namespace.upstreams, namespace.stale_if_error) = (upstreams, false);
        assert_eq!(strict.refusal("latest").await, Kind::Limited);
        assert_eq!(strict.stored("latest").await, Some(sha256(&first)));
    }
}

#[tokio::test]
async fn a_401_for_a_name_means_that_there_is_no_such_thing() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::default();
    let upstream = hub.start().await;
    hub.on_all(|_| answer(401, &[("www-authenticate", "Basic realm=\"hub\"")], b"<html>"));
    let server = Server::start(directory.path(), &[upstream.port]);
    assert_eq!(server.refusal("latest").await, Kind::NotFound);
    let message = server.manifest("latest").await.unwrap_err().to_string();
    assert!(message.ends_with("127.0.0.1: 401, no access to this repository"), "{message}");
    assert!(server.is_empty().await);
}

#[tokio::test]
async fn refused_credentials_are_a_fault_of_the_configuration_and_take_nothing_away() {
    let directory = tempfile::tempdir().unwrap();
    let first = index(1, &[]);
    let hub = Hub::default();
    let upstream = hub.start().await;
    let server = server_with(directory.path(), &upstream, |settings| {
        settings.credentials = Some(Credentials { username: "ana".to_owned(), password: "secret".into() });
    });
    hub.has("latest", &first);
    server.manifest("latest").await.unwrap();
    hub.on_all(|_| answer(401, &[("www-authenticate", "Basic realm=\"hub\"")], b""));
    assert_eq!(server.refusal("other").await, Kind::Configuration);
    assert_eq!(server.manifest("latest").await.unwrap(), (sha256(&first), Served::Stale));
}

#[tokio::test]
async fn all_who_wait_for_a_silent_upstream_get_one_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let first = index(1, &[]);
    let hub = Hub::default();
    let upstream = hub.start().await;
    let server = server_with(directory.path(), &upstream, |settings| settings.timeout = Duration::from_secs(2));
    hub.has("latest", &first);
    server.manifest("latest").await.unwrap();
    hub.on_all(|_| Reply::Silence);
    let absent = sha256("nothing").to_string();
    for (reference, is_here) in [("latest", true), ("other", false), (&*absent, false)] {
        let before = upstream.lines().len();
        for outcome in futures::future::join_all((0..20).map(|_| server.manifest(reference))).await {
            match outcome {
                Ok(answer) => assert_eq!((answer, is_here), ((sha256(&first), Served::Stale), true)),
                Err(Error::Unanswered { unanswered, .. }) => {
                    assert_eq!((unanswered.kind(), is_here), (Kind::Silent, false));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(upstream.lines().len(), before + 1, "{reference} was asked for once");
    }
}

#[tokio::test]
async fn an_upstream_that_fails_now_and_then_is_not_seen_once_a_tag_is_here() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::default();
    let upstream = hub.start().await;
    let server = Server::start(directory.path(), &[upstream.port]);
    hub.on("latest", |_| answer(503, &[], b""));
    assert_eq!(server.refusal("latest").await, Kind::Unavailable);
    let mut last = None;
    for number in 0..10 {
        let manifest = index(number, &[]);
        hub.has("latest", &manifest);
        let expected = if number % 3 == 2 {
            // the HEAD fails, or the GET after it
            let reference = if number == 5 { sha256(&manifest).to_string() } else { "latest".to_owned() };
            hub.on(&reference, |_| answer(503, &[], b""));
            (last.unwrap(), Served::Stale)
        } else {
            (sha256(&manifest), Served::Miss)
        };
        assert_eq!(server.manifest("latest").await.unwrap(), expected, "{number}");
        last = Some(expected.0);
    }
}

#[tokio::test]
async fn a_silent_upstream_rests_although_each_client_leaves_before_its_question_ends() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hub::default();
    let upstream = hub.start().await;
    hub.on_all(|_| Reply::Silence);
    let asked = upstream_with(upstream.port, |settings| settings.timeout = Duration::from_millis(400));
    let mut server = Server::start(directory.path(), &[]);
    Arc::get_mut(&mut server.cached.namespace).unwrap().upstreams = Upstreams::new(vec![Arc::clone(&asked)]);
    for number in 0..5 {
        let tag = format!("v{number}");
        let mut pull = Box::pin(server.manifest(&tag));
        while upstream.lines().len() <= number {
            assert!(futures::poll!(&mut pull).is_pending(), "the upstream is silent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let rests = async {
        while !asked.is_resting() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rests).await.expect("the upstream rests after five silences");
    let message = server.manifest("other").await.unwrap_err().to_string();
    assert!(message.contains("not asked, since it was silent a moment ago"), "{message}");
    assert_eq!(upstream.lines().len(), 5);
}
