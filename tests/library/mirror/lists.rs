//! Lists of caches whose upstreams do not answer.

use std::sync::Arc;

use simple_registry::{action::Page, mirror::Served, upstream::Kind};

use super::{Error, Hostile, Server, answer, blobs::cache_image, client, name};
use crate::support::sha256;

fn kind<T>(outcome: Result<T, Error>) -> Kind {
    match outcome.err() {
        Some(Error::Unanswered { unanswered, .. }) => unanswered.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn lists_of_the_cache_answer_for_a_failing_upstream_unless_stale_answers_are_off() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Hostile::start(|_| answer(503, &[], b"")).await;
    let mut server = Server::start(directory.path(), &[hub.port]);
    cache_image(&server, b"config", 6).await;
    let (name, page, subject) = (name(), Page::default(), sha256("subject"));
    let tags = server.mirror.tags(&server.cached, &name, &page, client(1)).await.unwrap();
    assert_eq!((tags.served, tags.value.entries.len()), (Served::Stale, 0));
    let referrers = server.mirror.referrers(&server.cached, &name, &subject, client(1)).await.unwrap();
    assert_eq!((referrers.served, referrers.value.len()), (Served::Stale, 0));
    Arc::get_mut(&mut server.cached.namespace).unwrap().stale_if_error = false;
    assert_eq!(kind(server.mirror.tags(&server.cached, &name, &page, client(1)).await), Kind::Unavailable);
    assert_eq!(kind(server.mirror.referrers(&server.cached, &name, &subject, client(1)).await), Kind::Unavailable);
}
