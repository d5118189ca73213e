//! Limits of requests, and the time of all questions of one pull.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use simple_registry::upstream::{Kind, Reason, Settings, Unanswered};

use super::{
    MOST, ana, digest,
    hostile::{Hostile, Reply, Seen, answer},
    index, latest, settings, upstreams,
};

#[tokio::test]
async fn a_limit_of_requests_is_respected_and_the_next_upstream_answers() {
    let limited = Hostile::start(|_| answer(429, &[("retry-after", "100")], b"")).await;
    let right = Hostile::start(index).await;
    let both = upstreams([settings(limited.port), settings(right.port)]);
    for _ in 0..3 {
        both.manifest("app", &latest(), &MOST).await.unwrap();
    }
    assert_eq!((limited.lines().len(), right.lines().len()), (1, 3));
}

/// Starts an upstream that limits the requests whose line begins so.
async fn limits(start: &'static str) -> Hostile {
    Hostile::start(move |seen| match seen.line.starts_with(start) {
        true => answer(429, &[("retry-after", "100")], b""),
        false if seen.line.contains("/blobs/") => answer(200, &[], b"bytes"),
        false => index(seen),
    })
    .await
}

fn is_limited<T>(outcome: Result<T, Unanswered>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(unanswered) if matches!(unanswered.reasons[0].1, Reason::Limited { .. }) => true,
        Err(unanswered) => panic!("{unanswered}"),
    }
}

#[tokio::test]
async fn a_refused_kind_of_request_is_not_sent_again_and_the_others_are() {
    for (start, expected) in [
        ("GET /v2/hub/app/manifests/", [false, true, false]),
        ("HEAD /v2/hub/app/manifests/", [true, true, false]),
        ("GET /v2/hub/app/blobs/", [false, false, true]),
    ] {
        let hub = limits(start).await;
        let one = upstreams([settings(hub.port)]);
        for round in 0..2 {
            let described = is_limited(one.describe("app", &latest()).await);
            let fetched = is_limited(one.manifest("app", &latest(), &MOST).await);
            let blob = is_limited(one.blob("app", &digest(b"bytes"), 0).await);
            assert_eq!([described, fetched, blob], expected, "{start}, round {round}");
        }
        assert_eq!(hub.lines().iter().filter(|line| line.starts_with(start)).count(), 1, "{start}");
    }
}

#[tokio::test]
async fn the_last_manifest_of_a_limit_keeps_nobody_from_blobs() {
    let hub = Hostile::start(|seen| {
        if seen.line.contains("/blobs/") {
            return answer(200, &[], b"bytes");
        }
        answer(404, &[("ratelimit-remaining", "0;w=21600")], b"")
    })
    .await;
    let one = upstreams([settings(hub.port)]);
    one.manifest("app", &latest(), &MOST).await.unwrap_err();
    assert!(is_limited(one.manifest("app", &latest(), &MOST).await));
    let unanswered = one.describe("app", &latest()).await.unwrap_err();
    assert_eq!(unanswered.reasons[0].1, Reason::NotFound);
    one.blob("app", &digest(b"bytes"), 0).await.unwrap();
}

#[tokio::test]
async fn a_limit_of_logins_holds_for_everything() {
    let hub = Hostile::start(|seen| {
        if seen.line.starts_with("GET /token") {
            return answer(429, &[("retry-after", "100")], b"");
        }
        let port = seen.header("host").unwrap().split_once(':').unwrap().1;
        let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"hub\"");
        answer(401, &[("www-authenticate", &challenge)], b"")
    })
    .await;
    let one = upstreams([Settings { credentials: Some(ana()), ..settings(hub.port) }]);
    assert!(is_limited(one.blob("app", &digest(b"bytes"), 0).await));
    assert!(is_limited(one.describe("app", &latest()).await));
    assert!(is_limited(one.manifest("app", &latest(), &MOST).await));
    assert!(is_limited(one.tags("app", 10, None).await));
    assert_eq!(hub.lines().len(), 2);
}

