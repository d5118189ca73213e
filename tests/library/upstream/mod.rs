//! The client of other registries, against upstreams that answer wrongly, slowly, and not at all.

mod asks;
mod certificates;
mod configured;
pub(crate) mod hostile;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use simple_registry::{
    memory::Memory,
    oci::{Algorithm, Digest, Reference},
    upstream::{Answer, Base, Credentials, Kind, Reason, Settings, Unanswered, Upstream, Upstreams},
};

use self::hostile::{Hostile, Reply, Seen, answer};

const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const INDEX: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const MOST: u64 = 1 << 20;

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn settings(port: u16) -> Settings {
    Settings {
        base: Base::parse(&format!("http://127.0.0.1:{port}/v2/hub")).unwrap(),
        max_redirect: 5,
        server_ca_bundle: None,
        client_identity: None,
        credentials: None,
        timeout: Duration::from_secs(20),
        token_hosts: Vec::new(),
        redirect_hosts: Vec::new(),
    }
}

fn ana() -> Credentials {
    Credentials { username: "ana".to_owned(), password: "secret".into() }
}

fn upstreams(all: impl IntoIterator<Item = Settings>) -> Upstreams {
    Upstreams::new(
        all.into_iter().map(|settings| Arc::new(Upstream::new(settings, &Memory::new(1 << 20)).unwrap())).collect(),
    )
}

fn latest() -> Reference {
    "latest".parse().unwrap()
}

fn index(_: &Seen) -> Reply {
    answer(200, &[("content-type", MEDIA_TYPE)], INDEX)
}

/// Asks one upstream for a manifest by tag, and returns why it gave none.
async fn refused(settings: Settings) -> Reason {
    let unanswered = upstreams([settings]).manifest("app", &latest(), &MOST).await.unwrap_err();
    unanswered.reasons[0].1.clone()
}

