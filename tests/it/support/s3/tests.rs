//! The S3 server is trusted by every test on S3, so that it is tested itself: its rules, and that it speaks to a client that is not ours.

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::services::S3 as Client;
use opendal::{ErrorKind, Operator};

use super::store::{Paging, State, etag};
use super::{ACCESS_KEY, Fault, MIN_PART, REGION, RUNTIME, S3, SECRET_KEY, create_bucket};
use crate::support::content::unique;

/// Returns a client of `bucket` that neither retries nor caches.
fn client(s3: &S3, secret: &str) -> Operator {
    opendal::install_default();
    create_bucket(s3.endpoint(), "bucket");
    let service = Client::default()
        .endpoint(s3.endpoint())
        .bucket("bucket")
        .region(REGION)
        .access_key_id(ACCESS_KEY)
        .secret_access_key(secret);
    Operator::new(service.disable_config_load().disable_ec2_metadata()).expect("an S3 client")
}

fn with_keys(keys: &[&str]) -> State {
    let mut state = State::default();
    state.buckets.entry("b".to_owned()).or_default();
    for key in keys {
        state.put("b", key, Bytes::new(), etag(b""), false).expect("put");
    }
    state
}

#[test]
fn a_listing_by_pages_is_the_listing_whatever_the_page() {
    let state = with_keys(&["a/1", "a/2", "a", "a!", "b/1/x", "b/2", "c", "d/"]);
    let whole = ["a", "a!", "a/", "b/", "c", "d/"];
    for limit in 1..=7 {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let paging = Paging {
                delimiter: "/",
                after: after.as_deref().unwrap_or_default(),
                resumed: after.is_some(),
                limit,
                ..Default::default()
            };
            let page = state.list("b", &paging).expect("a page");
            let mut entries: Vec<_> = page.objects.into_iter().map(|(key, _)| key).chain(page.prefixes).collect();
            entries.sort();
            seen.extend(entries);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, whole, "by {limit}");
    }
}

#[test]
fn a_listing_keeps_to_its_prefix_and_begins_after_a_key() {
    let state = with_keys(&["a/1", "a/2", "a/2/x", "a/3", "b"]);
    let paging = Paging { prefix: "a/", after: "a/2", limit: 10, ..Default::default() };
    let page = state.list("b", &paging).expect("a page");
    let keys: Vec<_> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a/2/x", "a/3"]);
    assert_eq!(page.next, None);
}

#[test]
fn parts_are_held_to_their_size_order_and_tags() {
    let mut state = with_keys(&[]);
    let id = state.begin_upload("b", "k").expect("an upload");
    let small = state.put_part("b", "k", &id, 1, Bytes::from(unique(MIN_PART - 1))).expect("a part");
    let last = state.put_part("b", "k", &id, 2, Bytes::from_static(b"end")).expect("a part");
    let mut complete = |parts: &[(i32, &String)]| {
        let parts: Vec<_> = parts.iter().map(|(number, tag)| (*number, (*tag).clone())).collect();
        state.complete("b", "k", &id, &parts, false).map_err(|error| error.code().as_str().to_owned())
    };
    assert_eq!(complete(&[(1, &small), (2, &last)]), Err("EntityTooSmall".to_owned()));
    assert_eq!(complete(&[(2, &last), (1, &small)]), Err("InvalidPartOrder".to_owned()));
    assert_eq!(complete(&[(1, &last)]), Err("InvalidPart".to_owned()));
    assert_eq!(complete(&[(3, &last)]), Err("InvalidPart".to_owned()));
    assert!(complete(&[(1, &small)]).is_ok_and(|tag| tag.ends_with("-1")));
    assert!(state.put_part("b", "k", &id, 3, Bytes::new()).is_err(), "a completed upload is gone");
    let id = state.begin_upload("b", "k").expect("an upload");
    assert!(state.put_part("b", "k", &id, 10_001, Bytes::new()).is_err());
}

#[test]
fn another_client_writes_reads_and_lists() {
    let s3 = S3::start();
    let operator = client(&s3, SECRET_KEY);
    RUNTIME.block_on(async {
        let data = unique(2 * MIN_PART + 10);
        let mut writer = operator.writer_with("deep/large").chunk(MIN_PART).await.expect("a writer");
        writer.write(data.clone()).await.expect("write");
        assert_eq!(s3.open_multiparts(), 1);
        writer.close().await.expect("close");
        assert_eq!(s3.open_multiparts(), 0);
        assert_eq!(operator.read("deep/large").await.expect("read").to_vec(), data);
        let part =
            operator.read_with("deep/large").range(MIN_PART as u64 - 5..MIN_PART as u64 + 5).await.expect("read");
        assert_eq!(part.to_vec(), data[MIN_PART - 5..MIN_PART + 5]);

        for number in 0..2345 {
            operator.write(&format!("many/{number:04}"), "x").await.expect("write");
        }
        let listed: Vec<_> =
            operator.lister_with("many/").recursive(true).await.expect("list").try_collect().await.expect("list");
        assert_eq!(listed.len(), 2345);
        assert!(listed.is_sorted_by(|a, b| a.path() < b.path()));
        assert_eq!(s3.requests()["ListObjectsV2"], 3);
        assert_eq!(s3.bytes_written(), data.len() as u64 + 2345);
    });
}

#[test]
fn when_many_create_one_key_one_wins() {
    let s3 = S3::start();
    let operator = client(&s3, SECRET_KEY);
    let outcomes = RUNTIME.block_on(async {
        let create = |number: usize| {
            let operator = operator.clone();
            async move { operator.write_with("key", number.to_string()).if_not_exists(true).await }
        };
        futures::future::join_all((0..16).map(create)).await
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| error.kind() == ErrorKind::ConditionNotMatch)
    );
}

#[test]
fn a_wrong_secret_is_refused() {
    let s3 = S3::start();
    let operator = client(&s3, "another");
    let error = RUNTIME.block_on(operator.write("key", "x")).expect_err("a wrong secret");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(s3.objects("bucket").is_empty());
}

#[test]
fn faults_come_as_they_were_ordered() {
    let s3 = S3::start();
    let operator = client(&s3, SECRET_KEY);
    RUNTIME.block_on(async {
        operator.write("key", unique(1000)).await.expect("write");
        s3.fail(|operation, key| (operation == "PutObject" && key == "refused").then_some(Fault::Status(503)));
        operator.write("refused", "x").await.expect_err("refused");
        operator.write("other", "x").await.expect("another key is well");
        s3.fail(|operation, _| (operation == "PutObject").then_some(Fault::Lost));
        operator.write("lost", "x").await.expect_err("its answer is lost");
        s3.fail(|operation, _| (operation == "GetObject").then_some(Fault::Cut));
        operator.read("key").await.expect_err("cut");
        s3.fail(|_, _| Some(Fault::Stall));
        let stalled = tokio::time::timeout(std::time::Duration::from_millis(300), operator.read("key")).await;
        assert!(stalled.is_err(), "it stalls");
        s3.heal();
        assert_eq!(operator.read("key").await.expect("read").len(), 1000);
    });
    let keys: Vec<_> = s3.objects("bucket").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["key", "lost", "other"], "what was lost was done, what was refused was not");
}