#[tokio::test]
async fn a_limit_of_the_host_behind_a_redirect_is_not_the_upstreams() {
    let store = Hostile::start(|_| answer(429, &[("retry-after", "100")], b"")).await;
    let place = format!("http://127.0.0.1:{}/stored", store.port);
    let hub = Hostile::start(move |seen| {
        let is_blob = seen.line.contains("/blobs/");
        if is_blob { answer(307, &[("location", &place)], b"") } else { index(seen) }
    })
    .await;
    let next = Hostile::start(|_| answer(200, &[], b"bytes")).await;
    let both = upstreams([settings(hub.port), settings(next.port)]);
    for _ in 0..2 {
        let blob = both.blob("app", &digest(b"bytes"), 0).await.unwrap();
        let expected = Reason::LimitedBehind { host: "127.0.0.1".to_owned(), retry_after: Duration::from_secs(100) };
        assert_eq!(blob.before.reasons[0].1, expected);
    }
    both.manifest("app", &latest(), &MOST).await.unwrap();
    assert_eq!((hub.lines().len(), next.lines().len()), (3, 2));
    let alone = upstreams([settings(hub.port)]).blob("app", &digest(b"bytes"), 0).await.err().unwrap();
    assert_eq!(alone.retry_after(), Some(Duration::from_secs(100)), "a client learns when to come again");
}

#[tokio::test]
async fn a_reader_of_a_blob_that_waits_for_its_store_gets_the_rest() {
    let bytes = vec![7; 30_000_000];
    let sent = bytes.clone();
    let hub = Hostile::start(move |_| answer(200, &[], &sent)).await;
    let one = upstreams([Settings { timeout: Duration::from_millis(200), ..settings(hub.port) }]);
    let mut blob = one.blob("app", &digest(&bytes), 0).await.unwrap().value;
    let mut length = blob.bytes.next().await.unwrap().unwrap().len();
    while let Some(piece) = blob.bytes.next().now_or_never() {
        length += piece.unwrap().unwrap().len();
    }
    // nobody looks for longer than the upstream may be silent
    tokio::time::sleep(Duration::from_millis(600)).await;
    while let Some(piece) = blob.bytes.next().await {
        length += piece.unwrap().len();
    }
    assert_eq!(length, bytes.len());
}

/// Starts an upstream that answers with a manifest, and says nothing to those whose line begins so.
async fn silent_to(start: &'static str) -> Hostile {
    Hostile::start(move |seen: &Seen| if seen.line.starts_with(start) { Reply::Silence } else { index(seen) }).await
}

#[tokio::test]
async fn an_upstream_that_was_silent_is_asked_last_for_the_rest_of_a_pull() {
    let (silent, right) = (silent_to("HEAD").await, Hostile::start(index).await);
    let short = Settings { timeout: Duration::from_millis(300), ..settings(silent.port) };
    let both = upstreams([short, settings(right.port)]);
    let pull = both.for_one_pull();
    pull.describe("app", &latest()).await.unwrap();
    pull.manifest("app", &latest(), &MOST).await.unwrap();
    assert_eq!((silent.lines().len(), right.lines().len()), (1, 2));
    // another pull begins with the first one
    both.for_one_pull().manifest("app", &latest(), &MOST).await.unwrap();
    assert_eq!((silent.lines().len(), right.lines().len()), (2, 2));
}

#[tokio::test]
async fn all_questions_of_a_pull_share_one_time() {
    let (first, second) = (silent_to("HEAD").await, Hostile::start(index).await);
    let both = upstreams([settings(first.port), settings(second.port)]).within(Duration::from_millis(300));
    let pull = both.for_one_pull();
    let head = pull.describe("app", &latest()).await.unwrap_err();
    assert!(matches!(head.reasons[0].1, Reason::Silent(_)), "{head}");
    // a question with a time for itself would get an answer
    let get = pull.manifest("app", &latest(), &MOST).await.unwrap_err();
    for unanswered in [&head, &get] {
        assert!(unanswered.reasons.iter().any(|(_, reason)| *reason == Reason::NotAsked), "{unanswered}");
        assert_eq!(unanswered.kind(), Kind::Silent);
    }
    assert_eq!((first.lines().len(), second.lines().len()), (1, 0));
    both.manifest("app", &latest(), &MOST).await.unwrap();
}