#[tokio::test]
async fn a_manifest_comes_with_its_digest_and_type() {
    let hub = Hostile::start(index).await;
    let Answer { upstream, value, .. } =
        upstreams([settings(hub.port)]).manifest("app", &latest(), &MOST).await.unwrap();
    assert_eq!((&*upstream, value.digest, &*value.bytes), ("127.0.0.1", digest(INDEX), INDEX));
    assert_eq!(value.media_type.as_str(), MEDIA_TYPE);
    assert_eq!(hub.lines(), ["GET /v2/hub/app/manifests/latest"]);
    assert!(hub.seen()[0].header("accept").unwrap().contains(MEDIA_TYPE));
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_the_next_upstream_is_asked() {
    let wrong = Hostile::start(|_| answer(200, &[("content-type", MEDIA_TYPE)], b"{\"schemaVersion\":2}")).await;
    let right = Hostile::start(index).await;
    let by_digest = Reference::Digest(digest(INDEX));
    let both = upstreams([settings(wrong.port), settings(right.port)]);
    assert_eq!(both.manifest("app", &by_digest, &MOST).await.unwrap().value.digest, digest(INDEX));
    let alone = upstreams([settings(wrong.port)]).manifest("app", &by_digest, &MOST).await.unwrap_err();
    assert!(matches!(alone.reasons[0].1, Reason::WrongDigest(_)), "{alone}");
    // by tag, the digest that the upstream itself says counts
    let said = digest(b"other").to_string();
    let lying =
        Hostile::start(move |_| answer(200, &[("content-type", MEDIA_TYPE), ("docker-content-digest", &said)], INDEX))
            .await;
    assert!(matches!(refused(settings(lying.port)).await, Reason::WrongDigest(_)));
}

#[tokio::test]
async fn an_answer_that_is_no_manifest_is_refused() {
    for (kind, body) in [
        ("text/html; charset=utf-8", &b"<html>log in</html>"[..]),
        ("text/html", INDEX),
        (MEDIA_TYPE, b"[]"),
        (MEDIA_TYPE, b""),
        ("application/vnd.oci.image.manifest.v1+json", INDEX),
    ] {
        let hub = Hostile::start(move |_| answer(200, &[("content-type", kind)], body)).await;
        let reason = refused(settings(hub.port)).await;
        assert!(matches!(reason, Reason::WrongAnswer(_)), "{kind}: {reason}");
    }
    // many registries behind a file server send JSON as it is
    let plain = Hostile::start(|_| answer(200, &[("content-type", "application/json")], INDEX)).await;
    let found = upstreams([settings(plain.port)]).manifest("app", &latest(), &MOST).await.unwrap();
    assert_eq!(found.value.media_type.as_str(), MEDIA_TYPE);
}

#[tokio::test]
async fn an_answer_has_a_limit_in_size_and_in_time() {
    let said =
        Hostile::start(|_| Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 99999999999\r\n\r\n".to_vec())).await;
    assert_eq!(refused(settings(said.port)).await, Reason::TooLarge(MOST));
    let unsaid =
        Hostile::start(|_| Reply::Bytes([&b"HTTP/1.1 200 x\r\n\r\n"[..], &vec![b' '; 2 << 20]].concat())).await;
    assert_eq!(refused(settings(unsaid.port)).await, Reason::TooLarge(MOST));
    let short = |port| Settings { timeout: Duration::from_millis(300), ..settings(port) };
    let silent = Hostile::start(|_| Reply::Silence).await;
    assert!(matches!(refused(short(silent.port)).await, Reason::Silent(_)));
    let drips = Hostile::start(|_| Reply::Drip(b"HTTP/1.1 200 x\r\n\r\n".to_vec())).await;
    assert!(matches!(refused(short(drips.port)).await, Reason::Silent(_)));
    let drips = Hostile::start(|_| Reply::Drip(b"HTTP/1.1 200 x\r\nx-head: ".to_vec())).await;
    assert!(matches!(refused(short(drips.port)).await, Reason::Silent(_)));
}

/// Answers with the index to whoever has the token of the realm at this host.
fn with_token(realm_host: &'static str) -> impl Fn(&Seen) -> Reply {
    move |seen| {
        if seen.line.starts_with("GET /token") {
            return answer(200, &[], br#"{"token":"abc","expires_in":300}"#);
        }
        if seen.header("authorization") == Some("Bearer abc") {
            return answer(200, &[("content-type", MEDIA_TYPE)], INDEX);
        }
        let port = seen.header("host").unwrap().split_once(':').unwrap().1;
        let challenge = format!("Bearer realm=\"http://{realm_host}:{port}/token\",service=\"hub\"");
        answer(401, &[("www-authenticate", &challenge)], b"")
    }
}

#[tokio::test]
async fn one_token_serves_all_requests_about_a_repository() {
    let hub = Hostile::start(with_token("127.0.0.1")).await;
    let one = upstreams([Settings { credentials: Some(ana()), ..settings(hub.port) }]);
    for _ in 0..3 {
        one.manifest("app", &latest(), &MOST).await.unwrap();
    }
    let manifest = "GET /v2/hub/app/manifests/latest";
    let token = "GET /token?service=hub&account=ana&scope=repository%3Ahub%2Fapp%3Apull";
    assert_eq!(hub.lines(), [manifest, token, manifest, manifest, manifest]);
    let authorization: Vec<_> = hub.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    let basic = Some("Basic YW5hOnNlY3JldA==".to_owned());
    let bearer = Some("Bearer abc".to_owned());
    assert_eq!(authorization, [None, basic, bearer.clone(), bearer.clone(), bearer]);
}

#[tokio::test]
async fn a_realm_on_a_strangers_host_never_sees_the_credentials() {
    let hub = Hostile::start(with_token("localhost")).await;
    let with = |token_hosts| Settings { credentials: Some(ana()), token_hosts, ..settings(hub.port) };
    assert_eq!(refused(with(Vec::new())).await, Reason::Realm("localhost".to_owned()));
    assert!(hub.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let named = upstreams([with(vec!["localhost".to_owned()])]);
    named.manifest("app", &latest(), &MOST).await.unwrap();
    // without credentials nothing can leak
    upstreams([settings(hub.port)]).manifest("app", &latest(), &MOST).await.unwrap();
}

#[tokio::test]
async fn refused_credentials_are_a_fault_of_the_configuration() {
    let basic = Hostile::start(|_| answer(401, &[("www-authenticate", "Basic realm=\"hub\"")], b"")).await;
    let login = |port| Settings { credentials: Some(ana()), ..settings(port) };
    assert_eq!(refused(login(basic.port)).await, Reason::CredentialsRefused);
    assert_eq!(basic.lines().len(), 2, "the login is tried once");
    assert_eq!(refused(settings(basic.port)).await, Reason::Denied(401));
    let realm = Hostile::start(|seen| {
        let refuses = seen.line.starts_with("GET /token");
        if refuses { answer(401, &[], b"") } else { with_token("127.0.0.1")(seen) }
    })
    .await;
    let unanswered = upstreams([login(realm.port)]).manifest("app", &latest(), &MOST).await.unwrap_err();
    assert_eq!(unanswered.kind(), Kind::Configuration);
    // a token that is given and then refused: the repository is not the account's, or does not exist
    let denied = Hostile::start(|seen| {
        let gives = seen.line.starts_with("GET /token") || seen.header("authorization").is_none();
        if gives { with_token("127.0.0.1")(seen) } else { answer(401, &[("www-authenticate", "Basic")], b"") }
    })
    .await;
    let unanswered = upstreams([login(denied.port)]).manifest("app", &latest(), &MOST).await.unwrap_err();
    assert_eq!((unanswered.kind(), denied.lines().len()), (Kind::NotFound, 3));
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credentials() {
    let store = Hostile::start(|_| answer(200, &[], b"bytes")).await;
    let place = format!("http://127.0.0.1:{}/stored?signature=a", store.port);
    let hub = Hostile::start(move |seen| match seen.header("authorization") {
        Some("Bearer abc") => answer(307, &[("location", &place)], b""),
        _ => with_token("127.0.0.1")(seen),
    })
    .await;
    let one = upstreams([Settings { credentials: Some(ana()), ..settings(hub.port) }]);
    let blob = one.blob("app", &digest(b"bytes"), 0).await.unwrap().value;
    assert_eq!((blob.offset, blob.size), (0, Some(5)));
    assert_eq!(store.lines(), ["GET /stored?signature=a"]);
    assert_eq!(store.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_host_behind_a_redirect_has_no_say_in_the_login() {
    for status in [401, 403] {
        let store =
            Hostile::start(move |_| answer(status, &[("www-authenticate", "Basic realm=\"store\"")], b"")).await;
        let place = format!("http://127.0.0.1:{}/stored", store.port);
        let hub = Hostile::start(move |_| answer(307, &[("location", &place)], b"")).await;
        let login = Settings { credentials: Some(ana()), ..settings(hub.port) };
        let unanswered = upstreams([login]).blob("app", &digest(b"bytes"), 0).await.err().unwrap();
        assert_eq!((unanswered.kind(), &unanswered.reasons[0].1), (Kind::Unavailable, &Reason::Status(status)));
        assert_eq!((hub.lines().len(), store.lines().len()), (1, 1));
        assert!(hub.seen().iter().all(|seen| seen.header("authorization").is_none()));
    }
}

#[tokio::test]
async fn a_redirect_leads_neither_in_circles_nor_to_the_links_own_addresses() {
    let circle = Hostile::start(|_| answer(302, &[("location", "/v2/hub/app/manifests/latest")], b"")).await;
    assert_eq!(refused(settings(circle.port)).await, Reason::Redirects(5));
    assert_eq!(circle.lines().len(), 6);
    for place in ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/"] {
        let hub = Hostile::start(move |_| answer(302, &[("location", place)], b"")).await;
        let named = Settings { redirect_hosts: vec!["169.254.169.254".to_owned()], ..settings(hub.port) };
        assert!(matches!(refused(named).await, Reason::Address(_)), "{place}");
    }
    let file = Hostile::start(|_| answer(302, &[("location", "file:///etc/passwd")], b"")).await;
    assert_eq!(refused(settings(file.port)).await, Reason::Status(302));
}

#[tokio::test]
async fn an_upstream_that_fails_again_and_again_is_left_alone() {
    let broken = Hostile::start(|_| answer(502, &[("content-type", "text/html")], b"<html>")).await;
    let one = upstreams([settings(broken.port)]);
    let mut last = Unanswered::default();
    for _ in 0..10 {
        last = one.manifest("app", &latest(), &MOST).await.unwrap_err();
    }
    assert_eq!(last.reasons[0].1, Reason::Resting { was_silent: false });
    assert_eq!(broken.lines().len(), 5);
    // one that falls silent after the head of each answer
    let drips = Hostile::start(|_| Reply::Drip(b"HTTP/1.1 200 x\r\n\r\n".to_vec())).await;
    let one = upstreams([Settings { timeout: Duration::from_millis(300), ..settings(drips.port) }]);
    for _ in 0..7 {
        last = one.manifest("app", &latest(), &MOST).await.unwrap_err();
    }
    assert_eq!((&last.reasons[0].1, drips.lines().len()), (&Reason::Resting { was_silent: true }, 5));
}

#[tokio::test]
async fn every_upstream_is_asked_before_the_answer_is_that_nobody_has_it() {
    let statuses = [404_u16, 401, 403];
    let mut hubs = Vec::new();
    for status in statuses {
        hubs.push(Hostile::start(move |_| answer(status, &[("www-authenticate", "Basic")], b"<html>")).await);
    }
    let all = upstreams(hubs.iter().map(|hub| settings(hub.port)));
    let unanswered = all.manifest("app", &latest(), &MOST).await.unwrap_err();
    assert_eq!(unanswered.kind(), Kind::NotFound);
    let reasons: Vec<_> = unanswered.reasons.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [Reason::NotFound, Reason::Denied(401), Reason::Denied(403)]);
}

#[tokio::test]
async fn a_blob_goes_on_where_it_was_asked_to() {
    let part = |range: &'static str| move |_: &Seen| answer(206, &[("content-range", range)], b"tes");
    let hub = Hostile::start(part("bytes 2-4/5")).await;
    let blob = upstreams([settings(hub.port)]).blob("app", &digest(b"bytes"), 2).await.unwrap().value;
    assert_eq!((blob.offset, blob.size), (2, Some(5)));
    assert_eq!(hub.seen()[0].header("range"), Some("bytes=2-"));
    for range in ["bytes 0-2/5", "bytes 3-4/5", "bytes */5", ""] {
        let hub = Hostile::start(part(range)).await;
        let wrong = upstreams([settings(hub.port)]).blob("app", &digest(b"bytes"), 2).await.err().unwrap();
        assert!(matches!(wrong.reasons[0].1, Reason::WrongAnswer(_)), "{range}: {wrong}");
    }
    let whole = Hostile::start(|_| answer(200, &[], b"bytes")).await;
    let blob = upstreams([settings(whole.port)]).blob("app", &digest(b"bytes"), 2).await.unwrap().value;
    assert_eq!((blob.offset, blob.size), (0, Some(5)));
}

#[tokio::test]
async fn a_blob_that_is_cut_off_ends_in_an_error() {
    let cut = Hostile::start(|_| Reply::Bytes(b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nbytes".to_vec())).await;
    let blob = upstreams([settings(cut.port)]).blob("app", &digest(b"bytes"), 0).await.unwrap().value;
    let items: Vec<_> = blob.bytes.collect().await;
    assert!(matches!(items.last(), Some(Err(Reason::Connection(_)))), "{items:?}");
}

#[tokio::test]
async fn a_part_of_a_blob_that_is_shorter_or_longer_than_it_said_ends_in_an_error() {
    for (from, range) in [(0, "bytes 0-2/5"), (2, "bytes 2-4/6"), (2, "bytes 2-4/4")] {
        let hub = Hostile::start(move |_| answer(206, &[("content-range", range)], b"tes")).await;
        let blob = upstreams([settings(hub.port)]).blob("app", &digest(b"bytes"), from).await.unwrap().value;
        let items: Vec<_> = blob.bytes.collect().await;
        assert!(matches!(items.last(), Some(Err(Reason::WrongAnswer(_)))), "{range}: {items:?}");
    }
    let nothing = Hostile::start(|_| answer(202, &[], b"")).await;
    let refused = upstreams([settings(nothing.port)]).blob("app", &digest(b""), 0).await.err().unwrap();
    assert_eq!(refused.reasons[0].1, Reason::Status(202));
}

#[tokio::test]
async fn all_pages_of_referrers_together_have_a_limit() {
    let page = [referrers("many").into_bytes(), vec![b' '; 1 << 20]].concat();
    let hub = Hostile::start(move |_| answer(200, &[("link", "<?more>; rel=next")], &page)).await;
    let unanswered = upstreams([settings(hub.port)]).referrers("app", &digest(INDEX)).await.unwrap_err();
    assert!(matches!(unanswered.reasons[0].1, Reason::TooLarge(_)), "{unanswered}");
    assert_eq!(hub.lines().len(), 4);
}

#[tokio::test]
async fn tags_and_referrers_are_read_page_by_page() {
    let hub = Hostile::start(|seen| match seen.line.as_str() {
        "GET /v2/hub/app/tags/list?n=2" => answer(
            200,
            &[("link", "</v2/hub/app/tags/list?n=2&last=b>; rel=\"next\"")],
            br#"{"name":"x","tags":["a","b","no tag"]}"#,
        ),
        "GET /v2/hub/app/tags/list?n=2&last=b%26" => answer(200, &[], br#"{"name":"x","tags":null}"#),
        line if line.ends_with("after=1") => answer(200, &[], referrers("second").as_bytes()),
        line if line.contains("/referrers/") => {
            answer(200, &[("link", "<?after=1>; rel=next")], referrers("first").as_bytes())
        }
        _ => answer(404, &[], b""),
    })
    .await;
    let one = upstreams([settings(hub.port)]);
    let page = one.tags("app", 2, None).await.unwrap().value;
    assert_eq!(
        (page.tags.iter().map(ToString::to_string).collect::<Vec<_>>(), page.more),
        (vec!["a".into(), "b".into()], true)
    );
    let page = one.tags("app", 2, Some("b&")).await.unwrap().value;
    assert_eq!((page.tags.len(), page.more), (0, false));
    let found = one.referrers("app", &digest(INDEX)).await.unwrap().value;
    let kinds: Vec<_> = found.iter().map(|one| one.artifact_type.as_deref().unwrap()).collect();
    assert_eq!(kinds, ["first", "second"]);
}

fn referrers(kind: &str) -> String {
    let of = digest(kind.as_bytes());
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE}","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{of}","size":3,"artifactType":"{kind}"}}]}}"#
    )
}

#[tokio::test]
async fn referrers_are_those_of_the_first_upstream_that_has_any() {
    let empty = Hostile::start(|_| answer(404, &[], b"")).await;
    let hub = Hostile::start(|_| answer(200, &[], referrers("signature").as_bytes())).await;
    let both = upstreams([settings(empty.port), settings(hub.port)]);
    assert_eq!(both.referrers("app", &digest(INDEX)).await.unwrap().value.len(), 1);
    let neither = upstreams([settings(empty.port)]).referrers("app", &digest(INDEX)).await.unwrap();
    assert!(neither.value.is_empty());
}

#[tokio::test]
async fn referrers_of_an_upstream_without_the_api_are_those_of_the_tag() {
    let tag = format!("GET /v2/hub/app/manifests/sha256-{}", digest(INDEX).hex());
    let hub = Hostile::start(move |seen| {
        if seen.line == tag {
            return answer(200, &[("content-type", MEDIA_TYPE)], referrers("tagged").as_bytes());
        }
        answer(404, &[], b"")
    })
    .await;
    let one = upstreams([settings(hub.port)]);
    assert_eq!(one.referrers("app", &digest(INDEX)).await.unwrap().value.len(), 1);
    assert_eq!(one.referrers("app", &digest(b"other")).await.unwrap().value.len(), 0);
}
