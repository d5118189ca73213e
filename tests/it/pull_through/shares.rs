//! The shares of clients and upstreams in what a cache asks for.

use std::time::{Duration, Instant};

use super::{Cached, cache_header, refusals};
use crate::support::client::{Connection, Request};
use crate::support::content::{Image, sha256};
use crate::support::server::{Backend, Server};

/// Sends a request whose answer nobody reads yet.
fn begin(server: &Server, target: &str) -> Connection {
    let mut connection = server.client().connect().unwrap();
    connection.write_request(&Request::get(target)).unwrap();
    connection
}

/// Waits until a metric has a value.
fn until(server: &Server, metric: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let metrics = String::from_utf8(server.client().send(Request::get("/metrics")).expect(200).body).unwrap();
        if metrics.lines().any(|line| line == metric) {
            return;
        }
        assert!(Instant::now() < deadline, "{metric}\n{metrics}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_cached_manifest_comes_while_every_transfer_waits_for_a_silent_upstream() {
    let silent = refusals::cache("slow", refusals::upstream(""), "");
    let both = Cached::start_with(Backend::Directory, &format!("max_concurrent_transfers = 1\n{silent}"));
    let digest = both.there().push_image("v1", &Image::new(&[10]));
    both.here().get_manifest("v1").expect(200);
    let _waiting = begin(&both.cache, "/v2/slow/app/manifests/v1");
    until(&both.cache, "simple_registry_transfers_in_flight 1");
    assert_eq!(cache_header(&both.here().get_manifest(&digest).expect(200)), "hit");
    // a question about a tag still takes a place
    both.here().get_manifest("v1").expect_error(503, "TOOMANYREQUESTS");
}

#[test]
fn a_client_with_too_many_downloads_gets_429_until_they_end() {
    let server = Server::start_plain(Backend::Directory, &refusals::cache("slow", refusals::upstream(""), ""));
    let target = |number: usize| format!("/v2/slow/app/blobs/{}", sha256(number.to_string().as_bytes()));
    let waiting: Vec<_> = (0..256).map(|number| begin(&server, &target(number))).collect();
    until(&server, "simple_registry_transfers_in_flight 256");
    let refused = server.client().send(Request::get(target(256)));
    assert!(refused.required("retry-after").parse::<u64>().unwrap() > 0);
    let errors = refused.expect_error(429, "TOOMANYREQUESTS");
    assert!(errors[0]["message"].as_str().unwrap().contains("too many downloads"), "{errors:?}");
    until(&server, "simple_registry_requests_rejected_total{reason=\"too-many-downloads\"} 1");
    drop(waiting);
}
